"""Concepts as short rows (pictures, name, modality, a number) that lead to the concept."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from analysis.concepts import examples
from analysis.concepts.examples import Firing
from analysis.store import Store
from pages.components.concepts import belief
from pages.components.shared import caching, gallery, scores, state

THUMBS = 3
STRIP_HELP = "Behind a T: the concept fires on captions only, and the pictures are those that its captions describe."


def title(store: Store, concept: int) -> str:
    """Id and name, as links and headings say it; safe as markdown."""
    name = caching.concept_name(store, concept)
    return f"{concept} · {gallery.escape(name, 60)}" if name else f"{concept}"


def names(store: Store, concepts: np.ndarray) -> list[str]:
    """Names as tables show them: of a live concept without one, that no shared meaning was found."""
    live = store.concepts["energy"].to_numpy() > 0
    found = zip(caching.concept_names(store, concepts), np.asarray(concepts, int), strict=True)
    return [name or (belief.NO_NAME if live[concept] else "") for name, concept in found]


def firing(store: Store, concept: int) -> tuple[Firing, Firing]:
    """(pictures, captions) that a concept fires on, strongest first, as the Concept page tells them apart."""
    rows, values = store.postings.rows(concept)
    return examples.split(rows, values, caching.corpus(store).kind)


def strip(store: Store, concept: int, side: int = 48) -> str:
    """The strongest pictures side by side, as a data URI; "" when there are none. Where a concept fires on captions only,
    the pictures that its strongest captions describe, behind a tile with a T (see STRIP_HELP)."""
    return caching.face(store, concept, THUMBS, side)[0]


def fires_on(store: Store, concept: int, count: int = THUMBS, *, width: int = 72) -> None:
    """The strongest pictures of a concept, or its strongest captions where it fires on no picture."""
    pictures, captions = firing(store, concept)
    if len(pictures):
        st.caption("It fires most on:")
        gallery.pictures(store, pictures.rows[:count], width=width)
    elif len(captions):
        st.caption("It fires on no picture. The captions that it fires on most:")
        top = examples.distinct(captions, caching.corpus(store).texts, count)
        gallery.texts(store, top.rows, top.values)
    else:
        st.caption("It fires on no picture and no caption of this data.")


def row(store: Store, concept: int, note: str = "", *, place: str = "", **params: Any) -> None:
    """One concept in a list: pictures, link, modality, and a number that says why it stands here.

    place: given where the link changes the view in front of the visitor; params: what it sets, by default the concept.
    """
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        sheet, mark = caching.face(store, concept, THUMBS, 48)
        if sheet:
            with st.container(width=THUMBS * 52):  # one picture is as small as three, and the names stay in line
                whose = "Pictures of the strongest captions" if mark else "Strongest pictures"
                st.image(sheet, width="content", alt=f"{whose} of concept {concept}")
        with st.container(gap=None):
            if place:
                state.view_button(title(store, concept), place=place, **(params or {"concept": concept}))
            else:
                state.page_link("concept", title(store, concept), store=caching.store_id(store), concept=concept)
            modality(store, concept, after=note)


def modality(store: Store, concept: int, *, before: str = "", after: str = "") -> None:
    """A concept's modality in small print, in words and its colour. No caption: that would fade the colour too far."""
    words, color = scores.modality_words(float(store.concepts["modality_score"].iat[concept]))
    parts = [f":gray[{before} ·]" if before else "", f":{color}[{words}]", f":gray[· {after}]" if after else ""]
    st.markdown(f":small[{' '.join(filter(None, parts))}]")
