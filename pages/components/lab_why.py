"""Why a candidate wins: what each concept gives to the similarity with the target and with the best wrong candidate."""

from __future__ import annotations

import streamlit as st

from analysis.errors import AnalysisError
from analysis.figures.export import selected_ids
from analysis.figures.pairs import pair_attribution
from analysis.figures.style import score
from analysis.live.ranking import Comparison
from analysis.live.why import Explanation, explain, explains
from analysis.retrieval.interventions import BASE
from pages.components import caching, concept_cards, downloads, gallery, method_builder, state
from pages.components.lab_view import LabView


def section(view: LabView, query: int, comparison: Comparison) -> None:
    """Bars of the target and of the rival, their difference, and the concept that was clicked."""
    st.subheader("Why does the winner win?", anchor=False)
    if not len(comparison.targets):
        st.caption("This query has no target in the pool, so there is nothing to compare the winner with.")
        return
    states = {"before": BASE, "after": view.after} if view.after.steps else {"before": BASE}
    which = st.segmented_control(
        "Explain the list", list(states), key="_lab_explain", default="before", required=True, label_visibility="collapsed",
        format_func={"before": "in the list before", "after": "in the list after"}.__getitem__,
    )  # fmt: skip
    which = which or "before"
    reason = explains(states[which])
    if reason:
        st.caption(reason)
        return
    try:
        found = explain(view.lab, comparison, which, states[which])
    except AnalysisError as error:
        st.caption(str(error))
        return
    _pictures(view, found)
    ids = {*found.target.concept_ids.tolist(), *found.rival.concept_ids.tolist()}
    chart = pair_attribution(
        found.target,
        found.rival,
        names={i: caching.concept_name(view.store, i) for i in ids},
        captions=("target", "wrong winner" if found.rival_wins else "runner-up"),
        data=view.store.caption,
    )
    left, right = st.columns([5, 2], gap="medium")
    with left:
        event = downloads.figure(
            chart,
            f"{view.store.name}-{view.name}-why-{query}-{which}",
            command=view.command(query, more=f" --why {which}"),
            select=("points",),
        )
    with right:
        _concept(view, selected_ids(event), found)


def _pictures(view: LabView, found: Explanation) -> None:
    """Target and rival, so that the bars below have faces."""
    for column, name, candidate, similarity in zip(
        st.columns(2, gap="medium"),
        ("Target", "Wrong winner" if found.rival_wins else "Runner-up"),
        (found.target_candidate, found.rival_candidate),
        (found.target.similarity, found.rival.similarity),
        strict=True,
    ):
        row = int(view.task.candidate_rows[candidate])
        with column, st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
            picture = caching.picture(view.store, row)
            if picture:
                st.image(picture, width=64, alt=gallery.alt(view.store, row))
            words = gallery.escape(caching.description(view.store, row), 140)
            color = "green" if name == "Target" else "orange"
            st.markdown(f":{color}-badge[{name}] {words}  \n:gray[cosine {score(similarity)}]")


def _concept(view: LabView, clicked: list[int], found: Explanation) -> None:
    """The clicked concept, or the one that speaks most against the target."""
    concept = clicked[0] if clicked else found.loudest_against
    if concept is None:
        return
    st.caption("Clicked:" if clicked else "Speaks most against the target; click a bar for another:")
    given = (float(pair.contribution[pair.concept_ids == concept].sum()) for pair in (found.target, found.rival))
    state.page_link(
        "concept", concept_cards.title(view.store, concept), icon=":material/center_focus_strong:",
        store=caching.store_id(view.store), concept=concept,
    )  # fmt: skip
    st.caption("Gives the target {}, the rival {}.".format(*map(score, given)))
    rows = concept_cards.top_rows(view.store, concept, 4)
    if rows:
        gallery.pictures(view.store, rows, width=72)
    if st.button(
        "Remove just it", icon=":material/content_cut:", key="_lab_remove_one",
        help="The intervention becomes the removal of this one concept's direction.",
    ):  # fmt: skip
        method_builder.remove_only(concept)
        st.rerun()
