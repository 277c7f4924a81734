"""All findings that were asked for: a card each, in order, and the buttons that move them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from analysis.store.finding import Finding
from analysis.store.notebook import move_finding
from pages.components.findings import opened
from pages.components.shared import caching, gallery, state
from pages.components.shared.errors import guard

PAGE = 10  # cards at once


def show(found: Sequence[Finding], chosen: str, *, ordered: bool) -> None:
    """ordered: they are one collection, so they have places and can be moved. chosen: id of the one that is open."""
    at = next((place for place, one in enumerate(found) if one.id == chosen), 0)
    pages = -(-len(found) // PAGE)
    page = 1
    if pages > 1:  # a key of its own for what is open: its page is the one to begin with
        page = st.pagination(pages, default=1 + at // PAGE, key=f"_findings_page_{chosen}", max_visible_pages=5)
    for place, one in enumerate(found[(page - 1) * PAGE : page * PAGE], start=(page - 1) * PAGE):
        _card(one, place, len(found), chosen, ordered=ordered)


def _card(one: Finding, place: int, count: int, chosen: str, *, ordered: bool) -> None:
    words = gallery.escape(one.headline, 150) or "Without a title"
    with st.container(border=True, gap="xsmall", key=f"card_{one.id}"):
        st.markdown(
            f":primary-badge[{place + 1}] **{words}**" if one.id == chosen else f":gray-badge[{place + 1}] {words}"
        )
        with st.container(horizontal=True, wrap=False, gap="small", vertical_alignment="center"):
            st.caption(opened.about(one, where=not ordered), width="stretch")
            with st.container(width="content", horizontal=True, wrap=False, gap="xsmall"):
                if ordered:
                    _mover(one.id, -1, "keyboard_arrow_up", "Move up", place == 0)
                    _mover(one.id, 1, "keyboard_arrow_down", "Move down", place == count - 1)
                st.button(
                    "Open", key=f"open_{one.id}", type="tertiary", on_click=state.put, args=(state.FINDING, one.id),
                    disabled=one.id == chosen,
                )  # fmt: skip


def _mover(uid: str, by: int, icon: str, words: str, ends: bool) -> None:
    st.button(
        "", key=f"{'up' if by < 0 else 'down'}_{uid}", icon=f":material/{icon}:", type="tertiary", disabled=ends, help=words,
        on_click=_move, args=(uid, by),
    )  # fmt: skip


def _move(uid: str, by: int) -> None:
    with guard("The order", stop=False):
        move_finding(caching.notes_dir(), uid, by)
