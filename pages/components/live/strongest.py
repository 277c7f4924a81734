"""The strongest concepts of a query as bars, and the one that is looked at: examples, its page, take it out."""

from __future__ import annotations

import numpy as np
import streamlit as st

from analysis.figures.concepts import concept_bars
from analysis.figures.export import selected_ids
from analysis.figures.style import score
from analysis.figures.thumbnails import beside_bars
from analysis.query.concepts import QueryConcepts, query_concepts
from analysis.retrieval.interventions import Edit
from analysis.store import Store
from pages.components.shared import caching, concept_cards, downloads, method_builder, pins, state

SHOWN = 12
_CLICKED = "_live_clicked"
REMOVE_OR_SILENCE = (
    "Remove: projects its direction out of everything, whichever concept put it there. Silence: sets its own part z D to 0; "
    "what others put along its direction stays."
)


def looked_at(store: Store) -> int | None:
    """The concept whose bar was just clicked, else the one in the URL, None when there is none."""
    clicked = selected_ids(st.session_state.get(f"figure_{_chart(store)}"))
    if clicked and clicked[0] != st.session_state.get(_CLICKED):
        state.put(state.CONCEPT, clicked[0])
    st.session_state[_CLICKED] = clicked[0] if clicked else None
    if state.get(state.CONCEPT) is None:
        return None
    return state.get_int(state.CONCEPT, low=0, high=store.n_concepts - 1, default=0, what=f"concept of {store.label},")


def show(store: Store, h: np.ndarray, *, what: str, command: str = "") -> None:
    """Bars of the strongest concepts of an embedding, each with pictures it fires on most; a click looks at one."""
    found = query_concepts(caching.sae(store), h)
    if not len(found.ids):
        st.info("No concept fires on this embedding: the SAE explains nothing of it.", icon=":material/info:")
        return
    ids = found.ids[:SHOWN].tolist()
    chart = concept_bars(
        ids,
        found.values[:SHOWN].tolist(),
        names={i: caching.concept_name(store, i) for i in ids},
        modality={i: float(store.concepts["modality_score"].iat[i]) for i in ids},
        data=f"{what}; {len(found.ids)} concepts fire",
    )
    chart = beside_bars(chart, {concept: concept_cards.strip(store, concept) for concept in ids})
    downloads.figure(
        chart, _chart(store), command=command, select=("points",),
        note=f"Beside each bar: what the concept fires on most. {concept_cards.STRIP_HELP}",
        pin=pins.Pin(sentence=f"{what}: {len(found.ids)} concepts fire, the strongest is {concept_cards.title(store, ids[0])}"),
    )  # fmt: skip


def detail(store: Store, concept: int, found: QueryConcepts | None = None) -> None:
    """One concept: where it leads, what it fires on elsewhere, and two ways to take it out."""
    state.page_link(
        "concept", concept_cards.title(store, concept), icon=":material/center_focus_strong:",
        store=caching.store_id(store), concept=concept,
    )  # fmt: skip
    activation = "" if found is None else f"activation {score(found.value(concept))} on this query"
    concept_cards.modality(store, concept, after=activation)
    concept_cards.fires_on(store, concept, 5, width=84)
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Remove just it", on_click=method_builder.remove_only, args=(concept,), icon=":material/content_cut:",
            help="The intervention becomes the removal of this one concept's direction.",
        )  # fmt: skip
        st.button(
            "Silence it", on_click=method_builder.add_step, args=(Edit(((concept, 0.0),)),), icon=":material/volume_off:",
            help="Adds to the intervention a concept edit with the factor 0.",
        )  # fmt: skip
        st.button("Close", on_click=lambda: state.put(state.CONCEPT, None), type="tertiary")
    st.caption(REMOVE_OR_SILENCE)


def _chart(store: Store) -> str:
    return f"{store.name}-query-concepts"
