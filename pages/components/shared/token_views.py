"""Where in a picture or a caption a concept fires: token codes that the store keeps for a bounded set of samples."""

from __future__ import annotations

import numpy as np
import streamlit as st

from analysis.figures.tokens import patch_grid, token_strip
from analysis.store import Store, TokenView
from pages.components.shared import caching, concept_cards, downloads, gallery, pins

FEW, MANY = (2, 1), (3, 4)  # pictures and captions: each is a figure of its own, about 20 ms, on every new concept


def section(store: Store, concept: int) -> None:
    """Patches and words of the samples with token codes on which the concept fires most; nothing where none does."""
    if not len(store.token_rows):
        return
    st.subheader("Where it fires", anchor=False)
    views = sorted(caching.token_views(store), key=lambda view: -activation(view, concept).max(initial=0))
    views = [view for view in views if activation(view, concept).max(initial=0) > 0]
    if not views:
        st.caption(f"It fires on no single token of the {len(store.token_rows)} samples whose tokens are kept.")
        return
    n_pictures, n_captions = MANY if st.toggle("More samples", key="_more_tokens", persist_state="session") else FEW
    pictures = [view for view in views if view.grid is not None][:n_pictures]
    for column, view in zip(st.columns(MANY[0]), pictures, strict=False):
        with column:
            _picture(store, concept, view)
    for view in [view for view in views if view.grid is None][:n_captions]:
        chart = token_strip(
            view.strings,
            view.roles,
            activation=activation(view, concept),
            concept=f"concept {concept}",
            data=store.caption,
        )
        downloads.figure(chart, f"{store.name}-concept-{concept}-tokens-{view.row}", pin=_pin(store, concept, view.row))


def _pin(store: Store, concept: int, row: int) -> pins.Pin:
    words = (
        f"Where concept {concept_cards.title(store, concept)} fires on “{gallery.escape(gallery.alt(store, row), 90)}”"
    )
    return pins.Pin(sentence=words, measure=pins.measure("concept", [store], concept=concept))


def activation(view: TokenView, concept: int) -> np.ndarray:
    """(L,) activation of one concept on every token of a sample."""
    return np.where(np.asarray(view.codes.indices) == concept, np.asarray(view.codes.values), 0).max(axis=1, initial=0)


def _picture(store: Store, concept: int, view: TokenView) -> None:
    from PIL import Image

    path = store.thumb_path(view.row)
    if path is None or view.grid is None or view.cells is None:
        return
    with Image.open(path) as image:
        chart = patch_grid(
            image.convert("RGB"),
            view.grid,
            token_ids=view.cells.tolist(),
            box=view.box,
            activation=activation(view, concept)[view.cells],
            concept=f"concept {concept}",
            width=300,
        )
    downloads.figure(
        chart,
        f"{store.name}-concept-{concept}-patches-{view.row}",
        note=gallery.escape(gallery.alt(store, view.row), 80),
        pin=_pin(store, concept, view.row),
    )
