"""The frame of every page: title, controls row with its three actions, captions, notices, the empty state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from analysis.store import Store, StoreRef
from analysis.store.read import data_of, demo_note_of
from pages.components.shared import caching, commands, pins, safe, state

_COMMAND = "_command_slot"
_LACKS = "_lacks_slot"
_TITLE = "_title_line"
R2_BOUND = 0.8  # below it, a concept of the SAE says little about the embedding it was read from


@dataclass
class Controls:
    """What the actions at the end of a controls row need; the page fills it in as it goes."""

    command: str = ""  # reproduces the numbers of the view
    title: str = ""  # of the finding when the view is pinned
    facts: dict[str, Any] = field(default_factory=dict)  # numbers to keep with a pin
    pinnable: bool = True
    more: Any = None  # container below the row, for a second row of controls: `with row.more: ...`


def header(page: str, question: str, lead: str = "", *, tab: str = "") -> None:
    """The title of a page, which asks its question, and one line below it. tab: what the browser's tab says until the
    controls know better, by default the page's name."""
    state.enter(page)
    st.set_page_config(page_title=tab_title(tab or state.PAGES[page].title))
    st.session_state[_TITLE] = None
    if state.bare():
        return
    st.session_state[_TITLE] = st.container(horizontal=True, vertical_alignment="center", gap="small")
    st.session_state[_TITLE].title(question, anchor=False, width="stretch")
    if lead:
        st.markdown(f":gray[{lead}]")


@contextmanager
def controls(page: str, *, title: str = "") -> Iterator[Controls]:
    """A row of controls below the `header`, whose line then ends with: copy link, copy command, pin. Notices about the URL
    appear below the row.

    with layout.controls("concepts") as row:
        store = pickers.store()
        row.command = commands.concept_row(store, 5)
    """
    _begin_notices()
    bare = st.empty() if state.bare() else None  # the widgets run, and nothing of them is seen
    place = st if bare is None else bare.container()
    line = place.container(horizontal=True, vertical_alignment="bottom", gap="small")
    row = Controls(title=title or state.PAGES[page].title, more=place.container())
    with line:
        yield row
    beside = st.session_state.pop(_TITLE, None) or line
    with beside, st.container(horizontal=True, width="content", wrap=False, gap="small"):  # all three go on together
        actions(page, row)
    if bare is not None:
        bare.empty()
    state.place_notices(st.container())


@contextmanager
def rail(page: str, question: str) -> Iterator[Controls]:
    """As `header` and `controls`, for a page whose result is to stand in view at once: the title and the three actions on one
    line, the controls in the rail at the left, which folds away for a talk.

    with layout.rail("retrieval_lab", "What helps retrieval?") as row:
        store = pickers.store()
    """
    state.enter(page)
    _begin_notices()
    row, bare = Controls(title=state.PAGES[page].title), st.empty() if state.bare() else None
    if bare is not None:  # the widgets run, and nothing of them is seen
        with bare.container():
            yield row
            actions(page, row)
        bare.empty()
    else:
        line = st.container(horizontal=True, vertical_alignment="center", gap="small")
        with line:
            st.title(question, anchor=False, width="stretch")
        with st.sidebar:
            yield row
        with line:
            actions(page, row)
    state.place_notices(st.container())


def _begin_notices() -> None:
    """Notices of this run, what is wrong with a plugin first."""
    state.begin_notices()
    for problem in caching.plugin_problems():
        state.notice(problem)


def actions(page: str, row: Controls) -> None:
    """Copy link, copy command, pin (where the view may be one): small, at the end of a row."""
    with st.popover("Link", icon=":material/link:", type="tertiary", help="Copy the link to this view"):
        st.caption("This view, with everything chosen in it:")
        st.session_state[_LACKS] = st.empty()
        link = st.empty()
        st.caption("For an iframe, without header and controls, add `&bare=1&embed=true` to it.")
    with st.popover(
        "Command", icon=":material/terminal:", type="tertiary", help="Copy the command that gives these numbers"
    ):
        st.caption("The same numbers without the app, from the project's folder:")
        st.session_state[_COMMAND] = st.empty()
    st.set_page_config(page_title=tab_title(row.title))
    state.place_link(page, link)
    refresh(row.command or commands.stores())
    if row.pinnable:
        pins.whole_view(row.title, row.command, row.facts)


def tab_title(shown: str) -> str:
    """What the browser's tab says: what the page shows, without its markdown, then the app."""
    plain = pins.plain(shown)
    return f"{plain[:80]} · RetrievalLens" if plain else "RetrievalLens"


def refresh(command: str, *, lacks: str = "") -> None:
    """Write link and command of the row anew. A fragment calls it, because the row is not drawn again by its reruns. lacks:
    what the link cannot hold, said before it is copied."""
    if state.bare():
        return
    state.write_link()
    if lacks:
        st.session_state[_LACKS].caption(f":material/link_off: **{safe.sentence(lacks)}**")
    st.session_state[_COMMAND].code(command, language=None, wrap_lines=True)


def caption(text: str) -> None:
    st.caption(safe.sentence(text))


def store_line(store: Store) -> None:
    """Data, split, N, model and tap of what is on screen; demo label and a warning about a poor SAE."""
    store_facts(store)
    store_warnings(store)


def store_facts(store: Store) -> None:
    """Data, split, N, model, tap and demo label, in one line."""
    pins.in_view([store])
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if store.is_demo:
            demo_badge([store])
        st.caption(safe.words(store.caption.removesuffix(f" · {store.demo_note}")))


def store_warnings(store: Store) -> None:
    """What a reader of the numbers has to know of the store."""
    if store.older:
        st.info(safe.sentence(store.older_note), icon=":material/update:")
    warn_poor_sae(store)


def stores_line(stores: Sequence[Store]) -> None:
    """Data and models of several stores on one line, with the demo label where one of them is a demo."""
    pins.in_view(stores)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if any(store.is_demo for store in stores):
            demo_badge(stores)
        st.caption(safe.words(data_of(stores), 1200))


def demo_badge(stores: Sequence[Store]) -> None:
    """The demo's label; that data are out of a model's world stands out."""
    foreign = any(store.out_of_world for store in stores)
    st.badge(demo_note_of(stores), icon=":material/experiment:", color="orange" if foreign else "gray")


def r2(store: Store, part: str = "all") -> float | None:
    """R² (mean over dimensions) of the SAE on what is analysed; None where the store does not say."""
    value = store.facts.get("quality", {}).get(part, {}).get("r2_per_dimension")
    return None if value is None else float(value)


def warn_poor_sae(store: Store) -> None:
    """Of all embeddings, or where those pass, of the modality that does not."""
    for part, whose in (
        ("all", "these embeddings"),
        ("image", "the image embeddings"),
        ("text", "the text embeddings"),
    ):
        value = r2(store, part)
        if value is not None and value < R2_BOUND:
            st.warning(
                f"The SAE of {safe.words(store.label)} explains {100 * value:.0f} % of the variance of {whose} "
                f"(R² below {R2_BOUND}): its concepts say little about them. Train an SAE on what is analysed (`--sae train`).",
                icon=":material/warning:",
            )
            return


def empty_cache(refs: Sequence[StoreRef]) -> None:
    """The designed empty state: what is missing and the command that makes it; then the page ends."""
    with st.container(border=True):
        st.subheader("Nothing to show yet", anchor=False)
        broken = [ref for ref in refs if not ref.ok]
        if broken:
            st.markdown(f"None of the {len(broken)} stores in `{commands.place(caching.cache_dir())}` can be opened:")
            for ref in broken[:5]:
                st.error(safe.sentence(ref.problem), icon=":material/error:")
        else:
            st.markdown(
                f"There is no store in `{commands.place(caching.cache_dir())}`. A store holds one model on one data set."
            )
        st.caption("Rebuild the embedded demo (small models, CPU):")
        st.code(commands.build(demo=True), language=None)
        st.caption("Or build one from your own pictures and captions:")
        st.code(commands.build(), language=None)
    st.stop()
