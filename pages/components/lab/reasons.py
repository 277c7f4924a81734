"""Why a candidate wins: what each concept gives to the similarity with the target and with the best wrong candidate."""

from __future__ import annotations

import streamlit as st

from analysis.errors import AnalysisError
from analysis.retrieval.evaluation.change import explain_change
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.why import explain
from analysis.retrieval.interventions import BASE
from pages.components.lab.lab_view import LabView
from pages.components.shared import safe, why_panel


def section(view: LabView, query: int, comparison: Comparison) -> None:
    """What changed between the two lists; or one list: bars of the target and of the rival and the concept that was clicked."""
    st.subheader("Why does the winner win?", anchor=False)
    which = why_panel.side_in_view(bool(view.after.steps), targets=bool(len(comparison.targets)), key="_lab_explain")
    if not which:
        st.caption("This query has no target in the pool, so there is nothing to compare the winner with.")
        return
    name, command = f"{view.store.name}-{view.name}-why-{query}-{which}", view.command(query, more=f" --why {which}")
    try:
        if which == "change":
            pair = why_panel.pair_in_view(comparison, key="_lab_pair")
            found = explain_change(view.lab, comparison, view.after, pair)
            removed = view.after.removed_concepts(view.space)
            why_panel.show_change(view.store, view.task, found, removed, name=f"{name}-{pair}", command=command)
            return
        split = explain(view.lab, comparison, which, BASE if which == "before" else view.after)
    except AnalysisError as error:
        st.caption(safe.sentence(error))
        return
    why_panel.show(
        why_panel.Pair(
            view.store, view.task, split, ("target", "wrong winner" if split.rival_wins else "runner-up"),
            view.after.removed_concepts(view.space),
        ),
        name=name, command=command,
    )  # fmt: skip
