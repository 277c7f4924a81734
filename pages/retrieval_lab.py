"""Retrieval lab: one task before and after an intervention, over all queries and query by query."""

from __future__ import annotations

import streamlit as st

from analysis.errors import AnalysisError
from analysis.retrieval.interventions import BASE
from pages.components.lab import concepts_meant, diagnosis, lab_view, masks, query_lists, recall_curves, recall_table
from pages.components.shared import caching, layout, method_builder, pickers, safe, state
from pages.components.shared.errors import guard

TABS = ("All queries", query_lists.TAB, "Why it works or not", "Masks, all models")


def main() -> None:
    with layout.rail("retrieval_lab", "What helps retrieval?") as row:
        store = pickers.store(weak=True)
        name = pickers.task(store)
        if name is not None:
            k, ks, definition, pool = lab_view.recall_controls()
            task = caching.task(store, name, pool)
            others = lab_view.partners(store, name)
            asked = method_builder.current(store)
            problem = lab_view.partner_problem(store, name, asked)
            if problem:
                state.notice(f"{problem} Showing the base; choose another store below, or take the hybrid away.")
            after = BASE if problem else asked
            added = lab_view.also(store, name)
            view = lab_view.LabView(store, task, after, k, ks, definition, pool, others[0] if others else "", added)
            method_builder.build(method_builder.Builder(store, "lab_method", partners=others), asked)
            row.command = view.command()
            row.facts = _facts(view)
            row.title = f"{store.label}, {name}: {view.after.label}{_change(view, row.facts)}"
        layout.store_facts(store)
        if name is not None:
            lab_view.facts(view)
    layout.store_warnings(store)
    if name is None:
        st.info(
            f"{safe.words(store.label)} holds no retrieval task. Build it again with `--tasks`, or from data that hold one.",
            icon=":material/info:",
        )
        st.stop()
    with guard("The comparison"):
        frame = recall_table.measured(view)
        if frame is None:
            st.stop()
    over_all, single, why, masked = st.tabs(list(TABS), **state.placed(state.TAB, TABS[0], TABS))
    if over_all.open:
        with over_all:
            st.markdown(recall_table.headline(view, frame))
            slots = recall_table.section(view, frame)
            concepts_meant.section(view)
            recall_curves.section(view)
            recall_table.complete(view, slots)
    if single.open:
        with single:
            query_lists.section(view)
    if why.open:
        with why:
            st.markdown(recall_table.headline(view, frame))
            diagnosis.section(view)
    if masked.open:
        with masked:
            masks.section(view)


def _facts(view: lab_view.LabView) -> dict[str, float]:
    """Numbers that a pinned view keeps; none where the method has no answer, which the page says below."""
    try:
        view.measured(view.after)
    except AnalysisError:
        return {}
    frame = view.recall_of((BASE, view.after))
    return {f"{row.method}, R@{row.k}": round(float(row.recall), 5) for row in frame.itertuples(index=False)}


def _change(view: lab_view.LabView, facts: dict[str, float]) -> str:
    """What stands behind the name of the view where it is pinned as a whole: recall before and after."""
    before, after = (facts.get(f"{method.label}, R@{view.k}") for method in (BASE, view.after))
    return "" if before is None or after is None else f", R@{view.k} {100 * before:.1f} → {100 * after:.1f} %"


with guard():
    main()
