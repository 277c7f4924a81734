"""Search by example: which concepts fire on a sample of the data, or on a sentence and a picture of the visitor's own."""

from __future__ import annotations

import numpy as np
import streamlit as st

from analysis.store import Store
from pages.components.shared import caching, gallery, safe, state

SOURCES = ("from the data", "your own")
_READ = "_example_read"  # what the model read last, and what it gave
TYPES = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tiff"]


def fires(store: Store) -> tuple[np.ndarray | None, dict[str, str]]:
    """(K,) activations of the example that the visitor chose, None before there is one, and the options that name it in a
    command. Draws its controls."""
    state.check_choice(state.EXAMPLE, SOURCES, default=SOURCES[0], what="an example")
    source = st.segmented_control(
        "Example", SOURCES, default=SOURCES[0], required=True, **state.bound(state.EXAMPLE),
        help="From the data: cached, no model. Your own: the store's model reads it.",
    )  # fmt: skip
    return _from_data(store) if source == SOURCES[0] else _own(store)


def _from_data(store: Store) -> tuple[np.ndarray, dict[str, str]]:
    """A sample by its row, or the first whose caption says some words."""
    last = store.n_samples - 1
    state.check_number(state.SAMPLE, low=0, high=last, default=0, what="a sample, row")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        row = int(st.number_input(f"Sample, 0 to {last:,}", 0, last, 0, **state.bound(state.SAMPLE), width=150))
        st.text_input(
            "or the next one that says",
            key="_example_words",
            placeholder="dog beach",
            width=220,
            on_change=_next,
            args=(store,),
        )  # fmt: skip
        if picture := caching.picture(store, row):
            st.image(picture, width=96, alt=gallery.alt(store, row))
        st.markdown(gallery.escape(caching.description(store, row), 300) or "A sample without words.")
    codes = store.codes
    found = np.zeros(store.n_concepts)
    found[np.asarray(codes.indices[row])] = np.asarray(codes.values[row])
    return found, {"--sample": str(row)}


def _next(store: Store) -> None:
    """The next sample, in the order of the store and round its end, that says every word. For callbacks."""
    from analysis.concepts.search import tokens

    wanted = set(tokens(st.session_state["_example_words"]))
    if not wanted:
        return
    said, start = caching.said(store), int(st.session_state.get(state.SAMPLE, 0)) + 1
    for row in np.roll(np.arange(len(said)), -start):
        if wanted <= set(tokens(str(said[row]))):
            st.session_state[state.SAMPLE] = int(row)
            return
    st.toast("No sample says all of these words.", icon=":material/search_off:")


def _own(store: Store) -> tuple[np.ndarray | None, dict[str, str]]:
    from analysis.query.compatibility import request_for
    from analysis.query.concepts import query_concepts
    from analysis.query.query import embed_query
    from pages.components.live import asking, model_panel

    if not store.has_model:
        st.info(
            f"{safe.words(store.label)} holds imported embeddings: no model can read an example of your own.",
            icon=":material/info:",
        )
        return None, {}
    with st.container(horizontal=True, vertical_alignment="top", gap="small"):
        text = st.text_input(
            "Sentence", key="_example_text", placeholder="a dog at the beach", max_chars=500, width=320
        )
        held = st.file_uploader("Picture", type=TYPES, key="_example_picture", width=320)
    if not text.strip() and held is None:
        st.caption("Type a sentence or drop a picture.")
        return None, {}
    request = request_for(store)
    if not model_panel.may_load(request):
        st.info(
            f"{model_panel.estimate(request)} Load it on the page Live query first, then come back.",
            icon=":material/memory:",
        )
        return None, {}
    shown = None if held is None else asking.decoded(held.getvalue(), held.name)
    asked = caching.store_id(store), text, None if shown is None else hash(shown.png)
    if st.session_state.get(_READ, (None,))[0] != asked:
        with model_panel.using(request, store) as backbone:
            query = embed_query(
                backbone, picture=None if shown is None else shown.png, text=text, prompts=str(store.config["prompts"])
            )
        st.session_state[_READ] = asked, query
    query = st.session_state[_READ][1]
    for note in (*(() if shown is None else shown.notes), *query.notes):
        st.caption(gallery.escape(note, 300))
    concepts = query_concepts(caching.sae(store), query.embedding())
    found = np.zeros(store.n_concepts)
    found[concepts.ids] = concepts.values
    named = {"--text": text.strip(), "--image": held.name if held is not None else ""}
    return found, {option: value for option, value in named.items() if value}
