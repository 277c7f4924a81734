"""All methods over all queries: bars, the table with intervals and paired differences, and rows to add."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.errors import AnalysisError
from analysis.figures.recall import recall_bars, recall_table
from analysis.figures.style import interval, percent, points
from analysis.retrieval.catalogue import catalogue
from analysis.retrieval.controls import controls
from analysis.retrieval.interventions import parse
from analysis.retrieval.steps import Removal
from pages.components import caching, downloads, lab_view
from pages.components.lab_view import LabView

MOST_ROWS = 24


def measured(view: LabView) -> pd.DataFrame | None:
    """The frame without the rows that have no answer on this store; each of those is one sentence."""
    good = []
    for spec in view.specs[:MOST_ROWS]:
        try:
            view.measured(spec)
            good.append(spec)
        except AnalysisError as error:
            st.warning(f"{parse(spec).label}: {error}", icon=":material/block:")
    if "base" not in good or view.after.spec not in good:
        return None
    return view.recall_of(tuple(good))


def section(view: LabView, frame: pd.DataFrame) -> None:
    """Bars and table of the frame that `measured` gave."""
    downloads.figure(
        recall_bars(frame, data=view.data, definition=view.definition),
        f"{view.store.name}-{view.name}-recall",
        command=view.command(),
        table=lambda: frame,
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("**Methods side by side**", width="content")
        _adding(view)
    st.dataframe(_readable(frame), hide_index=True, width="stretch", alt="Recall of every method with its interval")
    st.caption(
        "Percent with the 95 % bootstrap interval over queries; change: paired with the base over the same queries. Random "
        "controls: mean of their seeds, the range of the seeds in brackets."
    )


def headline(view: LabView, frame: pd.DataFrame) -> str:
    """What the view's intervention does at the view's k, in one computed sentence."""
    rows = frame[frame["k"] == view.k].set_index("spec")
    base, after = rows.loc["base"], rows.loc[view.after.spec]
    if not view.after.steps:
        return f"Recall@{view.k} of the base is **{percent(base['recall'])}**. Switch on a method to compare."
    bounds = interval(after["difference_low"], after["difference_high"])
    sure = after["difference_low"] > 0 or after["difference_high"] < 0
    verdict = "" if sure else " The interval holds 0: this data cannot tell it from no change."
    return (
        f"Recall@{view.k} goes from **{percent(base['recall'])}** to **{percent(after['recall'])}**, "
        f"{points(after['difference'])} points {bounds}.{verdict}"
    )


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as people read them, one row a method."""
    wide = recall_table(frame)
    bands = frame.set_index(["method", "k"])
    shown = pd.DataFrame({"method": wide["method"]})
    for k in sorted(frame["k"].unique()):
        spread = [bands.loc[(method, k), ["band_low", "band_high"]] for method in wide["method"]]
        around = [
            f"({interval(part['band_low'], part['band_high']).strip('[]')})" if part.notna().all() else text
            for part, text in zip(spread, wide[f"R@{k} interval"], strict=True)
        ]
        shown[f"R@{k}"] = [f"{v:.1f} {text}" for v, text in zip(wide[f"R@{k} (%)"], around, strict=True)]
        shown[f"change@{k}"] = [
            f"{points(v / 100)} {text}"
            for v, text in zip(wide[f"R@{k} change"], wide[f"R@{k} change interval"], strict=True)
        ]
    lost = frame.drop_duplicates("spec").set_index("method")["void"]
    if (lost > 0).any():
        shown["without direction"] = [int(lost.get(method, 0)) for method in wide["method"]]
    return shown


def _adding(view: LabView) -> None:
    removal = next((step for step in view.after.steps if isinstance(step, Removal)), Removal())
    with st.popover("Add rows", icon=":material/add:", type="tertiary"):
        for label, specs in _groups(view, removal).items():
            st.button(label, on_click=lab_view.add_rows, args=(specs,), width="stretch", type="tertiary")
    st.button(
        "Keep this one", on_click=lab_view.add_rows, args=((view.after.spec,),), type="tertiary",
        icon=":material/add_row_below:", help="Keeps the method in view as a row while you change it.",
    )  # fmt: skip
    if lab_view.also():
        st.button("Clear added", on_click=lab_view.clear_rows, type="tertiary", icon=":material/clear_all:")


def _groups(view: LabView, removal: Removal) -> dict[str, tuple[str, ...]]:
    """What may be added at once: the controls of the removal in view, and every group of the catalogue."""
    space = caching.task_space(view.store, view.name, view.pool)
    groups = {
        "Every control of this removal": controls(removal),
        **catalogue(space, removal=removal, partner=view.partner),
    }
    return {label: tuple(item.spec for item in methods) for label, methods in groups.items()}
