"""The stage, the page of published numbers, and bare views."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from analysis.report.published import published
from analysis.report.reproduce import OTHER, reproduction_table
from analysis.store import notebook, open_store
from analysis.store.finding import Finding, Table
from tests.pages.opening import open_page, words
from tests.synthetic_store import make_store


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    make_store(tmp_path)
    return tmp_path


def on_stage(app: AppTest) -> dict:
    """What the stage was given."""
    (component,) = app.get("bidi_component")
    return json.loads(component.proto.json)


def test_a_slide_a_finding_each_with_its_live_view(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = Table(("n",), tuple((i,) for i in range(12)))
    kept = [
        notebook.add_finding(
            cache / "notes", Finding("concept", "a", {"store": ["x/y"], "concept": ["3"]}, collection="talk")
        ),
        notebook.add_finding(cache / "notes", Finding("gone", "b", {}, collection="talk", parts=(long,))),
    ]
    data = on_stage(open_page("present", cache, monkeypatch, collection="talk", finding=kept[1].id))
    assert data["start"] == 2
    address = "concept?store=x/y&concept=3&bare=1&embed=true&embed_options=light_theme"
    assert data["live"] == ["", address, "", ""]
    assert data["html"].count("<section>") == 4


def test_the_stage_without_findings_leads_back(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("present", cache, monkeypatch, collection="none")
    assert "holds no finding" in words(app)
    assert not app.get("bidi_component")


def test_published_and_measured_are_two_columns_of_every_table(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("reproduce", cache, monkeypatch)
    store = open_store(next(cache.glob("clip-mini/*")))
    table = reproduction_table(store=store)
    shown = [frame.value for frame in app.dataframe]
    assert len(shown) == 3
    for name, frame in zip(("table1", "table2", "table3"), shown, strict=True):
        printed = published(name)["value"].to_numpy()
        assert np.allclose(frame["published"].astype(float), printed, atol=0.06 if name != "table1" else 0.0006)
        mine = table[table["table"] == name]
        known = mine["measured"].notna().to_numpy()
        assert (frame["measured here"].to_numpy()[~known] == "–").all()
        measured = frame["measured here"][known].astype(float)
        assert np.allclose(measured, mine["measured"][known], atol=0.06 if name != "table1" else 0.0006)
        assert frame["state"].tolist() == [state.removeprefix(f"{OTHER}: ") for state in mine["state"]]
    assert shown[0]["measured here"].ne("–").all()
    assert {made.proto.label for made in app.get("download_button")} >= {"Markdown", "CSV", "LaTeX"}


@pytest.mark.parametrize(
    "name", ["overview", "concepts", "concept", "bridges", "compare", "retrieval_lab", "reproduce", "stores"]
)
def test_a_bare_view_has_no_title_no_controls_no_pins(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(name, cache, monkeypatch, bare="1")
    assert not app.error
    assert not app.title
    assert not any(box.key in ("_pick_store", "_pick_stores") for box in (*app.selectbox, *app.pills))
    assert not any(button.label == "Pin" for button in app.button)
    assert app.get("plotly_chart") or app.dataframe or app.table


def test_a_bare_view_shows_what_its_link_says(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(cache, backbone="qwen2-vl-mini", seed=3)
    app = open_page("concept", cache, monkeypatch, bare="1", store="qwen2-vl-mini", concept="2")
    assert "qwen2-vl-mini" in words(app)
    app.run()
    assert not app.title
    assert app.query_params["store"] in ("qwen2-vl-mini", ["qwen2-vl-mini"])
