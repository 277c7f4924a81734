"""Where in a picture or a caption a concept fires: token codes that the store keeps for a bounded set of samples."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from analysis.concepts.tokens import AGGREGATIONS, POOLED, set_apart, spike, strengths
from analysis.figures.export import selected_ids
from analysis.figures.tokens import patch_grid, token_strip
from analysis.store import Store, TokenView
from pages.components.concepts import token_card
from pages.components.shared import caching, concept_cards, downloads, gallery, pickers, pins, safe, state

FEW, MANY = (2, 1), (3, 4)  # pictures and captions: each is a figure of its own, about 20 ms, on every new concept
COUNTED = ("content", "all")
_CLICKED = "_clicked_tokens"  # chart -> the token last clicked on it


def section(store: Store, concept: int) -> None:
    """Patches and words of the samples with token codes on which the concept fires most, of a store that keeps any."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        how = pickers.one_of(
            "Samples by", state.AGGREGATION, AGGREGATIONS, what="an aggregation",
            help="How strongly a sample has the concept: its strongest token, the mean over its tokens, or the code of its "
            "pooled embedding, which may be another thing than either.",
        )  # fmt: skip
        counted = pickers.one_of(
            "Tokens", state.COUNTED, COUNTED, what="tokens to count",
            help="content: without what the template adds, the instruction and the first token, on which many models spike; "
            "these are dotted then.",
        )  # fmt: skip
        more = st.toggle("More samples", key="_more_tokens", persist_state="session")
    everything = counted == "all"
    say_spike(store, concept, everything=everything)
    strength = pooled(store, concept) if how == POOLED else strengths(
        caching.tokens(store), concept, how, everything=everything
    )  # fmt: skip
    known = caching.token_views(store)
    views = [known[slot] for slot in np.argsort(-strength, kind="stable") if strength[slot] > 0]
    if not views:
        where = "the pooled embedding" if how == POOLED else "a single token" if everything else "a token of content"
        st.caption(f"It fires on {where} of none of the {len(known)} samples whose tokens are kept.")
        return
    n_pictures, n_captions = MANY if more else FEW
    pictures = [view for view in views if view.grid is not None][:n_pictures]
    for column, view in zip(st.columns(MANY[0]), pictures, strict=False):
        with column:
            _picture(store, concept, view, everything)
    for view in [view for view in views if view.grid is None][:n_captions]:
        chart = caching.drawn(
            store, ("strip", concept, view.row, everything), partial(_strip, store, concept, view, everything)
        )
        name = f"{store.name}-concept-{concept}-tokens-{view.row}-{counted}"
        _follow(name, view.row, downloads.figure(chart, name, select=("points",), pin=_pin(store, concept, view.row)))
    token_card.section(store, concept, everything=everything)


def say_spike(store: Store, concept: int, *, everything: bool) -> None:
    """One line where the concept is loudest on a token that says nothing of the sample."""
    tokens = caching.tokens(store)
    found = spike(tokens, concept)
    if found is None:
        return
    view = caching.token_views(store)[int(tokens.sample[found.token])]
    word = safe.words(" ".join(view.strings[int(tokens.position[found.token])].split()) or "␣", 30)
    compared = (
        "and never on content" if found.content == 0 else f"{found.times:.1f} times its strongest token of content"
    )
    counted = "which counts here" if everything else "which does not count here"
    st.caption(f":material/bolt: **Spike**: it fires most on “{word}” ({found.value:.3g}, {compared}), {counted}.")


def pooled(store: Store, concept: int) -> np.ndarray:
    """(S,) code of the pooled embedding of every sample whose tokens are kept."""
    return store.postings.activation(concept, store.n_samples)[caching.tokens(store).rows]


def _follow(chart: str, row: int, event: object) -> None:
    """A new click on a chart of tokens becomes the token in view."""
    seen = st.session_state.setdefault(_CLICKED, {})
    found = selected_ids(event)  # type: ignore[arg-type]
    clicked = found[0] if found else None
    if clicked is not None and seen.get(chart) != clicked:
        state.put(state.TOKEN, f"{row}.{clicked}")
    seen[chart] = clicked
    while len(seen) > 50:
        seen.pop(next(iter(seen)))


def _pin(store: Store, concept: int, row: int) -> pins.Pin:
    words = (
        f"Where concept {concept_cards.title(store, concept)} fires on “{gallery.escape(gallery.alt(store, row), 90)}”"
    )
    return pins.Pin(sentence=words, measure=pins.measure("concept", [store], concept=concept))


def activation(view: TokenView, concept: int) -> np.ndarray:
    """(L,) activation of one concept on every token of a sample."""
    return np.where(np.asarray(view.codes.indices) == concept, np.asarray(view.codes.values), 0).max(axis=1, initial=0)


def _strip(store: Store, concept: int, view: TokenView, everything: bool) -> go.Figure:
    return token_strip(
        view.strings, view.roles, activation=activation(view, concept), aside=None if everything else set_apart(view.roles),
        concept=f"concept {concept}", data=store.caption,
    )  # fmt: skip


def _patches(path: Path, concept: int, view: TokenView, grid: tuple[int, int], everything: bool) -> go.Figure:
    from PIL import Image

    shown, cells = activation(view, concept), np.asarray(view.cells)
    if not everything:
        shown = np.where(set_apart(view.roles), 0, shown)
    with Image.open(path) as image:
        return patch_grid(
            image.convert("RGB"), grid, token_ids=cells.tolist(), box=view.box, activation=shown[cells],
            concept=f"concept {concept}", width=300,
        )  # fmt: skip


def _picture(store: Store, concept: int, view: TokenView, everything: bool) -> None:
    path = store.thumb_path(view.row)
    if path is None or view.grid is None or view.cells is None:
        return
    chart = caching.drawn(
        store, ("patches", concept, view.row, everything), partial(_patches, path, concept, view, view.grid, everything)
    )
    name = f"{store.name}-concept-{concept}-patches-{view.row}"
    event = downloads.figure(
        chart,
        name,
        select=("points",),
        note=gallery.escape(gallery.alt(store, view.row), 80),
        pin=_pin(store, concept, view.row),
    )
    _follow(name, view.row, event)
