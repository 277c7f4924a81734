"""Why an intervention works or not: hubs, spectrum, gap and margins before and after, each with how to read it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analysis.errors import AnalysisError
from analysis.figures.diagnostics import diagnostic_panels
from analysis.figures.style import percent, score
from analysis.retrieval.evaluation.diagnostics import HUB_DEPTH, Diagnostics, hubs
from analysis.retrieval.evaluation.explanation import explanation_of
from analysis.retrieval.interventions import BASE
from pages.components.lab.lab_view import LabView
from pages.components.shared import caching, downloads, gallery, pins
from pages.components.shared.errors import guard

WORST = 6
COLUMNS = {
    "hubness": "hubs (skewness)", "worst_hub_share": "worst hub, share", "effective_rank": "effective rank",
    "modality_gap": "modality gap", "matched_cosine": "cosine, matched", "random_cosine": "cosine, random",
    "margin": "margin", "margin_in_spreads": "margin, in spreads",
}  # fmt: skip


@st.fragment
def section(view: LabView) -> None:
    with guard("The diagnostics", stop=False):
        if not st.toggle("Measure hubs, spectrum, gap and margins", key="_lab_diagnostics", value=_small(view)):
            st.caption("Takes some seconds at this size.")
            return
        states = {"base": caching.diagnosis(view.store, view.name, BASE, view.pool)}
        if view.after.steps:
            states[view.after.label] = caching.diagnosis(view.store, view.name, view.after, view.pool)
        chart = diagnostic_panels(states, data=view.data)
        found = list(states.values())
        command = view.command_for(" --diagnose")
        words = _headline(view, found[0], found[-1])
        downloads.figure(
            chart, f"{view.store.name}-{view.name}-diagnostics", command=command,
            pin=pins.Pin(sentence=words, measure=view.measure(view.after)),
        )  # fmt: skip
        st.markdown("\n".join(f"- {line}" for line in readings(found[0], found[-1])))
        if view.after.steps:
            beside = view.reference
            before = caching.diagnosis(view.store, view.name, beside, view.pool)
            change = view.change(view.after, beside)
            sentence = explanation_of(view.after, beside, before, found[-1], change, view.k)
            st.markdown(f"**{gallery.escape(sentence)}**")
        _side_by_side(view)
        for column, (label, shape) in zip(st.columns(2, gap="medium", border=True), states.items(), strict=False):
            with column:
                _hubs(view, label, shape)


def _headline(view: LabView, before: Diagnostics, after: Diagnostics) -> str:
    """Hubs and effective rank, for the title of a slide."""
    return (
        f"{view.store.label} on {view.name}, {view.after.label}: hubs (skewness) {_arrow(before.hubness, after.hubness)}, "
        f"effective rank {_arrow(before.effective_rank, after.effective_rank)}"
    )


def readings(before: Diagnostics, after: Diagnostics) -> list[str]:
    """One sentence a diagnostic: what it was and is, and how to read it."""
    hubs = (
        f"**Hubs** {_arrow(before.hubness, after.hubness)} (skewness): candidates that stand in many lists whatever is asked. "
        f"The worst one is in the top {HUB_DEPTH} of {percent(before.worst_hub_share)} → {percent(after.worst_hub_share)} of "
        "all queries; every place it takes is lost to a target. Less is better."
    )
    if not after.spectrum.size:
        return [hubs, *_of_a_hybrid(before, after)]
    distance = before.matched_cosine - before.random_cosine, after.matched_cosine - after.random_cosine
    return [
        hubs,
        f"**Effective rank** {_arrow(before.effective_rank, after.effective_rank)}: how many directions carry the embeddings. "
        "Near 1, all embeddings point the same way and similarities hardly differ. More is better up to a point: whitening "
        "also lifts directions that hold noise.",
        f"**Modality gap** {_arrow(before.modality_gap, after.modality_gap)}: distance of the mean query from the mean "
        "candidate. A gap by itself harms nothing while all candidates lie on one side; it matters in mixed pools.",
        f"**Cosines**: matched {_arrow(before.matched_cosine, after.matched_cosine)}, random "
        f"{_arrow(before.random_cosine, after.random_cosine)}. Their distance is what retrieval works with: "
        f"{_arrow(*distance)}, or {_arrow(before.distance_in_spreads, after.distance_in_spreads)} spreads. One spread is the "
        "standard deviation of random cosines, a unit in which two spaces can be compared.",
        f"**Margin** {_arrow(before.margin_in_spreads, after.margin_in_spreads)} spreads (cosines: "
        f"{_arrow(before.margin, after.margin)}; median over queries): best target minus hardest wrong candidate. "
        "Negative: for half of the queries or more a wrong one wins.",
    ]


def _of_a_hybrid(before: Diagnostics, after: Diagnostics) -> list[str]:
    margin = (
        f"**Margin** {_arrow(before.margin_in_spreads, after.margin_in_spreads)} spreads of random scores (median over "
        "queries): best target minus hardest wrong candidate, after it in the fused score."
    )
    if np.isnan(after.margin):
        margin = "**Margin**: not defined after it. In a re-ranked list two models decide, so no one score orders it."
    return [
        "**Effective rank, modality gap, cosines**: not defined after it. A hybrid has no embeddings of its own.",
        margin,
    ]


def _side_by_side(view: LabView) -> None:
    """The same numbers of every row of the results table, controls and added rows included."""
    rows, left_out = [], []
    for method in view.methods:
        try:
            shape = caching.diagnosis(view.store, view.name, method, view.pool)
        except AnalysisError as error:
            left_out.append(f"{method.label}: {error}")
            continue
        rows.append(
            {"method": method.label, **{words: _number(getattr(shape, name)) for name, words in COLUMNS.items()}}
        )
    with st.expander("Every method of the table", expanded=False):
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, width="stretch", alt="Diagnostics of every method",
            column_config={words: st.column_config.TextColumn(alignment="right") for words in COLUMNS.values()},
        )  # fmt: skip
        command = view.command_for(" --diagnose")
        words = f"Shape of the embeddings of {view.store.label} on {view.name} after every method"
        pins.button(
            "every-diagnostic", pins.table(lambda: pd.DataFrame(rows), pins.Pin(sentence=words), command=command)
        )
        notes = [*left_out]
        if any(method.hybrid for method in view.methods):
            notes.append(
                "A dash is not defined: a hybrid has no embeddings of its own, and a re-ranked list no one score."
            )
        if any(len(method.seeds()) > 1 for method in view.methods):
            notes.append("Of a random control the first seed.")
        st.caption(" ".join(notes) or "Cosines after each method, of unit embeddings.")


def _hubs(view: LabView, label: str, shape: Diagnostics) -> None:
    """The candidates that stand in most lists, as pictures; of a caption the picture that it describes stands beside it."""
    st.markdown(f"**Worst hubs: {gallery.escape(label)}**")
    worst = hubs(shape.occurrences, len(view.task.query_rows), n=WORST)
    rows = [int(view.task.candidate_rows[candidate]) for candidate in worst["candidate"]]
    shares = [percent(share) for share in worst["share"]]
    if rows and all(caching.picture(view.store, row) for row in rows):
        gallery.pictures(view.store, rows, captions=[f"in {share} of lists" for share in shares], width=96)
        return
    for row, share in zip(rows, shares, strict=True):
        with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
            shown = caching.picture_of(view.store, row)
            if shown >= 0:
                st.image(caching.picture(view.store, shown), width=56, alt=gallery.alt(view.store, shown))
            words = gallery.escape(caching.description(view.store, row), 140)
            what = "caption" if shown != row else "candidate"
            st.markdown(
                f"{words}  \n:gray[this {what} is in the top {HUB_DEPTH} of {share} of all queries]", width="stretch"
            )


def _arrow(before: float, after: float) -> str:
    same = before == after or (np.isnan(before) and np.isnan(after))
    return _number(before) if same else f"{_number(before)} → {_number(after)}"


def _number(value: float) -> str:
    return score(value).replace("-", "\N{MINUS SIGN}")


def _small(view: LabView) -> bool:
    """Whether measuring takes no time worth asking for."""
    width = view.store.embeddings("mean", view.task.query_rows[:1]).shape[1]
    return (len(view.task.query_rows) + len(view.task.candidate_rows)) * width < 10_000_000
