"""Nothing foreign speaks through a page: text of links, stores, labels and errors is shown as it was written, whatever
element shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from pages.components.shared import safe, state
from pages.components.shared.state import PAGES
from tests.hostile_store import EVIL, POISON, make_hostile_store, speaks
from tests.pages.opening import open_page

# Fields that a browser shows as plain text or as a picture of this page's own, whatever stands in them.
PLAIN = {
    ("Code", "code_text"), ("Selectbox", "options"), ("MultiSelect", "options"), ("TextInput", "default"),
    ("TextInput", "value"), ("TextArea", "default"), ("TextArea", "value"), ("Image", "alt"), ("PageLink", "query_string"),
    ("Metric", "body"), ("Metric", "delta"), ("PlotlyChart", "alt"), ("DataFrame", "alt"), ("PlotlyChart", "config"),
    ("BidiComponent", "json"), ("MultiSelect", "raw_values"),
    ("Selectbox", "raw_value"), ("Arrow", "alt"), ("PlotlyChart", "id"), ("ImageList", "alt"),
}  # fmt: skip
LINK = sorted(
    {value for name, value in vars(state).items() if name.isupper() and isinstance(value, str) and name[0] != "_"}
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    make_hostile_store(folder, backbone="clip-mini", demo=True, r2=0.1)
    make_hostile_store(folder, backbone="qwen2-vl-mini", tokens=True, seed=3)
    return folder


def strings(message: Message, path: str = "") -> Iterator[tuple[tuple[str, str], str]]:
    """((message, field), text) of every string in a message and those within it."""
    for field, value in message.ListFields():
        several = value if field.is_repeated else [value]
        for one in several:
            if isinstance(one, Message):
                yield from strings(one)
            elif isinstance(one, str):
                yield (message.DESCRIPTOR.name, field.name), one


def shown(node: Any) -> Iterator[tuple[tuple[str, str], str]]:
    """Every text of an app's elements and containers, cells of tables included."""
    if getattr(node, "proto", None) is not None:
        yield from strings(node.proto)
    if node.type in ("table", "arrow_table"):
        frame = node.value.reset_index()
        yield from ((("Table", "cell"), str(cell)) for column in frame for cell in frame[column])
    for child in getattr(node, "children", {}).values():
        yield from shown(child)


def faults(app: Any) -> list[str]:
    found = []
    for place, text in shown(app._tree):
        if EVIL not in text or place in PLAIN:
            continue
        if place == ("PlotlyChart", "spec"):
            spec = json.loads(text)
            spec["layout"].pop("meta", None)  # its caption stands below the figure, the browser draws nothing of it
            wrong = next((tag for tag in ("<img", "<a ") if tag in json.dumps(spec)), "")
        else:
            wrong = speaks(text)
        if wrong:
            found.append(f"{place}: {wrong}")
    return found


VIEWS = {
    "live_query": [
        {"source": "data"},
        {"text": POISON},
        {"source": "data", "method": "removal:concepts=1", "why": "after"},
    ],
    "concept": [{"concept": "0", "show": "true"}, {"concept": "5"}],
    "concepts": [{"view": "map"}, {"words": "dog"}],
    "retrieval_lab": [{"method": "removal:concepts=0+realign", "why": "after"}, {"changed": "moved"}],
}


@pytest.mark.parametrize("name", PAGES)
def test_a_store_full_of_markdown_is_text(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for params in ({}, *VIEWS.get(name, [])):
        for store in ("clip-mini", "qwen2-vl-mini"):
            app = open_page(name, cache, monkeypatch, store=store, **params)
            assert any(EVIL in text for _, text in shown(app._tree)) or name in (
                "findings",
                "present",
            )  # show what was pinned
            assert faults(app) == [], (name, params, store)


@pytest.mark.parametrize("name", PAGES)
def test_a_link_full_of_markdown_is_text(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = dict.fromkeys(LINK, POISON)
    assert faults(open_page(name, cache, monkeypatch, **everything)) == []
    for key in PAGES[name].params:
        assert faults(open_page(name, cache, monkeypatch, **{key: f"{POISON}`{POISON}``"})) == [], key


def test_what_is_escaped_can_be_read() -> None:
    said = safe.sentence("qrels name 12 unknown candidates, first 'c:104'; run `python -m x --y` (see a_b, 3 < 4).")
    assert said == "qrels name 12 unknown candidates, first 'c:104'; run `python -m x --y` (see a_b, 3 \\< 4)."
    assert speaks(POISON)
    assert not speaks(safe.words(POISON))
    assert not speaks(safe.sentence(POISON))
    assert not speaks(safe.sentence(f"`{POISON} ``{POISON}` {POISON}"))
    assert safe.words("x" * 400, 10) == "x" * 10 + "…"
