"""A pin under every figure: what it keeps is what stood on screen, with its data and command; a picture only with a tick."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from analysis.store import notebook, open_store
from analysis.store.finding import Figure, Lists, store_digest
from tests.pages.opening import open_page, words
from tests.synthetic_store import make_store


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    make_store(folder)
    return folder


def pins(app: AppTest) -> list:
    return [button for button in app.button if button.label == "Pin" and str(button.key).startswith("pin_")]


@pytest.mark.parametrize(
    "name", ["overview", "concepts", "concept", "bridges", "compare", "retrieval_lab", "reproduce", "stores"]
)
def test_there_are_as_many_pins_as_figures_and_more(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(name, cache, monkeypatch, **({"view": "map"} if name == "concepts" else {}))
    assert len(pins(app)) > len(app.get("plotly_chart"))
    assert len({button.key for button in pins(app)}) == len(pins(app))


@pytest.mark.parametrize("page", ["bridges", "concept", "retrieval_lab", "overview"])
def test_a_caption_names_its_data_once(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(make_store(tmp_path))
    app = open_page(page, tmp_path, monkeypatch)
    pins(app)[-1].click().run()
    app.button(key="pin_keep").click().run()
    (card,) = notebook.findings(tmp_path / "notes")
    assert card.caption.count(store.caption.split(",")[0]) == 1


def test_a_pinned_figure_is_the_one_on_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_store(tmp_path)
    store = open_store(path)
    app = open_page("overview", tmp_path, monkeypatch)
    seen, said = json.loads(app.get("plotly_chart")[0].proto.spec), words(app)
    app.button(key="pin_modality-scores").click().run()
    app.text_input(key="_pin_tags").set_value("hubs, for Monday ,hubs")
    app.button(key="pin_keep").click().run()
    assert not app.exception
    (card,) = notebook.findings(tmp_path / "notes")
    one = notebook.finding(tmp_path / "notes", card.id)
    (part,) = one.parts
    assert isinstance(part, Figure)
    assert json.loads(part.plotly)["data"] == seen["data"]
    assert one.tags == ("hubs", "for Monday")
    assert one.sentence
    assert one.sentence in said.replace("**", "")
    assert one.stores == {f"{path.parent.name}/{path.name}": store_digest(store)}
    assert one.caption.count(store.caption.split(",")[0]) == 1  # the figure's caption says it already
    assert one.command in said
    score = store.concepts["modality_score"].to_numpy()
    live = score[score == score]
    assert one.facts["live concepts with a score from 0.65 (%)"] == pytest.approx(100 * (live >= 0.65).mean(), abs=1e-4)
    assert one.collection == "Group meeting"


def on_one_pin() -> None:
    """A page with the pin of a query that somebody uploaded."""
    import base64
    import io

    from PIL import Image

    from analysis.store.finding import Lists
    from pages.components.shared import pins

    out = io.BytesIO()
    Image.new("RGB", (1600, 900), "teal").save(out, "PNG")
    shown = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    pins.button("query", pins.Pin(lambda: (Lists((), "a query", shown),), title="A live query", picture=out.getvalue()))


@pytest.mark.parametrize("ticked", [False, True])
def test_an_uploaded_picture_is_kept_only_with_a_tick(
    ticked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(tmp_path))
    app = AppTest.from_function(on_one_pin, default_timeout=60).run()
    app.button(key="pin_query").click().run()
    assert app.checkbox(key="_pin_picture").value is False
    if ticked:
        app.checkbox(key="_pin_picture").check()
    app.button(key="pin_keep").click().run()
    assert not app.exception
    (card,) = notebook.findings(tmp_path / "notes")
    one = notebook.finding(tmp_path / "notes", card.id)
    (lists,) = one.parts
    assert isinstance(lists, Lists)
    assert bool(lists.query_picture) == bool(one.picture) == ticked
    if ticked:
        image = Image.open(io.BytesIO(one.picture))
        assert image.format == "JPEG"
        assert max(image.size) == 1024


def on_a_huge_upload() -> None:
    from analysis.store.finding import UPLOAD_BYTES
    from pages.components.shared import pins

    pins.button("query", pins.Pin(title="A live query", picture=b"x" * (UPLOAD_BYTES + 1)))


def test_a_picture_over_the_limit_is_refused_in_one_sentence_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(tmp_path))
    app = AppTest.from_function(on_a_huge_upload, default_timeout=60).run()
    app.button(key="pin_query").click().run()
    app.checkbox(key="_pin_picture").check()
    app.button(key="pin_keep").click().run()
    assert not app.exception
    said = app.session_state["_pin_problem"]
    assert "30,000,001 bytes" in said
    assert said.endswith("make it smaller.")
    assert notebook.findings(tmp_path / "notes") == []


def test_what_cannot_be_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(tmp_path))
    monkeypatch.setenv("RETRIEVALLENS_NOTES", f"sqlite:///{tmp_path}")  # a folder is no database
    app = AppTest.from_function(on_one_pin, default_timeout=60).run()
    app.button(key="pin_query").click().run()
    app.button(key="pin_keep").click().run()
    assert not app.exception
    assert "could not be kept" in app.session_state["_pin_problem"]
