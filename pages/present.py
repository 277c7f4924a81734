"""Findings on the whole screen: one a slide, frozen as they were pinned or live as they are now."""

from __future__ import annotations

import streamlit as st

from analysis.store import notebook
from analysis.store.finding import Finding
from pages.components.findings import export, opened
from pages.components.findings.stage import stage
from pages.components.shared import caching, gallery, layout, safe, state
from pages.components.shared.errors import guard

MOST = 200  # findings of one show
_MODE, _AT = "_stage_mode", "_stage_at"


def main() -> None:
    layout.header("present", "Which findings are presented?")
    notes = caching.notes_dir()
    collection, uid = state.get(state.COLLECTION) or "", state.get(state.FINDING) or ""
    names = [one.name for one in notebook.collections(notes)]
    listed = notebook.findings(notes, collection=collection or None)
    if not collection:
        listed.reverse()
    if not listed:
        _nothing(collection, names)
        return
    mode = st.session_state.setdefault(_MODE, _theme())
    html, owners = _deck(listed[:MOST], collection or "Findings", mode)
    first = next((slide for slide, owner in enumerate(owners) if owner == uid), 0)
    stage(
        html, [_live(listed, owner, mode) for owner in owners], start=st.session_state.pop(_AT, first), mode=mode, key="stage",
        on_leave=lambda: _leave(owners), on_mode=_other_mode,
    )  # fmt: skip
    if (back := st.session_state.pop("_stage_left", None)) is not None:
        state.open_page("findings", collection=collection or None, finding=back or None)


def _deck(listed: list[Finding], title: str, mode: str) -> tuple[str, tuple[str, ...]]:
    """(HTML of the deck, id of the finding that each slide belongs to, "" for the title)."""
    from analysis.report.deck_html import deck_html
    from analysis.report.slides import deck_of

    whole = [notebook.finding(caching.notes_dir(), one.id) for one in listed]
    owners = [one.id for one in whole for _ in deck_of(title, [one]).slides]
    deck = deck_of(title, whole, subtitle=f"{len(whole)} findings", server=export.server())
    return deck_html(deck, mode=mode), ("", *owners)


def _live(listed: list[Finding], uid: str, mode: str) -> str:
    """The address of a finding's view as it is now, bare; "" for the title and for a finding without a view."""
    one = next((one for one in listed if one.id == uid), None)
    view = None if one is None else opened.live_address(one)
    if view is None:
        return ""
    return state.page_url(view[0], **view[1], bare=1, embed="true", embed_options=f"{mode}_theme")


def _leave(owners: tuple[str, ...]) -> None:
    st.session_state["_stage_left"] = owners[_slide("leave", len(owners))]


def _other_mode() -> None:
    st.session_state[_AT] = _slide("mode", 10_000)
    st.session_state[_MODE] = "light" if st.session_state[_MODE] == "dark" else "dark"


def _slide(trigger: str, count: int) -> int:
    value = st.session_state["stage"][trigger]
    return min(max(int(value), 0), count - 1) if isinstance(value, int | float) else 0


def _theme() -> str:
    return "dark" if st.context.theme.type == "dark" else "light"


def _nothing(collection: str, names: list[str]) -> None:
    words = (
        f"The collection {safe.words(state.shown(collection))} holds no finding."
        if collection
        else "Nothing is pinned yet."
    )
    st.info(f"{words} Pin a figure, a table or a concept first.", icon=":material/slideshow:")
    for name in names[:8]:
        state.view_button(gallery.escape(name, 80), place="collection", icon=":material/slideshow:", collection=name)
    state.page_link("findings", "Findings", icon=":material/keep:")


with guard():
    main()
