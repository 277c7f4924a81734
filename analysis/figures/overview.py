"""The three findings of the paper as figures: modality scores, concentration of energy, overlap of the top sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.palette import IMAGE, MODALITY_SCALE, TEXT, rgba
from analysis.figures.style import DECORATION, Curve, across, count, finish, line, sentence

LEVELS = (0.5, 0.9, 0.99)
OVERLAPS = {
    "energy_attribution": "J(E, A)",
    "energy_bridge": "J(E, B)",
    "attribution_bridge": "J(A, B)",
    "triple": "triple",
}
_MAX_DRAWN = 400  # points of a cumulative curve; beyond, log-spaced ranks look the same


@dataclass(frozen=True)
class JaccardTables:
    """Overlap of the top sets, measured here and published: two frames, because the numbers are two different things."""

    measured: pd.DataFrame  # model, share, reduction, J(E, A), J(E, B), J(A, B), triple
    published: pd.DataFrame  # model, source, the same four


def modality_kde(
    curves: Sequence[Curve], *, weighting: str = "concepts", data: str = "", height: int = 360
) -> go.Figure:
    """Densities of the modality score (Eq. 4) of several models, overlaid.

    curves: one per model, x = grid on [0, 1], y = density (integral 1). weighting: "concepts" (every live concept counts
    once) or "energy" (by its energy). The area runs from image blue to text red, the line tells the model.
    """
    weightings = {"concepts": "density of live concepts", "energy": "density of energy"}
    fade = 0.30 / max(1, len(curves)) ** 0.5
    figure = go.Figure(
        [
            line(
                curve,
                line_simplify=False,
                fill="tozeroy",
                fillgradient={
                    "type": "horizontal",
                    "start": 0.0,
                    "stop": 1.0,
                    "colorscale": [[stop, rgba(color, fade)] for stop, color in MODALITY_SCALE],
                },
                hovertemplate="modality score %{x:.2f}<br>density %{y:#.3r}<extra>" + curve.label + "</extra>",
            )
            for curve in curves
        ]
    )
    top = max((float(np.max(curve.y, initial=0)) for curve in curves), default=0.0) or 1.0
    layout = {
        "annotations": [
            {
                "x": at, "y": 1.13 * top, "text": f"<b>{words}</b>", "font": {"color": color}, "xanchor": anchor,
                "yanchor": "top", "showarrow": False,
            }
            for at, anchor, color, words in ((0.0, "left", IMAGE, "◀ image"), (1.0, "right", TEXT, "text ▶"))
        ],
        "shapes": [across(x=0.5)],
        "xaxis": {"range": [-0.005, 1.005], "tickvals": [0, 0.25, 0.5, 0.75, 1]},
        "yaxis": {"range": [0, 1.15 * top]},
    }  # fmt: skip
    what = "Modality scores of the live concepts without constant ones" + (
        ", weighted by energy" if weighting == "energy" else ""
    )
    return finish(
        figure,
        caption=sentence(f"{what} (Gaussian kernel, reflected at both ends)", data),
        x="modality score (0 = image, 1 = text), Eq. 4",
        y=weightings[weighting],
        height=height,
        layout=layout,
    )


def cumulative_energy(
    curves: Sequence[Curve], *, relative: bool = False, data: str = "", height: int = 360
) -> go.Figure:
    """Share of the total energy (Eq. 3) held by the n strongest concepts, log n; 50, 90 and 99 % are marked.

    curves: one per model, x = n (1..K), y = cumulative share in [0, 1]. relative: n as a share of the dictionary, which
    compares models of different K.
    """
    traces = []
    reached = [energy_readout(curve.y) for curve in curves]
    places = _readout_places([[at[level] for level in LEVELS] for at in reached], [len(c.y) for c in curves], relative)
    for curve, found, place in zip(curves, reached, places, strict=True):
        n = np.asarray(curve.x, float)
        share = np.asarray(curve.y, float)
        scale = 100 / n[-1] if relative and n.size else 1.0
        keep = _log_spaced(n.size)
        unit = "%{x:.2~f} % of concepts" if relative else "%{x:,.0f} concepts"
        traces.append(
            line(
                Curve(curve.label, n[keep] * scale, 100 * share[keep], curve.style),
                legendgroup=curve.label,
                hovertemplate=unit + " hold %{y:.1f} % of the energy<extra>" + curve.label + "</extra>",
            )
        )
        marks = [(level, at, where) for (level, at), where in zip(found.items(), place, strict=True) if at]
        words = [f" {at * scale:.2g} % " if relative else f" {count(at)} " for _, at, _ in marks]
        traces.append(
            go.Scatter(
                x=[at * scale for _, at, _ in marks],
                y=[100 * level for level, _, _ in marks],
                mode="markers+text",
                text=[text if where else "" for text, (_, _, where) in zip(words, marks, strict=True)],
                textposition=[where or "top left" for _, _, where in marks],
                marker={"color": curve.style.color, "symbol": curve.style.symbol, "size": 9},
                legendgroup=curve.label,
                showlegend=False,
                cliponaxis=False,
                hoverinfo="skip",
                name=curve.label,
                meta=DECORATION,
            )
        )
    ends = [np.log10(float(end)) for trace in traces if len(trace.x) for end in (trace.x[0], trace.x[-1])]
    log: dict[str, object] = {"type": "log", "dtick": 1}
    if ends:  # room on the right for the last readout
        log["range"] = [min(ends), max(ends) + 0.08 * (max(ends) - min(ends))]
    layout = {
        "shapes": [across(y=100 * level) for level in LEVELS],
        "xaxis": log,
        "yaxis": {"range": [0, 108], "tickvals": [0, 25, 50, 75, 90, 99], "showgrid": False},
    }
    return finish(
        go.Figure(traces),
        caption=sentence("Energy held by the strongest concepts; markers: where 50, 90 and 99 % are reached", data),
        x="strongest concepts, share of the dictionary (%, log scale)"
        if relative
        else "strongest concepts (number, log scale)",
        y="share of total energy (%), Eq. 3",
        height=height,
        layout=layout,
    )


def energy_readout(share: np.ndarray, levels: Sequence[float] = LEVELS) -> dict[float, int]:
    """How many of the strongest concepts reach each level; share (K,) cumulative and non-decreasing. 0: never reached."""
    share = np.asarray(share, float)
    n = np.searchsorted(share, np.asarray(levels) - 1e-12) + 1
    return {level: int(at) if at <= share.size else 0 for level, at in zip(levels, n, strict=True)}


def energy_table(curves: Sequence[Curve]) -> pd.DataFrame:
    """The readouts as a table: one row per model, concepts needed for 50, 90 and 99 % of the energy, dictionary size."""
    return pd.DataFrame(
        [
            {"model": curve.label}
            | {f"{level:.0%} of the energy": at for level, at in energy_readout(curve.y).items()}
            | {"concepts": len(curve.y)}
            for curve in curves
        ]
    )


def jaccard_table(measured: Sequence[dict[str, object]], published: pd.DataFrame) -> JaccardTables:
    """Overlap of the top sets (Eq. 7): what was measured here, and what the paper prints (Table 1).

    measured: one record per store with `model`, `share` (of K, e.g. 0.01), `reduction` (of the bridge) and the four of
    OVERLAPS. published: analysis.report.published.published("table1"), long form.
    """
    columns = ["model", "share", "reduction", *OVERLAPS.values()]
    here = pd.DataFrame([dict(record) for record in measured]).rename(columns=OVERLAPS).reindex(columns=columns)
    wide = published.pivot_table(index="model", columns="column", values="value", sort=False).reset_index()
    wide.columns.name = None
    wide.insert(1, "source", "paper, Table 1")
    return JaccardTables(here, wide[["model", "source", *OVERLAPS.values()]])


def _readout_places(reached: Sequence[Sequence[int]], sizes: Sequence[int], relative: bool) -> list[list[str]]:
    """Where the readouts of each model stand, per level: the first to reach it has its number above on the left, the last
    below on the right, so that they do not meet where curves cross; "" between them, and for more than three models."""
    n = len(reached)
    places = [[""] * len(LEVELS) for _ in range(n)]
    if n > 3:
        return places
    for slot in range(len(LEVELS)):
        there = [i for i in range(n) if reached[i][slot]]
        there.sort(key=lambda i: reached[i][slot] / (sizes[i] if relative else 1))
        if there:
            places[there[-1]][slot] = "bottom right"
            places[there[0]][slot] = "top left"
    return places


def _log_spaced(n: int) -> np.ndarray:
    """Positions to draw: the first ones all, then ever wider apart, always the last."""
    if n <= _MAX_DRAWN:
        return np.arange(n)
    return np.unique(np.geomspace(1, n, _MAX_DRAWN).round().astype(int)) - 1
