"""Why the first place of a live query changed, or why one candidate stands above another in a list, as concepts."""

from __future__ import annotations

import streamlit as st

from analysis.errors import AnalysisError
from analysis.query.applied import Applied
from analysis.query.query import LiveQuery
from analysis.query.reproduce import LiveView, why_command_for
from analysis.retrieval.evaluation.change import Change, explain_change, explain_live_change
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.why import Explanation, explain, explain_places
from analysis.retrieval.interventions import BASE, Intervention
from analysis.store import Store
from analysis.store.read import Task
from pages.components.shared import caching, safe, state, why_panel


def section(
    store: Store,
    task: Task,
    comparison: Comparison,
    view: LiveView,
    *,
    query: LiveQuery | None,
    changes: Applied,
) -> None:
    """What changed between both lists, or two candidates of one list: the first and another one. Of a query of the data that
    no model has run on (query None): its target and the best wrong candidate, as in the lab."""
    st.subheader("Why does the winner win?", anchor=False)
    changed = bool(changes.mask) or bool(changes.intervention.steps)
    if not st.toggle(
        "Split two similarities into concepts",
        key="_live_why",
        value=state.get(state.WHY) is not None,
        on_change=_remember,
        args=(changed,),
    ):
        return
    removed = changes.intervention.removed_concepts(caching.task_space(store, task.task))
    side = why_panel.side_in_view(changed, targets=True, key="_live_why_side")
    try:
        if side == "change":
            pair = why_panel.pair_in_view(comparison, key="_live_why_pair")
            change = _change(store, task, comparison, view, pair, query, changes)
            name = f"{store.name}-{task.task}-live-change-{pair}"
            command = why_command_for(view, side)
            why_panel.show_change(store, task, change, removed, name=name, command=command)
            return
        place = _place(store, task, comparison, side, view.top) if query is not None else 0
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
    why_panel.show(
        why_panel.Pair(store, task, found, words, removed),
        name=f"{store.name}-{task.task}-live-why-{side}",
        command=why_command_for(view, side, place),
    )


def _change(
    store: Store, task: Task, comparison: Comparison, view: LiveView, pair: str, query: LiveQuery | None, changes: Applied
) -> Change:  # fmt: skip
    """Of a query that a model read by its own embeddings, else by those that the store holds."""
    if query is None:
        lab = caching.lab(store, task.task)
        both = Comparison(
            lab.lists(BASE), lab.lists(changes.intervention), lab.space.qrels, int(view.query or 0)
        )  # fmt: skip
        return explain_change(lab, both, changes.intervention, pair)
    fitted = [caching.fitted(store, task.task, method) for method in (BASE, changes.fitted)]
    return explain_live_change(
        fitted[0], fitted[1], comparison, query.embedding(), query.embedding(changes.mask), pair
    )  # fmt: skip


def _place(store: Store, task: Task, comparison: Comparison, side: str, top: int) -> int:
    """Which place is compared with the first: one of the list, or the target's."""
    listed = [*comparison.places(side, top), *comparison.pinned(side, top)]
    rows = {place.rank: int(task.candidate_rows[place.candidate]) for place in listed if place.rank > 1}
    targets = [place.rank for place in listed if place.is_target and place.rank > 1]
    wanted = (state.get(state.WHY) or "").partition("-")[2]
    place = int(wanted) if wanted.isdigit() and int(wanted) in rows else (targets or [2])[0]
    st.session_state["_live_why_place"] = place
    st.selectbox(
        "Compare the first with", list(rows), key="_live_why_place", width=420, on_change=_remember, args=(True,),
        format_func=lambda rank: f"{rank} · {caching.description(store, rows[rank])}",
    )  # fmt: skip
    return place


def _remember(changed: bool) -> None:
    """The address carries whether two candidates are compared, and which."""
    if not st.session_state["_live_why"]:
        state.put(state.WHY, None)
        return
    place, side = st.session_state.get("_live_why_place"), st.session_state.get("_live_why_side")
    side = side or ("change" if changed else "before")
    state.put(state.WHY, side if place is None or side == "change" else f"{side}-{place}")


def _of_the_data(
    store: Store, task: Task, view: LiveView, intervention: Intervention, side: str
) -> tuple[Explanation, tuple[str, str]]:
    lab = caching.lab(store, task.task)
    both = Comparison(lab.lists(BASE), lab.lists(intervention), lab.space.qrels, int(view.query or 0))
    found = explain(lab, both, side, intervention if side == "after" else BASE)
    return found, ("target", "wrong winner" if found.rival_wins else "runner-up")
