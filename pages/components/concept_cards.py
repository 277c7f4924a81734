"""Concepts as short rows (pictures, name, modality, a number) that lead to the concept."""

from __future__ import annotations

import streamlit as st

from analysis.concepts import examples
from analysis.store import Store
from pages.components import caching, gallery, scores, state

THUMBS = 3


def title(store: Store, concept: int) -> str:
    """Id and name, as links and headings say it; safe as markdown."""
    name = caching.concept_name(store, concept)
    return f"{concept} · {gallery.escape(name, 60)}" if name else f"{concept}"


def top_rows(store: Store, concept: int, count: int = THUMBS) -> tuple[int, ...]:
    """Rows of the strongest pictures of a concept; a concept of captions shows the pictures of its captions' pairs."""
    known = caching.corpus(store)
    rows, values = store.postings.rows(concept)
    pictures, captions = examples.split(rows[: 50 * count], values[: 50 * count], known.kind)
    found = [int(row) for row in pictures.rows[:count]]
    if not found and len(captions):
        pairs = dict.fromkeys(int(pair) for pair in known.pair_id[captions.rows[: 5 * count]])
        found = [int(known.first_picture[pair]) for pair in pairs if known.first_picture[pair] >= 0][:count]
    return tuple(found)


def strip(store: Store, concept: int, side: int = 48) -> str:
    """The strongest pictures side by side, as a data URI; "" when there are none."""
    return caching.strip(store, top_rows(store, concept), side)


def row(store: Store, concept: int, note: str = "", *, place: str = "") -> None:
    """One concept in a list: pictures, link, modality, and a number that says why it stands here.

    place: given on the Concept page, where the link changes the view in front of the visitor.
    """
    words, color = scores.modality_words(float(store.concepts["modality_score"].iat[concept]))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        sheet = strip(store, concept)
        if sheet:
            with st.container(width=THUMBS * 52):  # one picture is as small as three, and the names stay in line
                st.image(sheet, width="content", alt=f"Strongest pictures of concept {concept}")
        with st.container(gap=None):
            if place:
                state.view_button(title(store, concept), place=place, concept=concept)
            else:
                state.page_link("concept", title(store, concept), store=caching.store_id(store), concept=concept)
            st.caption(f":{color}[{words}] · {note}" if note else f":{color}[{words}]")
