"""Bridges between image concepts and text concepts as a two-sided graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.palette import IMAGE, SHARED, TEXT, rgba
from analysis.figures.style import DECORATION, concept_label, finish, sentence

_WIDTHS = (1.5, 2.5, 4.0, 6.0, 8.5)  # edges are drawn in five strengths: five traces, however many edges


def bridge_graph(
    bridges: pd.DataFrame, *, names: Mapping[int, str], weight: str = "bridge", top: int = 30, data: str = ""
) -> go.Figure:
    """The strongest bridges (Eq. 5) as a two-sided graph: image concepts left, text concepts right, width by weight.

    bridges: columns image_concept, text_concept and `weight`. Both sides are ordered by the mean position of their
    partners, which keeps crossings few. Nodes carry the concept id as customdata; a concept may stand on both sides.
    """
    edges = bridges.nlargest(top, weight)
    left = list(dict.fromkeys(edges["image_concept"].astype(int)))
    right = _beside(edges, "text_concept", "image_concept", left)
    left = _beside(edges, "image_concept", "text_concept", right)
    rows = max(len(left), len(right), 1)
    place = {
        side: {concept: (i + 0.5) * rows / max(1, len(order)) for i, concept in enumerate(order)}
        for side, order in (("image", left), ("text", right))
    }
    strength = edges[weight].to_numpy(float)
    top_strength = max(float(strength.max(initial=0)), 1e-30)
    level = np.minimum((strength / top_strength * len(_WIDTHS)).astype(int), len(_WIDTHS) - 1)
    figure = go.Figure()
    for step, width in enumerate(_WIDTHS):
        part = edges[level == step]
        points = [
            (xs, ys)
            for a, b in zip(part["image_concept"].astype(int), part["text_concept"].astype(int), strict=True)
            for xs, ys in ((0, place["image"][a]), (1, place["text"][b]), (None, None))
        ]
        figure.add_trace(
            go.Scatter(
                x=[p[0] for p in points], y=[p[1] for p in points], mode="lines", hoverinfo="skip", showlegend=False,
                line={"color": rgba(SHARED, 0.45 + 0.1 * step), "width": width}, name="bridges", meta=DECORATION,
            )
        )  # fmt: skip
    figure.add_trace(_edge_hover(edges, weight, place, names))
    for side, order, x, color, symbol in (("image", left, 0, IMAGE, "circle"), ("text", right, 1, TEXT, "diamond")):
        figure.add_trace(
            go.Scatter(
                x=[x] * len(order),
                y=[place[side][concept] for concept in order],
                mode="markers+text",
                marker={"color": color, "size": 13, "symbol": symbol},
                text=[concept_label(concept, names) for concept in order],
                textposition="middle left" if side == "image" else "middle right",
                customdata=order,
                name=f"{side} concepts",
                cliponaxis=False,
                hovertemplate="%{text}<extra>" + side + " concept</extra>",
                showlegend=False,
            )
        )
    figure.update_xaxes(range=[-0.75, 1.75], tickvals=[0, 1], ticktext=["image concepts", "text concepts"], side="top")
    figure.update_xaxes(showline=False, ticks="")
    figure.update_yaxes(range=[rows + 0.2, -0.2], visible=False)
    return finish(figure, caption=caption_for(len(edges), weight, data), height=100 + 26 * rows, legend=False)


def caption_for(n: int, weight: str, data: str = "") -> str:
    """What stands below a graph of n bridges."""
    return sentence(f"The {n} strongest bridges (Eq. 5), width by {weight.replace('_', ' ')}", data)


def picked(event: Mapping[str, Any] | None) -> tuple[int, ...]:
    """What a click on the graph means: (concept,) for a node, (image concept, text concept) for a line, () for nothing.

    event: what `st.plotly_chart(on_select=...)` returns; a list may arrive as a mapping on its way through JSON.
    """
    for point in ((event or {}).get("selection") or {}).get("points") or []:
        data = point.get("customdata")
        parts = list(data.values()) if isinstance(data, Mapping) else data if isinstance(data, list | tuple) else [data]
        if len(parts) in (1, 3) and parts[0] is not None:
            return tuple(int(part) for part in parts[-2:]) if len(parts) == 3 else (int(parts[0]),)
    return ()


def _beside(edges: pd.DataFrame, side: str, other: str, order: Sequence[int]) -> list[int]:
    """Concepts of `side`, sorted by the mean position of their partners in `order`."""
    position = {concept: i for i, concept in enumerate(order)}
    mean = edges[other].astype(int).map(position).groupby(edges[side].astype(int)).mean()
    return [int(concept) for concept in mean.sort_values(kind="stable").index]


def _edge_hover(
    edges: pd.DataFrame, weight: str, place: Mapping[str, Mapping[int, float]], names: Mapping[int, str]
) -> go.Scatter:
    pairs = list(zip(edges["image_concept"].astype(int), edges["text_concept"].astype(int), strict=True))
    return go.Scatter(
        x=[0.5] * len(pairs),
        y=[(place["image"][a] + place["text"][b]) / 2 for a, b in pairs],
        mode="markers",
        marker={"color": SHARED, "size": 14, "opacity": 0},  # a place to hover, the line itself has none
        text=[f"{concept_label(a, names)} ↔ {concept_label(b, names)}" for a, b in pairs],
        customdata=[[float(value), a, b] for value, (a, b) in zip(edges[weight], pairs, strict=True)],
        hovertemplate="%{text}<br>" + weight.replace("_", " ") + " %{customdata[0]:.3r}<extra></extra>",
        name="bridges",
        showlegend=False,
    )
