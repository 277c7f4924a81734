"""A researcher's own step: one file outside the repository, through registry, evaluation, curves and explanation; and every
way in which such a file can be wrong is one sentence with file and line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.curves import curves, settings_for
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.why import explain
from analysis.retrieval.interventions import BASE, KINDS, load_named_plugins, load_plugin, parse
from analysis.retrieval.interventions import registry as module
from tests.retrieval.planted import unit, world

HEAD = """from dataclasses import dataclass
import numpy as np
from analysis.retrieval.interventions import Affine, MapsRows, number


"""
DAMP = (
    HEAD
    + '''@dataclass(frozen=True)
class Damp(MapsRows):
    """Keep a share of every embedding's part along the candidates' mean."""

    name = "damp"
    title = "Damp the mean direction"
    help = "Scale every embedding along the mean of the candidates."
    kept: float = number(0.5, low=0, high=1, label="Kept share", values=(0, 0.25, 0.5, 0.75, 1), axis="kept share")

    def fit(self, context):
        mean = context.candidates.live.mean(axis=0)
        mean = mean / np.linalg.norm(mean)
        change = Affine(np.eye(len(mean)) - (1 - self.kept) * np.outer(mean, mean))
        return change, change
'''
)


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """What a test registers is gone afterwards."""
    monkeypatch.setattr(module, "_loaded", {})
    known = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(known)
    parse.cache_clear()


def write(folder: Path, text: str, name: str = "my_step.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_step_of_ones_own_is_evaluated_curved_and_explained(tmp_path):
    assert load_plugin(write(tmp_path, DAMP)) == ("damp",)
    space = world(captions=2).space
    lab, method = Lab(space), parse("damp:kept=0.25")
    assert method.spec == "damp:kept=0.25"
    assert "Damp" in method.label
    mean = unit(space.rows("candidates", "mean").astype(np.float64)).mean(axis=0)
    direction = mean / np.linalg.norm(mean)
    rows = unit(space.rows("queries", "mean").astype(np.float64))
    expected = unit(rows - 0.75 * np.outer(rows @ direction, direction))
    assert np.allclose(lab.fitted(method).queries, expected, atol=1e-9)
    assert "kept" in settings_for(method)
    assert curves(lab, "kept", method, ks=(1,)).axis == "kept share"
    pair = explain(lab, Comparison(lab.lists(BASE), lab.lists(method), space.qrels, 3), "after", method).target
    assert pair.contribution.sum() + pair.shift + pair.unexplained == pytest.approx(pair.similarity, abs=1e-9)
    with pytest.raises(RetrievalError, match="fit_moments"):  # it says nothing of blocks: one clear sentence
        Lab(space_of_a_large_task(space), memory=0).measure(method)


def space_of_a_large_task(space):
    from dataclasses import replace

    return replace(space, read_rows=lambda side, variant, at: space.rows(side, variant)[at])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:\n    pass\n", r"my_step.py, line 1: .*SyntaxError"),
        ("import numpy\nimport no_such_module_anywhere\n", r"my_step.py, line 2: .*no_such_module_anywhere"),
        ("x = 1\n", "defines no step"),
        (DAMP.replace('    name = "damp"\n', ""), r"my_step.py, line \d+: The step Damp has the name ''"),
        (DAMP.replace('"damp"', '"removal"'), r"line \d+: The step Damp has the name 'removal', which is taken"),
        (DAMP.replace('"damp"', '"Damp it!"'), "small letters"),
        (DAMP.replace("@dataclass(frozen=True)\n", ""), "expected @dataclass"),
        (DAMP.replace("(frozen=True)", ""), "expected @dataclass"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line_and_the_rest_goes_on(tmp_path, monkeypatch, text, message):
    path = write(tmp_path, text)
    with pytest.raises(RetrievalError, match=message):
        load_plugin(path)
    good = write(tmp_path, DAMP.replace('"damp"', '"damp_two"'), "good.py")
    monkeypatch.setenv("RETRIEVALLENS_PLUGINS", os.pathsep.join(map(str, (path, good))))
    problems = load_named_plugins()
    assert len(problems) == 1
    assert "my_step.py" in problems[0]
    assert parse("damp_two").steps


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return Affine(np.eye(32))", "expected a pair of transforms"),
        ("return None", "expected a pair of transforms"),
        ("change = Affine(np.eye(7)); return change, change", r"'damp' failed: .*my_step.py|'damp' failed"),
        ("change = Affine(np.full((32, 32), np.nan)); return change, change", "NaN"),
        ("raise KeyError('gone')", r"'damp' failed: 'gone' \(KeyError at .*my_step.py, line \d+\)"),
    ],
)
def test_a_fit_that_goes_wrong_is_one_sentence(tmp_path, body, message):
    start = DAMP.index("        mean = context")
    load_plugin(write(tmp_path, DAMP[:start] + f"        {body}\n"))
    lab = Lab(world().space)
    with pytest.raises(RetrievalError, match=message):
        lab.measure(parse("damp"))
    assert lab.measure(BASE).ranks  # the others have their answers


def test_a_file_that_is_not_there_is_said():
    with pytest.raises(RetrievalError, match="no Python file"):
        load_plugin("nowhere/my_step.py")
