"""A figure on a page: the chart, its caption, SVG and PNG from the browser, its data as CSV, the command behind it, its pin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.figures.export import figure_csv
from analysis.figures.style import caption_of, chart_config
from pages.components.shared import pins, safe, state
from pages.components.shared.pins import Pin

FORMATS = ("svg", "png")


def figure(
    chart: go.Figure,
    name: str,
    *,
    command: str = "",
    table: Callable[[], pd.DataFrame] | None = None,
    note: str = "",
    select: Sequence[Literal["points", "box", "lasso"]] = (),
    pin: Pin | None = None,
) -> Any:
    """Show a figure of analysis.figures, its caption, a Save and a Pin button. Returns the selection where `select` is given.

    name: of the files, and the chart's key. select: what a visitor may pick; a pick reruns the page or fragment.
    table: other data than what is plotted for the CSV. pin: what the page says about it, see pins.Pin.
    """
    kind = st.session_state.get(f"_format_{name}") or FORMATS[0]
    look: dict[str, Any] = {
        "theme": "streamlit", "config": chart_config(name, kind=kind), "key": f"figure_{name}", "alt": caption_of(chart),
    }  # fmt: skip
    if select:
        event: Any = st.plotly_chart(chart, on_select="rerun", selection_mode=tuple(select), **look)
    else:
        event = None
        st.plotly_chart(chart, **look)
    with st.container(horizontal=True, vertical_alignment="top", gap="small", wrap=False):
        st.caption(f"{note} {safe.words(caption_of(chart), 1200)}".strip(), width="stretch")
        save(name, chart=chart, table=table, command=command, pin=pin)
    return event


def save(
    name: str,
    *,
    chart: go.Figure | None = None,
    table: Callable[[], pd.DataFrame] | None = None,
    command: str = "",
    pin: Pin | None = None,
) -> None:
    """Two small buttons: everything one may take away from a figure or a table, and its pin."""

    if state.bare():
        return

    def data() -> str:
        if table is not None:
            return table().to_csv(index=False)
        return figure_csv(chart) if chart is not None else ""

    with st.popover(
        "Save", icon=":material/download:", type="tertiary", help="Files, and the command behind these numbers"
    ):
        if chart is not None:
            st.segmented_control(
                "Picture", FORMATS, default=FORMATS[0], required=True, key=f"_format_{name}", persist_state="session",
                help="What the camera in the chart's toolbar saves: SVG is sharp at any size, PNG has three times the size.",
            )  # fmt: skip
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
            st.code(command, language="bash", wrap_lines=True)
    if chart is not None:
        pins.button(name, pins.figure(chart, pin, title=caption_of(chart), command=command))
    elif table is not None:
        pins.button(name, pins.table(table, pin, title=name, command=command))
