"""All methods over all queries: bars, the table with intervals and paired differences, and rows to add."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from analysis.errors import AnalysisError
from analysis.figures.recall import recall_bars, recall_table
from analysis.figures.style import interval, percent, points, seed_range
from analysis.retrieval.evaluation.catalogue import catalogue
from analysis.retrieval.evaluation.controls import controls, default_removal, first_stage_alone
from analysis.retrieval.interventions import BASE, Intervention
from pages.components.lab import lab_view
from pages.components.lab.lab_view import LabView
from pages.components.shared import caching, downloads, pins, safe

MOST_ROWS = 24


@dataclass(frozen=True)
class Slots:
    """Where bars, table and a note stand, to be filled again when more rows are measured."""

    chart: Any
    table: Any
    note: Any


def measured(view: LabView) -> pd.DataFrame | None:
    """The frame of the rows that are there at once. A row that has no answer on this store is one sentence."""
    late = view.late
    good = []
    for method in view.methods[:MOST_ROWS]:
        if method in late and method != view.after:
            continue
        try:
            view.measured(method)
            good.append(method)
        except AnalysisError as error:
            st.warning(safe.sentence(f"{method.label}: {error}"), icon=":material/block:")
    if BASE not in good or view.after not in good:
        return None
    return view.recall_of(tuple(good))


def section(view: LabView, frame: pd.DataFrame) -> Slots:
    """Bars and table of the frame that `measured` gave."""
    chart = st.empty()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("**Methods side by side**", width="content")
        _adding(view)
    slots = Slots(chart, st.empty(), st.empty())
    _draw(view, frame, slots, "first-recall" if view.late else "recall")
    words = (
        "Percent with the 95 % bootstrap interval over queries; change: paired with the base over the same queries. Random "
        "controls: mean of their seeds, with the range of the seeds instead of an interval."
    )
    if view.control is not None and len(view.after.steps) > 1 and view.controlled != view.after:
        words += " On a task of this size the random control is of the removal alone, without the other steps."
    if view.untrained_problem:
        words += f" {safe.sentence(view.untrained_problem)}"
    if len(view.methods) > MOST_ROWS:
        words += f" The first {MOST_ROWS} of {len(view.methods)} rows are shown; the command prints all."
    st.caption(words)
    return slots


def complete(view: LabView, slots: Slots) -> None:
    """Measure the rows that take seconds, seed by seed, and draw bars and table again with them."""
    late = view.late
    for method in late:
        seeds = method.seeds()
        try:
            for number, seed in enumerate(seeds, start=1):
                with slots.note.container():
                    st.caption(f"Measuring {safe.words(method.label)}: seed {number} of {len(seeds)}.")
                    view.measured(seed)
        except AnalysisError as error:
            slots.note.warning(safe.sentence(f"{method.label}: {error}"), icon=":material/block:")
            return
        view.measured_late(method)
    if late:
        slots.note.empty()
        frame = measured(view)
        if frame is not None:
            _draw(view, frame, slots, "recall")


def _draw(view: LabView, frame: pd.DataFrame, slots: Slots, name: str) -> None:
    with slots.chart.container():
        downloads.figure(
            view.drawn(
                ("bars", *frame["spec"].unique()),
                partial(recall_bars, frame, data=view.data, definition=view.definition),
            ),
            f"{view.store.name}-{view.name}-{name}",
            command=view.command(),
            table=lambda: frame,
            pin=pins.Pin(sentence=headline(view, frame), measure=view.measure(view.after)),
        )
    shown = view.drawn(("table", view.k, *frame["spec"].unique()), partial(_readable, frame, view.k))
    with slots.table.container():
        _table(view, frame, shown, name)


def _table(view: LabView, frame: pd.DataFrame, shown: pd.DataFrame, name: str) -> None:
    st.dataframe(
        shown, hide_index=True, width="stretch", height="content", alt="Recall of every method with its interval",
        column_config={
            name: st.column_config.TextColumn(
                width=_width(shown[name]), alignment="left" if name == "method" else "right", pinned=name == "method"
            )
            for name in shown.columns
        },
    )  # fmt: skip
    pin = pins.Pin(
        title=f"{view.store.label}, {view.name}: every method", sentence=headline(view, frame), command=view.command(),
        measure=view.measure(view.after), caption=f"Percent with 95 % intervals over queries; {view.data}.",
    )  # fmt: skip
    downloads.keep(f"methods-{name}", pins.table(lambda: shown, pin))


def headline(view: LabView, frame: pd.DataFrame) -> str:
    """What the view's intervention does at the view's k, in one computed sentence, under the method's whole name."""
    rows = frame[frame["k"] == view.k].set_index("spec")
    base, after = rows.loc["base"], rows.loc[view.after.spec]
    if not view.after.steps:
        return f"Recall@{view.k} of the base is **{percent(base['recall'])}**. Choose a method to compare."
    if view.after.hybrid is not None and view.after != first_stage_alone(view.after):
        return f"{safe.words(view.after.label)}: {_of_two_models(view, rows)}"
    bounds = interval(after["difference_low"], after["difference_high"])
    sure = after["difference_low"] > 0 or after["difference_high"] < 0
    verdict = "" if sure else " The interval holds 0: this data cannot tell it from no change."
    return (
        f"{safe.words(view.after.label)}: Recall@{view.k} goes from **{percent(base['recall'])}** to "
        f"**{percent(after['recall'])}**, {points(after['difference'])} points {bounds}.{verdict}"
    )


def _width(column: pd.Series) -> int:
    """Pixels that the longest cell takes, a long name cut: columns that fit themselves cut what is aligned to the right."""
    return min(440, 28 + 7 * max(len(str(column.name)), *map(len, column.astype(str))))


def _of_two_models(view: LabView, rows: pd.DataFrame) -> str:
    """A hybrid is worth what it adds to the better of its two models, whatever it adds to this one."""
    first, own = first_stage_alone(view.after), view.after.without_hybrid()
    assert first is not None
    names = {
        own.spec: "this model with the other steps" if own.steps else "this model alone",
        first.spec: safe.words(first.label),
    }
    known = {spec: rows.loc[spec, "recall"] for spec in names if spec in rows.index}
    both = ", ".join(f"{names[spec]} **{percent(recall)}**" for spec, recall in known.items())
    better = view.reference
    pair = view.change(view.after, better)
    change = f"{points(pair['difference'])} points {interval(pair['difference_low'], pair['difference_high'])}"
    verdict = "better than either alone"
    if pair["difference_high"] < 0:
        verdict = f"{names[better.spec]} would do better by itself"
    elif pair["difference_low"] <= 0:
        verdict = f"the interval holds 0: this data cannot tell it from {names[better.spec]}"
    together = percent(rows.loc[view.after.spec, "recall"])
    return f"Recall@{view.k} of both models together is **{together}**: {both}. To the better one {change}: {verdict}."


def _readable(frame: pd.DataFrame, k_first: int) -> pd.DataFrame:
    """Numbers as people read them, one row a method; the cut-off in view first, where a narrow screen shows it."""
    wide = recall_table(frame)
    keys, bands = zip(frame["method"], frame["k"], strict=True), zip(frame["band_low"], frame["band_high"], strict=True)
    spread = {key: seed_range(*band) for key, band in zip(keys, bands, strict=True)}
    shown = pd.DataFrame({"method": wide["method"]})
    for k in sorted(frame["k"].unique(), key=lambda k: (k != k_first, k)):
        around = [
            spread[method, k] or text for method, text in zip(wide["method"], wide[f"R@{k} interval"], strict=True)
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
    with st.popover("Add rows", icon=":material/add:", type="tertiary"):
        for label, methods in _groups(view).items():
            st.button(label, on_click=lab_view.add_rows, args=(methods,), width="stretch", type="tertiary")
    st.button(
        "Keep this one", on_click=lab_view.add_rows, args=((view.after,),), type="tertiary",
        icon=":material/add_row_below:", help="Keeps the method in view as a row while you change it.",
    )  # fmt: skip
    if lab_view.also(view.store, view.name):
        st.button("Clear added", on_click=lab_view.clear_rows, type="tertiary", icon=":material/clear_all:")


def _groups(view: LabView) -> dict[str, tuple[Intervention, ...]]:
    """What may be added at once: the controls of the set of concepts in view, and every group of the catalogue."""
    chosen = default_removal(view.after)
    groups = catalogue(view.space, removal=chosen, partner=view.partner)
    try:
        projection = Intervention((chosen,)).single_projection
        r = 2 if projection is None else caching.directions_removed(view.store, view.name, projection, view.pool)
    except AnalysisError:
        r = 0
    if r:  # components that take as many dimensions
        beside = controls(chosen, n_concepts=view.store.n_concepts, components=r, within=view.controlled)
        if view.untrained_problem:  # said below the table
            beside = tuple(method for method in beside if method != view.untrained)
        groups = {"Every control of this method": beside, **groups}
    return groups
