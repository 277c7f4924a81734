"""The command and the script of a view print the ranking that the library computes: both are run and compared."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.cli.querying import query as query_command
from analysis.cli.querying import run_query
from analysis.models.backbones import Backbone
from analysis.query.masks import parse_mask
from analysis.query.query import embed_query
from analysis.query.reproduce import LiveView, command_for, python_for, why_command_for
from analysis.retrieval.evaluation.comparison import Place, compare
from analysis.retrieval.interventions import parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.task import space_from_store
from analysis.store import Store
from tests.query.live_store import picture

ROOT = Path(__file__).parents[2]
TEXT = 'it\'s a "dog" & $HOME'


@pytest.fixture(scope="module")
def view(stores: dict[str, Store], tmp_path_factory: pytest.TempPathFactory) -> LiveView:
    file = tmp_path_factory.mktemp("pictures") / "my picture.png"
    file.write_bytes(picture(6))
    return LiveView(
        str(stores["qwen2_vl"].path), "i2t", str(file), TEXT, mask="instruction,3-5",
        method="removal:attribution,share=0.1+realign:alpha=0.3", top=6,
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(view: LiveView, stores: dict[str, Store], mllm: Backbone) -> list[Place]:
    query = embed_query(mllm, picture=picture(6), text=TEXT, task="i2t")
    space = space_from_store(stores["qwen2_vl"], "i2t")
    found = compare(
        fit(parse("base"), space),
        fit(parse(view.method), space),
        query.embedding(),
        query.embedding(parse_mask(view.mask)),
    )
    return found.places("after", view.top)


def ids(stores: dict[str, Store], places: list[Place]) -> list[str]:
    store = stores["qwen2_vl"]
    rows = store.task("i2t").candidate_rows
    return [str(store.samples["sample_id"].iat[int(rows[place.candidate])]) for place in places]


def test_the_command_prints_the_ranking(view: LiveView, expected: list[Place], stores: dict[str, Store]) -> None:
    words = shlex.split(command_for(view))
    assert words[:4] == [".venv/bin/python", "-m", "analysis", "query"]
    done = CliRunner().invoke(query_command, [*words[4:], "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.output)["candidates"]
    assert [row["sample_id"] for row in rows] == ids(stores, expected)
    assert [row["rank_before"] for row in rows] == [place.other_rank for place in expected]
    assert [row["similarity"] for row in rows] == pytest.approx([place.similarity for place in expected], abs=1e-4)


def test_the_script_prints_the_ranking(view: LiveView, expected: list[Place], stores: dict[str, Store]) -> None:
    assert _here(python_for(view)) == ids(stores, expected)


@pytest.mark.parametrize("how", ["command", "script"])
def test_the_queries_side_of_the_pool_step_is_the_mask_it_names(
    view: LiveView, stores: dict[str, Store], how: str
) -> None:
    def ranked(mask: str, method: str) -> list[str]:
        asked = replace(view, text="", mask=mask, method=method)
        if how == "script":
            return _here(python_for(asked))
        done = CliRunner().invoke(query_command, [*shlex.split(command_for(asked))[4:], "--json"])
        assert done.exit_code == 0, done.output
        return [row["sample_id"] for row in json.loads(done.output)["candidates"]]

    by_mask, by_pool = ranked("image", "realign"), ranked("", "pool:queries=mean_no_image+realign")
    assert by_mask == by_pool
    assert by_mask != ranked("", "realign")


@pytest.mark.parametrize(("side", "place"), [("before", 2), ("after", 4)])
def test_the_command_that_explains_a_place_splits_the_similarities_that_the_list_prints(
    view: LiveView, side: str, place: int
) -> None:
    done = CliRunner().invoke(query_command, [*shlex.split(why_command_for(view, side, place))[4:], "--json"])
    assert done.exit_code == 0, done.output
    pairs, rows = json.loads(done.output).values()
    asked = view if side == "after" else replace(view, mask="", method="base")
    listed = CliRunner().invoke(query_command, [*shlex.split(command_for(asked))[4:], "--json"])
    candidates = json.loads(listed.output)["candidates"]
    for pair, candidate, column in zip(pairs, (candidates[place - 1], candidates[0]), ("target", "rival"), strict=True):
        assert pair["sample_id"] == candidate["sample_id"]
        assert pair["similarity"] == pytest.approx(candidate["similarity"], abs=2e-6)
        assert sum(row[column] for row in rows) == pytest.approx(pair["similarity"], abs=1e-9)
    assert [pair["candidate"] for pair in pairs] == [f"number {place}", "number 1"]


def test_a_cached_query_is_reproduced_without_a_model(stores: dict[str, Store]) -> None:
    store = stores["qwen2_vl"]
    view = LiveView(str(store.path), "i2t", query=4, method="pool:mean_no_image", top=5)
    assert (
        command_for(view)
        == f".venv/bin/python -m analysis retrieve {store.path} --task i2t --query 4 --top 5 --method pool:mean_no_image"
    )
    space = space_from_store(store, "i2t")
    base, changed = fit(parse("base"), space), fit(parse(view.method), space)
    found = compare(base, changed, space.rows("queries", "mean")[4], space.rows("queries", "mean_no_image")[4])
    assert _run(python_for(view)) == ids(stores, found.places("after", 5))


def test_the_text_form_names_the_rank_before_and_what_was_done(view: LiveView, expected: list[Place]) -> None:
    text = run_query(
        Path(view.store), "i2t", image=Path(view.picture), text=TEXT, mask=view.mask, method=view.method, device="cpu",
        dtype="float32", top=3,
    )  # fmt: skip
    assert "w/o instruction, 3 tokens masked, removal by attribution" in text
    *said, first, _, _ = text.splitlines()
    assert f"({expected[0].other_rank})" in first
    assert "on unmasked queries: the store holds none with this mask" in "\n".join(said)


def _here(script: str) -> list[str]:
    """Sample ids that a script prints in this process: a new one takes seconds to import torch."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(script, "script", "exec"), {})
    return _sample_ids(said.getvalue())


def _run(script: str) -> list[str]:
    """Sample ids that a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "TRANSFORMERS_VERBOSITY": "error"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return _sample_ids(done.stdout)


def _sample_ids(printed: str) -> list[str]:
    return [line.split()[2] for line in printed.splitlines()]
