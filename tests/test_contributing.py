"""What CONTRIBUTING.md shows works as it stands: each block is taken out of the page and run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from analysis.cli import main
from analysis.concepts.scores import SCORES, removal_ends
from analysis.retrieval.interventions import KINDS, parse
from analysis.retrieval.interventions import registry as registry_module
from analysis.retrieval.interventions.concept_sets import concept_ids
from analysis.store import open_store
from tests.pages.opening import open_page, sentences, words
from tests.synthetic_store import make_store

ROOT = Path(__file__).resolve().parents[1]


def block(name: str) -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.search(rf"^```python {re.escape(name)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    make_store(folder, backbone="qwen2-vl-mini")
    return folder


@pytest.fixture
def own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The step of the page as a file, unknown before and forgotten afterwards."""
    monkeypatch.setattr(registry_module, "_loaded", {})
    known = dict(KINDS)
    path = tmp_path / "my_step.py"
    path.write_text(block("my_step.py"), encoding="utf-8")
    yield path
    KINDS.clear()
    KINDS.update(known)
    parse.cache_clear()


def test_the_step_is_measured_by_a_command_and_shown_in_the_lab_and_on_the_live_page(
    cache: Path, own_step: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = next((cache / "qwen2-vl-mini").iterdir())
    given = ["retrieve", str(store), "--task", "i2t", "--plugin", str(own_step), "--method", "damp:kept=0.25"]
    done = CliRunner().invoke(main, [*given, "--json"])
    assert done.exit_code == 0, done.output
    rows = [row for row in json.loads(done.output)["rows"] if row["spec"] == "damp:kept=0.25"]
    curve = CliRunner().invoke(main, [*given, "--curve", "kept", "--k", "5", "--json"])
    points = next(iter(json.loads(curve.output).values()))
    assert next(p["recall"] for p in points if p["x"] == 0.25) == next(r["recall"] for r in rows if r["k"] == 5)

    monkeypatch.setenv("RETRIEVALLENS_PLUGINS", str(own_step))
    app = open_page("retrieval_lab", cache, monkeypatch, task="i2t", method="damp:kept=0.25")
    assert sentences(app) == []
    shown = app.dataframe[0].value.set_index("method")
    label = parse("damp:kept=0.25").label
    assert shown.loc[label, "R@5"].startswith(f"{100 * next(r['recall'] for r in rows if r['k'] == 5):.1f} ")
    assert next(slider for slider in app.select_slider if slider.label == "Kept share").value == 0.25
    live = open_page("live_query", cache, monkeypatch, task="i2t", source="data", method="damp:kept=0.25")
    assert sentences(live) == []
    assert "Damp the mean direction" in words(live)


@pytest.fixture
def own_score() -> Iterator[str]:
    """The score of the page in the table of scores, forgotten afterwards."""
    known = dict(SCORES)
    exec(compile(block("my_score.py"), "my_score.py", "exec"), {})
    yield "active_share"
    SCORES.clear()
    SCORES.update(known)
    parse.cache_clear()


def test_the_score_appears_wherever_scores_do(
    cache: Path, own_score: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cache, tmp_path / "cache")  # a store from before the score was known
    tmp_path /= "cache"
    path = next((tmp_path / "qwen2-vl-mini").iterdir())
    done = CliRunner().invoke(main, ["rescore", str(path)])
    assert done.exit_code == 0, done.output
    store = open_store(path)
    expected = (store.codes.to_csr().toarray() > 0).mean(axis=0)
    np.testing.assert_allclose(store.concepts[own_score], expected, rtol=1e-6)

    live = store.concepts["energy"].to_numpy() > 0
    table = open_page("concepts", tmp_path, monkeypatch, sort="active share").dataframe[0].value
    np.testing.assert_allclose(table[own_score], 100 * np.sort(expected[live])[::-1][:50], rtol=1e-6)  # column and sort

    kept = open_page("concepts", tmp_path, monkeypatch, by="active share", percentile=["90", "100"]).dataframe[0].value
    assert 0 < len(kept) < live.sum() / 5
    assert expected[kept["id"]].min() >= np.quantile(expected[live], 0.85)  # filter

    histogram = open_page("concepts", tmp_path, monkeypatch, view="histogram", score="active share")
    assert "active share" in str(drawn(histogram)["layout"]["xaxis"]["title"])
    coloured = open_page("concepts", tmp_path, monkeypatch, view="map", color="active share")
    assert any("active share" in str(trace.get("marker")) for trace in drawn(coloured)["data"])

    lines = open_page("concept", tmp_path, monkeypatch, concept="3").table[0].value
    assert lines.loc["active share", "value"] == f"{100 * expected[3]:.1f}\N{NO-BREAK SPACE}%"
    assert "The share of all samples" in lines.loc["active share", "what it says"]

    assert own_score in removal_ends()
    removed = parse(f"removal:{own_score},share=0.1")
    assert removed.label == "removal by active share, top 10 %"
    columns = {own_score: store.concepts[own_score].to_numpy(), "energy": store.concepts["energy"].to_numpy()}
    taken = concept_ids(removed.steps[0], columns.__getitem__)
    assert set(expected[taken]) >= set(np.sort(expected)[::-1][: len(taken)])


def drawn(app: AppTest) -> dict[str, Any]:
    """The first Plotly figure of a page."""
    return json.loads(app.get("plotly_chart")[0].proto.spec)


def test_the_page_runs(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(cache))
    monkeypatch.chdir(ROOT)
    page = tmp_path / "hello.py"
    page.write_text(block("pages/hello.py"), encoding="utf-8")
    app = AppTest.from_file(str(page), default_timeout=60).run()
    assert not app.exception
    assert "concepts" in app.metric[0].value
