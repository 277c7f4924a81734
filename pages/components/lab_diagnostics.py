"""Why an intervention works: hubs, spectrum, gap and margins before and after, each with how to read it."""

from __future__ import annotations

import streamlit as st

from analysis.figures.diagnostics import diagnostic_panels
from analysis.figures.style import percent, score
from analysis.retrieval.diagnostics import HUB_DEPTH, Diagnostics, hubs
from analysis.store import Store
from pages.components import caching, downloads, gallery
from pages.components.errors import guard
from pages.components.lab_view import LabView

WORST = 6


@st.fragment
def section(view: LabView) -> None:
    with guard("The diagnostics", stop=False):
        if not st.toggle("Measure hubs, spectrum, gap and margins", key="_lab_diagnostics", value=_small(view)):
            st.caption("Takes some seconds at this size.")
            return
        states = {"base": caching.diagnosis(view.store, view.name, "base", view.pool)}
        if view.after.steps:
            states[view.after.label] = caching.diagnosis(view.store, view.name, view.after.spec, view.pool)
        chart = diagnostic_panels(states, data=view.data)
        downloads.figure(chart, f"{view.store.name}-{view.name}-diagnostics", command=view.command_for(" --diagnose"))
        found = list(states.values())
        st.markdown("\n".join(f"- {line}" for line in readings(found[0], found[-1])))
        for column, (label, shape) in zip(st.columns(2, gap="medium", border=True), states.items(), strict=False):
            with column:
                _hubs(view.store, view, label, shape)


def readings(before: Diagnostics, after: Diagnostics) -> list[str]:
    """One sentence a diagnostic: what it was and is, and how to read it."""
    return [
        f"**Hubs** {_arrow(before.hubness, after.hubness)} (skewness): candidates that stand in many lists whatever is asked. "
        f"The worst one is in the top {HUB_DEPTH} of {percent(before.worst_hub_share)} → {percent(after.worst_hub_share)} of "
        "all queries; every place it takes is lost to a target. Less is better.",
        f"**Effective rank** {_arrow(before.effective_rank, after.effective_rank)}: how many directions carry the embeddings. "
        "Near 1, all embeddings point the same way and similarities hardly differ. More is better up to a point: whitening "
        "also lifts directions that hold noise.",
        f"**Modality gap** {_arrow(before.modality_gap, after.modality_gap)}: distance of the mean query from the mean "
        "candidate. A gap by itself harms nothing while all candidates lie on one side; it matters in mixed pools.",
        f"**Cosines**: matched {_arrow(before.matched_cosine, after.matched_cosine)}, random "
        f"{_arrow(before.random_cosine, after.random_cosine)}. Their distance is what retrieval works with: "
        f"{_arrow(before.matched_cosine - before.random_cosine, after.matched_cosine - after.random_cosine)}.",
        f"**Margin** {_arrow(before.margin, after.margin)} (median over queries): best target minus hardest wrong candidate. "
        "Negative: for half of the queries or more a wrong one wins.",
    ]


def _hubs(store: Store, view: LabView, label: str, shape: Diagnostics) -> None:
    st.markdown(f"**Worst hubs: {gallery.escape(label)}**")
    worst = hubs(shape.occurrences, len(view.task.query_rows), n=WORST)
    rows = [int(view.task.candidate_rows[candidate]) for candidate in worst["candidate"]]
    shares = [f"in {percent(share)} of lists" for share in worst["share"]]
    if any(caching.picture(store, row) for row in rows):
        gallery.pictures(store, rows, captions=shares, width=96)
        return
    for row, share in zip(rows, worst["share"], strict=True):
        words = gallery.escape(caching.description(store, row), 140)
        st.markdown(f"{words}  \n:gray[in the top {HUB_DEPTH} of {percent(share)} of all queries]")


def _arrow(before: float, after: float) -> str:
    text = f"{score(before)} → {score(after)}" if before != after else score(before)
    return text.replace("-", "\N{MINUS SIGN}")


def _small(view: LabView) -> bool:
    """Whether measuring takes no time worth asking for."""
    width = view.store.embeddings("mean", view.task.query_rows[:1]).shape[1]
    return (len(view.task.query_rows) + len(view.task.candidate_rows)) * width < 10_000_000
