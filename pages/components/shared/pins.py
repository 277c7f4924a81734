"""The pin under every figure, table and list: what is on screen becomes a finding, frozen as data, with what leads back to
it. The one way in which pages write findings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.errors import AnalysisError
from analysis.figures.style import caption_of
from analysis.store import Store, StoreRef
from analysis.store.finding import Finding, Lists, Part, downscaled, figure_part, store_digest, table_part
from analysis.store.notebook import MAX_NOTE, add_finding, collections
from analysis.store.read import data_of
from pages.components.server import limits
from pages.components.shared import caching, gallery, state
from pages.components.shared.errors import guard

FIRST_COLLECTION = "Group meeting"
TABLE_ROWS = 200
CONSENT = "Keep my picture with the finding"
_HERE, _LAST = "_pin_here", "_pin_last"


@dataclass(frozen=True)
class Pin:
    """What a pin keeps of something on screen.

    parts: made when it is pressed; of a figure what stands below it, of a table what is kept instead of it. sentence:
    computed, becomes the title of the slide. measure: how its numbers are measured again, see analysis.report.live. stores:
    those that it was computed from, by default those of the page. params: of the address, beside those of the view.
    picture: what the visitor uploaded, kept only with a tick.
    """

    parts: Callable[[], Sequence[Part]] = tuple
    title: str = ""
    sentence: str = ""
    caption: str = ""
    command: str = ""
    python: str = ""
    measure: Mapping[str, Any] = field(default_factory=dict)
    stores: Sequence[Store] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)  # where there is no measure
    picture: bytes | None = None


@dataclass
class _Here:
    """What the page in view is made of, and what may be pinned on it."""

    page: str
    stores: list[Store]
    offered: dict[str, Pin]


def in_view(stores: Sequence[Store]) -> None:
    """The stores of the page: what its pins are computed from unless they say otherwise."""
    st.session_state[_HERE] = _Here(state.page_in_view(), list(stores), {})


def measure(what: str, stores: Sequence[Store], **settings: Any) -> dict[str, Any]:
    """How numbers of some stores are measured again, see analysis.report.live.MEASURES."""
    named = {"stores": [caching.store_id(store) for store in stores], "names": caching.short_names(list(stores))}
    return {"what": what, **named, **settings}


def figure(
    chart: go.Figure,
    pin: Pin | None,
    *,
    title: str = "",
    command: str = "",
    on_slide: Callable[[], go.Figure] | None = None,
) -> Pin:
    """The pin of a chart: what the page says about it, completed by the chart, or by what stands on a slide instead."""
    pin = pin or Pin()
    own = dataclasses.replace(
        pin, caption=pin.caption or caption_of(chart), command=pin.command or command, title=pin.title or title
    )
    return dataclasses.replace(own, parts=lambda: (figure_part(on_slide() if on_slide else chart), *pin.parts()))


def table(rows: Callable[[], pd.DataFrame], pin: Pin | None = None, *, title: str = "", command: str = "") -> Pin:
    """The pin of a table; pictures in its cells are left out."""
    pin = pin or Pin()
    own = dataclasses.replace(pin, command=pin.command or command, title=pin.title or title)
    return dataclasses.replace(own, parts=lambda: tuple(pin.parts()) or (_plain_table(rows()),))


def button(name: str, pin: Pin) -> None:
    """The small button. name: tells it apart on its page."""
    _here().offered[name] = pin
    if state.bare():
        return
    if st.button(
        "Pin", key=f"pin_{name}", icon=":material/keep:", type="tertiary", help="Keep it as a finding, to present it"
    ):
        _open(pin)


def still(pin: Pin) -> Callable[[], Finding]:
    """What a picture of it shows; made when it is asked for, when this visit may not be at hand any more."""
    stores, page = list(pin.stores or _here().stores), state.page_in_view()

    def made() -> Finding:
        parts = tuple(pin.parts())
        return Finding(
            page, plain(pin.title), {}, sentence=plain(pin.sentence), caption=_caption(pin, stores), parts=parts
        )  # fmt: skip

    return made


def whole_view(title: str, command: str, facts: Mapping[str, Any]) -> None:
    """The button at the end of the controls: the view under its own title, with the first picture or table on it."""
    if st.button(
        "Pin", key="pin_this_view", icon=":material/keep:", type="tertiary", help="Keep this view as a finding"
    ):
        offered = list(_here().offered.values())
        first = offered[0] if offered else Pin()
        _open(dataclasses.replace(first, title=title, command=command or first.command, facts={**facts, **first.facts}))


class PageSources:
    """Stores and rankings from the caches of the app, see analysis.report.live.Sources."""

    def refs(self) -> list[StoreRef]:
        return caching.stores()

    def open(self, ref: StoreRef) -> Store:
        return caching.open_ref(ref)

    def measured(self, store: Store, task: str, method: Any, pool: str) -> Any:
        return caching.measured(store, task, method, pool)


def _here() -> _Here:
    found = st.session_state.get(_HERE)
    if found is None or found.page != state.page_in_view():
        found = st.session_state[_HERE] = _Here(state.page_in_view(), [], {})
    return found


def _frozen(pin: Pin) -> Finding:
    """What is on screen now, as data."""
    from analysis.report.live import facts_of

    page = state.page_in_view()
    stores = list(pin.stores or _here().stores)
    params = state.view_params(page) if page else {}
    params |= {name: [str(value)] for name, value in pin.params.items() if value is not None}
    return Finding(
        page, plain(pin.title), params, command=pin.command, sentence=plain(pin.sentence), python=pin.python,
        facts=facts_of(pin.measure, PageSources()) if pin.measure else dict(pin.facts), caption=_caption(pin, stores),
        stores={caching.store_id(store): store_digest(store) for store in stores}, parts=tuple(pin.parts()),
        measure=dict(pin.measure),
    )  # fmt: skip


def _caption(pin: Pin, stores: Sequence[Store]) -> str:
    """Data, split, N and model stand in every caption, and the demo label where it belongs."""
    from analysis.report.standard_deck import demo_sentence

    words = plain(pin.caption)
    if not stores:
        return words
    note = demo_sentence(stores)
    if data_of(stores) not in words:
        words = " ".join(filter(None, (words, f"{data_of(stores)}.")))
    return f"{words.rstrip('.')}. {note}" if note and note.rstrip(".").lower() not in words.lower() else words


def _open(pin: Pin) -> None:
    """Freeze it and ask for the words that go with it."""
    with guard("The pin", stop=False):
        finding = _frozen(pin)
        known = [one.name for one in collections(caching.notes_dir())]
        last = st.session_state.get(_LAST) or (known[0] if known else FIRST_COLLECTION)
        given = {"title": finding.headline, "collection": last, "author": st.session_state.get("_author", "")}
        for name, value in {**given, "note": "", "tags": "", "picture": False}.items():
            st.session_state[f"_pin_{name}"] = value
        _ask(finding, pin.picture, list(dict.fromkeys([last, *known])))


@st.dialog("Pin as a finding", icon=":material/keep:", width="medium")
def _ask(finding: Finding, picture: bytes | None, names: list[str]) -> None:
    with st.form("pin", border=False):
        st.text_area("Title of its slide", key="_pin_title", max_chars=500, height=80)
        st.caption(gallery.escape(finding.caption, 600) or "This view keeps its link and command.")
        with st.container(horizontal=True):
            st.selectbox(
                "Collection", names, key="_pin_collection", accept_new_options=True,
                help="Findings that are presented together. Type a name to begin a new one.",
            )  # fmt: skip
            st.text_input("Your name", key="_pin_author", max_chars=80)
        st.text_area(
            "Note", key="_pin_note", max_chars=MAX_NOTE, height=80, placeholder="What should a listener take from it?"
        )
        st.text_input("Tags", key="_pin_tags", max_chars=1000, placeholder="Words, with commas between")
        if picture is not None:
            st.checkbox(
                CONSENT, key="_pin_picture",
                help="Downscaled to 1,024 pixels and without its metadata; everyone who can read these notes sees it. Without "
                "this tick the picture is left out.",
            )  # fmt: skip
        if st.form_submit_button(
            "Pin", key="pin_keep", icon=":material/keep:", on_click=_keep, args=(finding, picture)
        ):
            problem = st.session_state.pop("_pin_problem", "")
            if not problem:
                state.say_next(f"Pinned to “{gallery.escape(st.session_state[_LAST], 60)}”. The page Findings has it.")
                st.rerun()
            st.error(problem, icon=":material/error:")


def _keep(finding: Finding, picture: bytes | None) -> None:
    """Write the finding with what was said of it; what stands in the way is said in the dialog."""
    title, collection, author, note, tags = (
        st.session_state[f"_pin_{name}"] for name in ("title", "collection", "author", "note", "tags")
    )
    st.session_state["_author"], st.session_state[_LAST] = author, collection or FIRST_COLLECTION
    changed = " ".join(title.split()) != " ".join(finding.headline.split())
    whole = dataclasses.replace(
        finding, title=title, sentence="" if changed else finding.sentence, note=note, author=author,
        collection=st.session_state[_LAST], tags=tuple(tags.split(",")),
    )  # fmt: skip
    try:
        if picture is not None and st.session_state.get("_pin_picture"):
            whole = dataclasses.replace(whole, picture=downscaled(picture, consent=True))
        elif picture is not None:
            whole = dataclasses.replace(whole, parts=tuple(map(_without_picture, whole.parts)))
        limits.writing()
        add_finding(caching.notes_dir(), whole)
    except AnalysisError as error:
        st.session_state["_pin_problem"] = str(error)


def _without_picture(part: Part) -> Part:
    return dataclasses.replace(part, query_picture="") if isinstance(part, Lists) else part


def _plain_table(rows: pd.DataFrame) -> Part:
    pictures = [
        name for name in rows.columns if rows[name].astype(str).str.startswith("data:image/").any()
    ]  # fmt: skip
    return table_part(rows.drop(columns=pictures).head(TABLE_ROWS))


def plain(words: str) -> str:
    """A sentence of a page without its markdown: escapes, bold, badges and colours."""
    import re

    bare = re.sub(r":[a-z]+(?:-badge)?\[((?:[^\]\\]|\\.)*)\]", r"\1", words)
    bare = bare.replace("**", "").replace("  \n", " ")
    return " ".join(re.sub(r"\\([^\w\s]|_)", r"\1", bare).split())
