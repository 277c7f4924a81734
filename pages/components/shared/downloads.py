"""A figure on a page: the chart, its caption, a picture of it at slide size, its data as CSV, its command, its pin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.errors import AnalysisError
from analysis.figures.export import figure_csv
from analysis.figures.style import caption_of, chart_config
from analysis.report.stills import FORMATS, MIME, still
from analysis.store.finding import Finding
from pages.components.shared import caching, pins, safe, state
from pages.components.shared.pins import Pin


def figure(
    chart: go.Figure,
    name: str,
    *,
    command: str = "",
    table: Callable[[], pd.DataFrame] | None = None,
    note: str = "",
    select: Sequence[Literal["points", "box", "lasso"]] = (),
    pin: Pin | None = None,
    on_slide: Callable[[], go.Figure] | None = None,
) -> Any:
    """Show a figure of analysis.figures, its caption, a Save and a Pin button. Returns the selection where `select` is given.

    name: of the files, and the chart's key. select: what a visitor may pick; a pick reruns the page or fragment.
    table: other data than what is plotted for the CSV. pin: what the page says about it, see pins.Pin. on_slide: makes
    what stands on a slide instead of a figure that is too tall for one; the pin's caption is then of that.
    """
    look: dict[str, Any] = {
        "theme": "streamlit", "config": chart_config(name), "key": f"figure_{name}", "alt": caption_of(chart),
    }  # fmt: skip
    if select:
        event: Any = st.plotly_chart(chart, on_select="rerun", selection_mode=tuple(select), **look)
    else:
        event = None
        st.plotly_chart(chart, **look)
    with st.container(horizontal=True, vertical_alignment="top", gap="small", wrap=False):
        st.caption(f"{note} {safe.words(caption_of(chart), 1200)}".strip(), width="stretch")
        save(name, chart=chart, table=table, command=command, pin=pin, on_slide=on_slide)
    return event


def save(
    name: str,
    *,
    chart: go.Figure | None = None,
    table: Callable[[], pd.DataFrame] | None = None,
    command: str = "",
    pin: Pin | None = None,
    on_slide: Callable[[], go.Figure] | None = None,
) -> None:
    """Two small buttons: everything one may take away from a figure or a table, and its pin."""

    if state.bare():
        return

    def data() -> str:
        if table is not None:
            return table().to_csv(index=False)
        return figure_csv(chart) if chart is not None else ""

    kept = None
    if chart is not None:
        kept = pins.figure(chart, pin, title=caption_of(chart), command=command, on_slide=on_slide)
    elif table is not None:
        kept = pins.table(table, pin, title=name, command=command)
    with st.popover(
        "Save", icon=":material/download:", type="tertiary", help="Files, and the command behind these numbers"
    ):
        if kept is not None:
            _pictures(name, kept, FORMATS if chart is not None else FORMATS[1:])
        st.download_button(
            "Data as CSV",
            data,
            f"{name}.csv",
            "text/csv",
            key=f"csv_{name}",
            icon=":material/table:",
            on_click="ignore",
        )
        if command:
            st.caption("The command that reproduces these numbers:")
            st.code(command, language=None, wrap_lines=True)
    if kept is not None:
        pins.button(name, kept)


def keep(name: str, pin: Pin) -> None:
    """Save and Pin of a list or a table that is no figure: its picture at slide size, and the finding."""
    with st.container(horizontal=True, gap="small", width="content"):
        if not state.bare():
            with st.popover("Save", icon=":material/download:", type="tertiary", help="As a picture at slide size"):
                _pictures(name, pin, FORMATS[1:])
        pins.button(name, pin)


def _pictures(name: str, pin: Pin, kinds: Sequence[str]) -> None:
    """A button a format. The picture is drawn when it is pressed, as the slide of a deck would be."""
    try:
        caching.chromium()
    except AnalysisError as error:
        st.caption(safe.sentence(error))
        return
    st.caption("A picture at slide size, with title, caption and data inside; drawing takes some seconds.")
    made = pins.still(pin)
    with st.container(horizontal=True, gap="small"):
        for kind in kinds:
            st.download_button(
                kind.upper(), partial(_drawn, made, kind), f"{name}.{kind}", MIME[kind], key=f"{kind}_{name}",
                icon=":material/image:", on_click="ignore",
            )  # fmt: skip


def _drawn(made: Callable[[], Finding], kind: str) -> bytes:
    return still(made(), kind)
