"""Small pictures beside the bars of a chart."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

ROOM = 0.3  # share of the chart's width that the pictures take at its right
ROW = 36  # pixels of a bar's row: less, and nobody sees what a picture shows
_FILL = 0.92  # of the row's height that a picture takes


def beside_bars(figure: go.Figure, pictures: Mapping[int, str]) -> go.Figure:
    """The chart with a picture at the right of each bar's row; as it is where there is none.

    figure: horizontal bars whose customdata are ids, one trace. pictures: id -> data URI; "" and missing ids are left out.
    """
    (bars,) = figure.data
    rows = {row: pictures[int(i)] for row, i in enumerate(bars.customdata) if pictures.get(int(i))}
    if not rows:
        return figure
    layout = figure.layout.to_plotly_json()
    layout["height"] = max(layout["height"], 80 + ROW * max(2, len(bars.customdata)))
    layout["xaxis"]["domain"] = [0, 1 - ROOM]
    layout["images"] = [
        {
            "source": source, "xref": "paper", "x": 1 - ROOM + 0.02, "xanchor": "left", "sizex": ROOM - 0.02,
            "yref": "y", "y": row, "yanchor": "middle", "sizey": _FILL, "sizing": "contain",
        }
        for row, source in rows.items()
    ]  # fmt: skip
    figure.layout = layout
    return figure
