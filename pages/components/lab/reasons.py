"""Why a candidate wins: what each concept gives to the similarity with the target and with the best wrong candidate."""

from __future__ import annotations

import streamlit as st

from analysis.errors import AnalysisError
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.why import explain
from analysis.retrieval.interventions import BASE
from pages.components.lab.lab_view import LabView
from pages.components.shared import safe, state, why_panel

_WORDS = {"before": "in the list before", "after": "in the list after"}


def section(view: LabView, query: int, comparison: Comparison) -> None:
    """Bars of the target and of the rival, their difference, and the concept that was clicked."""
    st.subheader("Why does the winner win?", anchor=False)
    if not len(comparison.targets):
        st.caption("This query has no target in the pool, so there is nothing to compare the winner with.")
        return
    states = {"before": BASE, "after": view.after} if view.after.steps else {"before": BASE}
    wanted = state.get(state.WHY)
    which = wanted if wanted in states else "before"
    st.session_state["_lab_explain"] = which
    st.segmented_control(
        "Explain the list", list(states), key="_lab_explain", required=True, label_visibility="collapsed",
        format_func=_WORDS.__getitem__, on_change=lambda: state.put(state.WHY, st.session_state["_lab_explain"]),
    )  # fmt: skip
    try:
        found = explain(view.lab, comparison, which, states[which])
    except AnalysisError as error:
        st.caption(safe.sentence(error))
        return
    why_panel.show(
        why_panel.Pair(
            view.store, view.task, found, ("target", "wrong winner" if found.rival_wins else "runner-up"),
            view.after.removed_concepts(view.lab.space),
        ),
        name=f"{view.store.name}-{view.name}-why-{query}-{which}",
        command=view.command(query, more=f" --why {which}"),
    )  # fmt: skip
