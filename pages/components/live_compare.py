"""The same query through another model: loaded in turn, its list beside this one's."""

from __future__ import annotations

import streamlit as st

from analysis.live.compatibility import request_for
from analysis.live.masks import NO_MASK
from analysis.live.query import embed_query
from analysis.live.slot import ModelRequest
from analysis.store import Store
from pages.components import caching, gallery, live_model, live_results, method_builder, ranked_lists
from pages.components.errors import guard

K = 6  # places of each list
KEPT = 3  # lists of other models that a session keeps


def section(live: live_results.Live, request: ModelRequest) -> None:
    """Stores of the same data by other models; a button each runs the query through its model and keeps the list."""
    others = partners(live.store, live.task.task)
    if not others or (live.asked.picture is None and not live.asked.text):
        return
    st.subheader("The same query through another model", anchor=False)
    labels = {caching.store_id(store): store for store in others}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = st.selectbox("Other model", list(labels), format_func=lambda key: labels[key].label, width=320)
        pressed = st.button(
            "Run", icon=":material/compare_arrows:", help="Loads that model; it takes this one's place."
        )
    kept: dict = st.session_state.setdefault("_live_others", {})
    if pressed:
        with guard("The comparison", stop=False):
            while len(kept) >= KEPT:
                kept.pop(next(iter(kept)))
            kept[chosen, live.task.task, *live.asked.key] = _run(labels[chosen], live, request.device)
    same = [other for (_, *query), other in kept.items() if query == [live.task.task, *live.asked.key]]
    if same:
        _show(live, same)


def partners(store: Store, task: str) -> list[Store]:
    """Other stores of the same data that have the task: their candidates are the same samples."""
    found = []
    for ref in caching.stores():
        if ref.ok and ref.path != store.path and ref.dataset == store.dataset:
            other = caching.open_ref(ref)
            if task in other.tasks:
                found.append(other)
    return found


def _run(other: Store, live: live_results.Live, device: str) -> live_results.Live:
    with live_model.using(request_for(other, device=device), other) as backbone:
        query = embed_query(
            backbone, picture=live.asked.picture, text=live.asked.text, prompts=other.config["prompts"],
            task=live.task.task, name=live.asked.name or "your picture",
        )  # fmt: skip
    return live_results.Live(other, other.task(live.task.task), live.asked, query, live.preview)


@st.fragment
def _show(first: live_results.Live, others: list[live_results.Live]) -> None:
    with guard("The comparison", stop=False):
        _lists([first, *others])


def _lists(models: list[live_results.Live]) -> None:
    """The list of each model after the view's intervention, in its own space."""
    intervention = method_builder.current()
    for column, live in zip(st.columns(len(models), gap="medium", border=True), models, strict=True):
        with column:
            st.markdown(f"**{gallery.escape(live.store.label)}**")
            comparison = live.compare(NO_MASK, intervention)
            ranked_lists.one_list(live.store, live.task.candidate_rows, comparison.places("after", K), side="after")
    st.caption(f"Unmasked query, {gallery.escape(intervention.label)}; movement: against each model's own base.")
