"""The same query through another model: loaded in turn, its list beside this one's."""

from __future__ import annotations

import streamlit as st

from analysis.query.compatibility import request_for
from analysis.query.masks import NO_MASK
from analysis.query.query import embed_query
from analysis.query.slot import ModelRequest
from analysis.retrieval.interventions import Pool
from analysis.store import Store
from pages.components.live import asking, model_panel, result
from pages.components.shared import caching, gallery, method_builder, ranked_lists, safe, state
from pages.components.shared.errors import guard

K = 6  # places of each list
KEPT = 3  # lists of other models that a session keeps


def section(live: result.Live, request: ModelRequest) -> None:
    """Stores of the same data by other models; a button each runs the query through its model and keeps the list."""
    others = partners(live.store, live.task.task)
    if not others or (live.asked.picture is None and not live.asked.text):
        return
    st.subheader("The same query through another model", anchor=False)
    labels = {caching.store_id(store): store for store in others}
    linked = _linked(labels)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = st.selectbox("Other model", list(labels), format_func=lambda key: labels[key].label, width=320)
        pressed = st.button(
            "Run", icon=":material/compare_arrows:", help="Loads that model; it takes this one's place."
        )
    kept: dict = st.session_state.setdefault("_live_others", {})
    query, ran = (live.task.task, *live.asked.key), False
    for key in dict.fromkeys([*linked, *([chosen] if pressed else [])]):
        if (key, *query) in kept:
            continue
        with guard("The comparison", stop=False):
            if not pressed and not model_panel.may_load(request_for(labels[key], device=request.device)):
                st.info(f"{safe.words(labels[key].label)} is not loaded by itself. Choose it and press Run.")
                continue
            while len(kept) >= KEPT:
                kept.pop(next(iter(kept)))
            kept[key, *query] = _run(labels[key], live, request.device)
            ran = True
    same = {key: other for (key, *asked), other in kept.items() if tuple(asked) == query}
    beside = ",".join(same) or None
    if ran or state.get(state.BESIDE) != beside:
        state.put(state.BESIDE, beside)
        st.rerun()  # the link above is to carry it, and the row of the model says which one is in memory now
    if same:
        _show(live, list(same.values()))


def _linked(labels: dict[str, Store]) -> list[str]:
    """Stores that a link puts beside the query, when it is opened: later queries are compared by the button alone, for
    each comparison exchanges the model in memory."""
    if st.session_state.get("_live_beside_opened"):
        return []
    st.session_state["_live_beside_opened"] = True
    named = [key for key in (state.get(state.BESIDE) or "").split(",") if key]
    for key in named:
        if key not in labels:
            state.notice(f"The link puts {state.shown(key)} beside the query, expected one of {', '.join(labels)}.")
    known = [key for key in named if key in labels][:KEPT]
    if known != named:
        state.put(state.BESIDE, ",".join(known) or None)
    return known


def partners(store: Store, task: str) -> list[Store]:
    """Other stores of the same data that have the task, and a model that could embed the query: their candidates are the
    same samples."""
    found = []
    for ref in caching.stores():
        if ref.ok and ref.path != store.path and ref.dataset == store.dataset:
            other = caching.open_ref(ref)
            if other.has_model and task in other.tasks:
                found.append(other)
    return found


def _run(other: Store, live: result.Live, device: str) -> result.Live:
    asked = asking.as_embedded(live.store, live.asked)
    with model_panel.using(request_for(other, device=device), other) as backbone:
        query = embed_query(
            backbone, picture=asked.picture, text=asked.text, prompts=other.config["prompts"],
            task=live.task.task, name=asked.name or "your picture",
        )  # fmt: skip
    return result.Live(other, other.task(live.task.task), asked, query, live.preview)


@st.fragment
def _show(first: result.Live, others: list[result.Live]) -> None:
    with guard("The comparison", stop=False):
        _lists([first, *others])


def _lists(models: list[result.Live]) -> None:
    """The list of each model after the view's intervention, in its own space."""
    chosen = method_builder.current()
    intervention = chosen.with_pool(Pool(candidates=chosen.pool.candidates))
    for column, live in zip(st.columns(len(models), gap="medium", border=True), models, strict=True):
        with column:
            st.markdown(f"**{gallery.escape(live.store.label)}**")
            comparison = live.compare(live.changes(NO_MASK, intervention))
            ranked_lists.one_list(live.store, live.task.candidate_rows, comparison.places("after", K), side="after")
    st.caption(f"Unmasked query, {gallery.escape(intervention.label)}; movement: against each model's own base.")
    for note in dict.fromkeys(live.asked.note for live in models[1:] if live.asked.note):
        st.caption(f":material/info: {safe.sentence(note)}")
