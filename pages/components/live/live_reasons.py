"""Why one candidate stands above another in a list of a live query, as concepts."""

from __future__ import annotations

import streamlit as st

from analysis.errors import AnalysisError
from analysis.query.applied import Applied
from analysis.query.query import LiveQuery
from analysis.query.reproduce import LiveView, why_command_for
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.why import Explanation, explain, explain_places
from analysis.retrieval.interventions import BASE, Intervention
from analysis.store import Store
from analysis.store.read import Task
from pages.components.shared import caching, safe, state, why_panel

_WORDS = {"before": "in the list before", "after": "in the list after"}


def section(
    store: Store,
    task: Task,
    comparison: Comparison,
    view: LiveView,
    *,
    query: LiveQuery | None,
    changes: Applied,
) -> None:
    """Two candidates of one list and what tells them apart: the first and another one. Of a query of the data that no model
    has run on (query None): its target and the best wrong candidate, as in the lab."""
    st.subheader("Why does the winner win?", anchor=False)
    if not st.toggle(
        "Split two similarities into concepts",
        key="_live_why",
        value=state.get(state.WHY) is not None,
        on_change=_remember,
    ):
        return
    changed = bool(changes.mask) or bool(changes.intervention.steps)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        side = _side(("before", "after") if changed else ("before",))
        place = _place(store, task, comparison, side, view.top) if query is not None else 0
    try:
        if query is None:
            found, words = _of_the_data(store, task, view, changes.intervention, side)
        else:
            seen, lists = (BASE, comparison.before) if side == "before" else (changes.fitted, comparison.after)
            h = query.embedding() if side == "before" else query.embedding(changes.mask)
            found = explain_places(caching.fitted(store, task.task, seen), lists, h, place)
            words = (f"number {place}", "number 1")
    except AnalysisError as error:
        st.caption(safe.sentence(error))
        return
    removed = changes.intervention.removed_concepts(caching.task_space(store, task.task))
    why_panel.show(
        why_panel.Pair(store, task, found, words, removed),
        name=f"{store.name}-{task.task}-live-why-{side}",
        command=why_command_for(view, side, place),
    )


def _side(sides: tuple[str, ...]) -> str:
    wanted = (state.get(state.WHY) or "").split("-")[0]
    side = wanted if wanted in sides else sides[-1]
    st.session_state["_live_why_side"] = side
    st.segmented_control(
        "Explain the list", sides, key="_live_why_side", required=True, label_visibility="collapsed",
        format_func=_WORDS.__getitem__, on_change=_remember,
    )  # fmt: skip
    return side


def _place(store: Store, task: Task, comparison: Comparison, side: str, top: int) -> int:
    """Which place is compared with the first: one of the list, or the target's."""
    listed = [*comparison.places(side, top), *comparison.pinned(side, top)]
    rows = {place.rank: int(task.candidate_rows[place.candidate]) for place in listed if place.rank > 1}
    targets = [place.rank for place in listed if place.is_target and place.rank > 1]
    wanted = (state.get(state.WHY) or "").partition("-")[2]
    place = int(wanted) if wanted.isdigit() and int(wanted) in rows else (targets or [2])[0]
    st.session_state["_live_why_place"] = place
    st.selectbox(
        "Compare the first with", list(rows), key="_live_why_place", width=420, on_change=_remember,
        format_func=lambda rank: f"{rank} · {caching.description(store, rows[rank])}",
    )  # fmt: skip
    return place


def _remember() -> None:
    """The address carries whether two candidates are compared, and which."""
    if not st.session_state["_live_why"]:
        state.put(state.WHY, None)
        return
    place, side = st.session_state.get("_live_why_place"), st.session_state.get("_live_why_side", "after")
    state.put(state.WHY, side if place is None else f"{side}-{place}")


def _of_the_data(
    store: Store, task: Task, view: LiveView, intervention: Intervention, side: str
) -> tuple[Explanation, tuple[str, str]]:
    lab = caching.lab(store, task.task)
    both = Comparison(lab.lists(BASE), lab.lists(intervention), lab.space.qrels, int(view.query or 0))
    found = explain(lab, both, side, intervention if side == "after" else BASE)
    return found, ("target", "wrong winner" if found.rival_wins else "runner-up")
