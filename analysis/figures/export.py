"""What a figure holds, as rows for CSV, and what a click on it means, as ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import DECORATION, caption_of


def figure_data(figure: go.Figure) -> pd.DataFrame:
    """The plotted data in long form: panel (if several), series, x, y, interval, label, id, as far as the figure has them.

    x and y are named after the axis titles where all panels share them. Decoration (bands, rings, edges) is left out;
    intervals come back as low and high of the measured value.
    """
    parts = [_rows(trace) for trace in figure.data if trace.meta != DECORATION]
    if not parts:
        return pd.DataFrame({"series": [], "x": [], "y": []})
    table = pd.concat(parts, ignore_index=True)
    if table["panel"].nunique() > 1:
        table["panel"] = [_axis_title(figure, "x", axis) or axis for axis in table["panel"]]
    else:
        axis = table["panel"].iloc[0]
        titles = {name: _axis_title(figure, name, axis) or name for name in ("x", "y")}
        table = table.drop(columns="panel").rename(columns=titles)
    return table.dropna(axis="columns", how="all")


def figure_csv(figure: go.Figure) -> str:
    """figure_data as CSV, the caption as a comment in the first line."""
    return f"# {caption_of(figure)}\n" + figure_data(figure).to_csv(index=False)


def selected_ids(event: Mapping[str, Any] | None) -> list[int]:
    """Ids (customdata) of the points in a Streamlit chart selection, in the order clicked, each once; [] for none.

    event: what `st.plotly_chart(on_select=...)` returns. An id may arrive as a number, a list or a mapping of one
    (typed arrays become mappings on their way through JSON).
    """
    points = ((event or {}).get("selection") or {}).get("points") or []
    found = [_first(point.get("customdata")) for point in points]
    return list(dict.fromkeys(int(value) for value in found if value is not None and int(value) >= 0))


def _rows(trace: Any) -> pd.DataFrame:
    horizontal = trace.type == "bar" and trace.orientation == "h"
    x, y = (_array(trace[name]) for name in ("x", "y"))
    measured, error = (x, trace.error_x) if horizontal else (y, trace.error_y)
    above, below = (_array(error[name]) if error else np.zeros(0) for name in ("array", "arrayminus"))
    ids = _array(trace.customdata)
    columns: dict[str, Any] = {"panel": trace.xaxis or "x", "series": trace.name or "", "x": x, "y": y}
    if above.size:
        columns |= {"low": measured - below, "high": measured + above}
    for name, part in (("label", _array(trace.text)), ("id", ids if ids.ndim == 1 else np.zeros(0))):
        if part.size == x.size:
            columns[name] = part
    return pd.DataFrame(columns)


def _array(part: Any) -> np.ndarray:
    return np.zeros(0) if part is None else np.asarray(part)


def _axis_title(figure: go.Figure, letter: str, axis: str) -> str:
    """Title of the x or y axis of the panel that a trace's x axis ("x", "x2") belongs to."""
    return str(figure.layout[f"{letter}axis{axis.removeprefix('x')}"].title.text or "")


def _first(value: Any) -> Any:
    if isinstance(value, Mapping):
        return next(iter(value.values()), None)
    if isinstance(value, list | tuple):
        return value[0] if value else None
    return value
