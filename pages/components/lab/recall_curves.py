"""Recall along one setting of the view's intervention, with its controls and the r that other queries chose."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.errors import AnalysisError
from analysis.figures.palette import method_style
from analysis.figures.recall import recall_curve, sweep_curve
from analysis.figures.style import Curve, interval, percent, points
from analysis.retrieval.evaluation.bootstrap import Interval
from analysis.retrieval.evaluation.curves import (
    WHOLE,
    Curves,
    RankChoice,
    all_settings,
    axis_of,
    behind,
    is_slow,
    levels,
    settings_for,
    step_of,
)
from pages.components.lab.lab_view import LabView
from pages.components.shared import caching, downloads, layout, pins, state
from pages.components.shared.errors import guard

AT_ONCE = 10_000_000  # up to so many pairs a curve's controls are there sooner than the curve is drawn without them


@st.fragment
def section(view: LabView) -> None:
    kinds = settings_for(view.after)
    wanted = state.get(state.CURVE)
    kind = wanted if wanted in kinds else kinds[0]
    if wanted is not None and wanted not in all_settings():
        state.notice(f"The link asks for a curve over {state.shown(wanted)}, expected one of {', '.join(kinds)}.")
    st.session_state["_lab_curve"] = kind
    st.segmented_control(
        "Recall against", kinds, format_func=lambda name: axis_of(name, view.after), key="_lab_curve", required=True,
        on_change=lambda: state.put(state.CURVE, st.session_state["_lab_curve"]),
    )  # fmt: skip
    layout.refresh(view.command())
    asked = (
        view.store,
        view.name,
        kind,
        behind(kind, view.after, view.space),
        view.ks,
        view.definition,
        view.pool,
    )
    if is_slow(kind, view.after, view.pairs) and not _wanted(view, kind):
        return
    with guard("The curve", stop=False):
        found: Curves = caching.lab_curves(*asked)
        known: set = st.session_state.setdefault("_lab_bands", set())
        token = (caching.store_id(view.store), *asked[1:3], asked[3].spec, *asked[4:])
        slot = st.empty()
        if token not in known and view.pairs > AT_ONCE:  # the picture first: its control replaces it a moment later
            with slot.container():
                _draw(view, kind, found, None, name="first-curve")
        band = caching.lab_band(*asked)
        known.add(token)
        with slot.container():
            _draw(view, kind, found, band)


def _wanted(view: LabView, kind: str) -> bool:
    """Whether somebody asked for a curve that takes a minute."""
    asked: set = st.session_state.setdefault("_lab_slow_curves", set())
    token = (caching.store_id(view.store), view.name, view.pool, kind, behind(kind, view.after, view.space).spec)
    if token in asked:
        return True
    st.caption(
        f"{view.pairs:,} pairs: every point of this curve is a measurement of its own, of some seconds. Another click on the "
        "page ends it; what is measured by then is kept."
    )
    st.button("Measure the curve", on_click=asked.add, args=(token,), icon=":material/show_chart:")
    return False


def _draw(view: LabView, kind: str, found: Curves, band: pd.DataFrame | None, *, name: str = "curve") -> None:
    chart = view.drawn(
        ("curve", kind, view.k, view.after.spec, band is not None), lambda: _chart(view, kind, found, band)
    )
    choice = found.choice.get(view.k)
    said = _chosen(choice, WHOLE in found.curves) if choice is not None else ""
    words = said or f"Recall@{view.k} of {view.store.label} on {view.name} against {found.axis}"
    downloads.figure(
        chart, f"{view.store.name}-{view.name}-{name}-{kind}", command=view.command_for(f" --curve {kind}"),
        pin=pins.Pin(sentence=words, measure=view.measure(view.after)),
    )  # fmt: skip
    if said:
        st.markdown(said)
    if WHOLE in found.curves:
        st.caption(
            f"“{WHOLE[0].upper()}{WHOLE[1:]}” is the view's whole method while this one setting moves. The first line, and the "
            "controls of it, are of this step alone."
        )
    elif step_of(kind, view.after).acts != "lists" and len(view.after.steps) > 1:
        st.caption("The curve is of this step alone: the other steps of the view are left out.")


def _chart(view: LabView, kind: str, found: Curves, band: pd.DataFrame | None) -> go.Figure:
    choice = found.choice.get(view.k)
    return recall_curve(
        [sweep_curve(table, k=view.k, label=name) for name, table in found.curves.items()],
        title=found.axis,
        percent=kind == "share",
        k=view.k,
        bands=[] if band is None else [_band(f"random concepts, {band.attrs['seeds']} seeds", band, view.k)],
        levels=_levels(view, kind),
        current=_now(view, kind, found),
        chosen=float(choice.r) if choice is not None and choice.r else None,
        data=view.data,
    )


def _chosen(choice: RankChoice, whole: bool) -> str:
    """The honest number beside the one that flatters: r from one half of the queries, recall on both halves."""

    def recall(found: Interval) -> str:
        return f"{percent(float(found.value))} {interval(float(found.low), float(found.high))}"

    here = (
        f"On the half that chose ({choice.n_chosen_on:,} queries): Recall@{choice.k} {recall(choice.where_chosen)}, base "
        f"{recall(choice.base_where_chosen)}."
    )
    there = f"**On the other half** ({choice.n_reported:,}): {recall(choice.reported)}, base {recall(choice.base)}"
    steps = f" {WHOLE}" if whole else ""
    if choice.r == 0:
        return f"**r chosen on one half{steps}: 0**, removing nothing is best there. {here} {there}."
    change = choice.difference
    return (
        f"**r chosen on one half{steps}: {choice.r}**. {here} {there}, difference {points(float(change.value))} points "
        f"{interval(float(change.low), float(change.high))}."
    )


def _now(view: LabView, kind: str, found: Curves) -> float | None:
    """Where the view's own setting stands on the curve; None where the view has no such step."""
    step = step_of(kind, view.after)
    if step not in view.after.steps:
        return None
    value = getattr(step, kind)
    return float(value if value is not None else (found.now or 0)) or None


def _levels(view: LabView, kind: str) -> list[Curve]:
    """Methods that depend on no setting of the curve, as horizontal lines; those without an answer are left out."""
    good = []
    for method in levels(kind, view.after):
        try:
            view.measured(method)
            good.append(method)
        except AnalysisError:  # the table says why
            continue
    frame = view.recall_of(tuple(good))
    return [
        Curve(row.method, np.zeros(1), np.array([row.recall]), method_style(row.method))
        for row in frame[frame["k"] == view.k].itertuples(index=False)
    ]


def _band(name: str, table: pd.DataFrame, k: int) -> Curve:
    part = table[table["k"] == k]
    return Curve(
        name, part["x"].to_numpy(), part["recall"].to_numpy(), method_style(name),
        part["band_low"].to_numpy(), part["band_high"].to_numpy(),
    )  # fmt: skip
