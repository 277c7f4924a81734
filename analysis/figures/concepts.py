"""Concepts as figures: map, histograms, the strongest concepts of a sample as bars."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from analysis.figures.palette import (
    ACCENT,
    ADAPTIVE_INK,
    IMAGE,
    MODALITY_SCALE,
    NEUTRAL,
    SEQUENTIAL_SCALE,
    TEXT,
    modality_colors,
    rgba,
)
from analysis.figures.style import (
    DECORATION,
    TICK_SIZE,
    concept_label,
    count,
    finish,
    plain,
    scatter_kind,
    score,
    sentence,
    upright,
)

DENSE_FROM = 2000  # points that hide each other from afar
MANY_FROM = 8000  # points that are drawn one by one at all: a browser without a GPU takes seconds for 30,000
LOUDEST = 1000  # of more than that, so many stay points, before a picture of all
_ACROSS, _UP = 480, 260  # of that picture


def concept_scatter(
    x: np.ndarray,
    y: np.ndarray,
    *,
    ids: np.ndarray,
    energy: np.ndarray,
    color: np.ndarray,
    color_title: str = "modality score (0 = image, 1 = text)",
    names: Sequence[str] | None = None,
    highlight: Sequence[int] = (),
    x_title: str = "",
    y_title: str = "",
    data: str = "",
    height: int = 560,
) -> go.Figure:
    """Map of the concepts: position x, y (n,), size by the square root of energy (n,), colour by any score (n,).

    ids (n,) concept ids come back as `customdata` of a selection. A colour title that begins with "modality score" is
    drawn on the blue-violet-red scale, any other from grey to gold. Concepts without position or colour
    (never active) are left out and counted in the caption. highlight: concept ids with a ring. WebGL beyond 1,000 points;
    beyond DENSE_FROM points their density lies behind them, which is what one sees of a crowd from afar. Beyond MANY_FROM all
    are one picture behind the LOUDEST and the highlighted ones; what a region holds is then asked of x and y, see
    `concepts.browse.in_region`.
    """
    drawn = np.isfinite(x) & np.isfinite(y) & np.isfinite(color)
    ids, energy = np.asarray(ids)[drawn], np.nan_to_num(np.asarray(energy, float)[drawn])
    order = np.argsort(-energy, kind="stable")  # small ones last, on top of the large
    rows = np.flatnonzero(drawn)[order]
    size = np.sqrt(energy[order] / max(float(energy.max(initial=0)), 1e-30))
    position = {name: np.asarray(part, np.float32)[rows] for name, part in (("x", x), ("y", y))}
    is_modality = color_title.startswith("modality score")
    kind = scatter_kind(rows.size)
    hover = "<b>%{text}</b><br>" if names is not None else "<b>concept %{customdata}</b><br>"
    total, many = int(rows.size), rows.size > MANY_FROM
    crowd = [_density(position["x"], position["y"])] if total >= DENSE_FROM and not many else []
    limits: tuple[float | None, float | None] = (0, 1) if is_modality else (None, None)
    behind: dict[str, object] = {}
    if many:
        shade = np.asarray(color, float)[rows]
        limits = (0, 1) if is_modality else (float(shade.min()), float(shade.max()))
        scale = MODALITY_SCALE if is_modality else SEQUENTIAL_SCALE
        behind = _picture_of_all(position["x"], position["y"], shade, scale, limits)
        few = (np.arange(total) < LOUDEST) | np.isin(ids[order], list(highlight))
        rows, order, size, kind = rows[few], order[few], size[few], go.Scatter
        position = {name: part[few] for name, part in position.items()}
    figure = go.Figure(
        kind(
            **position,
            mode="markers",
            name="concepts",
            customdata=ids[order].astype(np.int32),
            text=[plain(names[row], 60) for row in rows] if names is not None else None,
            marker={
                "size": (4 + 18 * size).astype(np.float32),
                "color": np.asarray(color, np.float32)[rows],
                "colorscale": [list(stop) for stop in (MODALITY_SCALE if is_modality else SEQUENTIAL_SCALE)],
                "cmin": limits[0],
                "cmax": limits[1],
                "opacity": 0.75,
                "line": {"width": 0},
                "showscale": True,
                "colorbar": {
                    "title": {"text": color_title, "side": "right", "font": {"size": TICK_SIZE, "color": ADAPTIVE_INK}},
                    "thickness": 10,
                    "len": 0.8,
                    "outlinewidth": 0,
                    "tickfont": {"size": TICK_SIZE, "color": ADAPTIVE_INK},
                },
            },
            hovertemplate=hover + plain(color_title, 60) + " %{marker.color:.3r}<extra></extra>",
            showlegend=False,
        )
    )
    if crowd:
        figure = go.Figure([*crowd, *figure.data])
    ringed = np.isin(ids[order], list(highlight))
    if ringed.any():
        figure.add_trace(
            kind(
                x=position["x"][ringed],
                y=position["y"][ringed],
                mode="markers",
                marker={"size": 22, "symbol": "circle-open", "color": ACCENT, "line": {"width": 3}},
                hoverinfo="skip",
                showlegend=False,
                name="selected",
                meta=DECORATION,
            )
        )
    bare = not x_title and not y_title  # coordinates of a projection carry no unit
    figure.update_xaxes(visible=not bare)
    figure.update_yaxes(visible=not bare)
    hidden = int(drawn.size) - total
    what = f"{count(total)} concepts, area by energy, colour by {color_title}"
    what += "; grey: where many lie" if crowd else ""
    what += (
        f"; points: the {count(LOUDEST)} loudest, behind them a picture of all; a box or lasso finds all"
        if many
        else ""
    )
    what += f"; {count(hidden)} without a value are not drawn" if hidden else ""
    return finish(
        figure, caption=sentence(what, data), x=x_title, y=y_title, height=height, legend=False, layout=behind
    )  # fmt: skip


def log_energy(energy: np.ndarray, live: np.ndarray) -> np.ndarray:
    """(K,) log10 of the energies on one side, a position of `concept_scatter`; NaN for dead concepts. One that never fires on
    that side stands a decade below the faintest that does: on the edge, but not lost."""
    floor = float(np.min(energy[energy > 0], initial=np.inf)) / 10
    positive = np.where(energy > 0, energy, floor if np.isfinite(floor) else 1.0)
    return np.where(live, np.log10(positive), np.nan)


def _picture_of_all(
    x: np.ndarray, y: np.ndarray, color: np.ndarray, scale: Sequence, limits: tuple[float | None, float | None]
) -> dict[str, object]:
    """Layout with a picture behind the points: each cell has the mean colour of the concepts in it and is the more opaque the
    more there are."""
    from PIL import Image
    from plotly.colors import sample_colorscale

    (left, right), (low, high) = ((float(part.min()), float(part.max())) for part in (x, y))
    wide, tall = max(right - left, 1e-9) * 1.04, max(high - low, 1e-9) * 1.04
    left, high = left - 0.02 * wide, high + 0.02 * tall
    column = np.clip(((x - left) / wide * _ACROSS).astype(int), 0, _ACROSS - 1)
    row = np.clip(((high - y) / tall * _UP).astype(int), 0, _UP - 1)
    counts, sums = (
        np.bincount(row * _ACROSS + column, part, _ACROSS * _UP).reshape(_UP, _ACROSS) for part in (None, color)
    )
    counts, sums = (
        np.sum([np.roll(part, step, axis) for axis in (0, 1) for step in (-1, 0, 1)], axis=0) for part in (counts, sums)
    )
    bottom, top = float(limits[0] or 0), float(limits[1] if limits[1] is not None else 1)
    share = (np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0) - bottom) / max(top - bottom, 1e-30)
    stops = sample_colorscale([list(stop) for stop in scale], np.linspace(0, 1, 256).tolist(), colortype="tuple")
    pixels = np.zeros((_UP, _ACROSS, 4), np.uint8)
    pixels[..., :3] = (255 * np.asarray(stops))[np.clip((255 * share).astype(int), 0, 255)]
    pixels[..., 3] = np.where(counts > 0, np.clip(70 + 45 * np.log2(np.maximum(counts, 1)), 0, 230), 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "WEBP", quality=80, method=2)
    source = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {
        "images": [
            {
                "source": source, "x": left, "y": high, "sizex": wide, "sizey": tall, "xref": "x", "yref": "y",
                "sizing": "stretch", "layer": "below",
            }
        ],
        "xaxis": {"range": [left, left + wide]}, "yaxis": {"range": [high - tall, high]},
    }  # fmt: skip


def _density(x: np.ndarray, y: np.ndarray, cells: int = 64) -> go.Contour:
    """Where points lie densely, as grey levels: a histogram smoothed over the neighbouring cells."""
    counts, across, up = np.histogram2d(x, y, bins=cells)
    for _ in range(2):  # two passes of 1-2-1 in either direction
        for axis in (0, 1):
            padded = np.pad(counts, [(1, 1) if i == axis else (0, 0) for i in (0, 1)])
            low, middle, high = (np.take(padded, range(i, i + cells), axis=axis) for i in range(3))
            counts = (low + 2 * middle + high) / 4
    centres = ((edges[1:] + edges[:-1]) / 2 for edges in (across, up))
    horizontal, vertical = (np.round(part, 4).astype(np.float32) for part in centres)
    return go.Contour(
        x=horizontal, y=vertical, z=np.sqrt(counts.T).round(2).astype(np.float32), showscale=False, hoverinfo="skip",
        colorscale=[[0, rgba(NEUTRAL, 0)], [1, rgba(NEUTRAL, 0.45)]], ncontours=8, line={"width": 0}, name="density",
        showlegend=False, meta=DECORATION,
    )  # fmt: skip


def concept_histogram(
    image_values: np.ndarray,
    text_values: np.ndarray,
    *,
    n_image: int,
    n_text: int,
    bins: int = 30,
    data: str = "",
    height: int = 280,
) -> go.Figure:
    """Activations of one concept by modality: image upwards in blue, text downwards in red.

    image_values, text_values: the non-zero activations; n_image, n_text: all samples of that modality, of which the
    share that fires is written beside the colour's name.
    """
    values = [np.asarray(part, float) for part in (image_values, text_values)]
    top = max((float(part.max(initial=0)) for part in values), default=0.0) or 1.0
    edges = np.linspace(0, top, bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    traces, tallest = [], 1
    for part, total, name, sign, color in (
        (values[0], n_image, "image", 1, IMAGE),
        (values[1], n_text, "text", -1, TEXT),
    ):
        heights = np.histogram(part, edges)[0]
        tallest = max(tallest, int(heights.max(initial=0)))
        share = f"{100 * part.size / total:.1f} % of {count(total)} fire" if total else "no samples"
        traces.append(
            go.Bar(
                x=centres,
                y=sign * heights,
                width=np.diff(edges) * 0.92,
                name=f"{name}: {share}",
                marker={"color": color, "line_width": 0},
                customdata=heights,
                hovertemplate=f"{name}, activation %{{x:.3~g}}<br>%{{customdata:,}} samples<extra></extra>",
            )
        )
    ticks = _nice_ticks(tallest)
    marks = [*(-t for t in ticks[:0:-1]), *ticks]
    layout = {
        "barmode": "overlay", "bargap": 0, "yaxis": {"tickvals": marks, "ticktext": [count(abs(mark)) for mark in marks]},
    }  # fmt: skip
    what = "Non-zero activations of the concept, image samples upwards, text samples downwards"
    return finish(
        go.Figure(traces), caption=sentence(what, data), x="activation z (no unit)", y="samples", height=height, legend=True,
        layout=layout,
    )  # fmt: skip


def score_histogram(
    values: np.ndarray,
    *,
    title: str,
    marks: Mapping[str, float] | None = None,
    bins: int = 60,
    log_count: bool = True,
    log_x: bool = False,
    data: str = "",
    height: int = 260,
) -> go.Figure:
    """Distribution of a score over all concepts with named marks (the concept in view, the edge of the top 1 %).

    NaN (never active) is left out and counted; so is a score that is not positive when log_x asks for a log axis. title:
    the score with its equation and unit, on the axis. A modality score (the title begins so) has its bars on the
    blue-violet-red scale.
    """
    values = np.asarray(values, float)
    known = values[np.isfinite(values) & ((values > 0) | (not log_x))]
    modality = title.startswith("modality score")
    if log_x and known.size:
        edges = np.geomspace(known.min(), max(known.max(), known.min() * 1.01), bins + 1)
    else:
        edges = np.histogram_bin_edges(known, bins, range=(0, 1) if modality else None)
    heights = np.histogram(known, edges)[0]
    centres = (edges[1:] + edges[:-1]) / 2
    filled = heights > 0  # a log axis has no place for an empty bin
    figure = go.Figure(
        go.Bar(
            x=centres[filled],
            y=heights[filled],
            width=np.diff(edges)[filled] * 0.95,
            name="concepts",
            marker={"color": modality_colors(centres[filled]) if modality else ACCENT, "line_width": 0},
            customdata=np.stack([edges[:-1][filled], edges[1:][filled]], 1),
            hovertemplate="%{customdata[0]:.3~g} to %{customdata[1]:.3~g}<br>%{y:,} concepts<extra></extra>",
            showlegend=False,
        )
    )
    for words, at in (marks or {}).items():
        if np.isfinite(at):
            upright(figure, at, words, dash="dash", log=log_x)
    figure.update_yaxes(type="log" if log_count else "linear", dtick=1 if log_count else None)
    figure.update_xaxes(type="log" if log_x else "linear", dtick=1 if log_x else None, exponentformat="power")
    hidden = values.size - known.size
    what = f"{count(known.size)} concepts"
    what += f"; {count(hidden)} without a{' positive' if log_x else ''} value are not drawn" if hidden else ""
    y = "concepts (number, log scale)" if log_count else "concepts (number)"
    return finish(figure, caption=sentence(what, data), x=title, y=y, height=height, legend=False)


def concept_bars(
    ids: Sequence[int],
    values: Sequence[float],
    *,
    names: Mapping[int, str],
    modality: Mapping[int, float],
    title: str = "activation z (no unit)",
    data: str = "",
) -> go.Figure:
    """The strongest concepts of a sample as bars, coloured by modality score; a click gives the concept id."""
    labels = [concept_label(int(i), names) for i in ids]
    scores = np.array([modality.get(i, np.nan) for i in ids], float)
    figure = go.Figure(
        go.Bar(
            x=list(values),
            y=labels,
            orientation="h",
            customdata=[int(i) for i in ids],
            marker={"color": modality_colors(scores), "line_width": 0},
            text=[f" {score(float(v))}" for v in values],
            textposition="outside",
            constraintext="none",
            cliponaxis=False,
            hovertext=[f"modality score {score(s)}" for s in scores],
            hovertemplate="%{y}<br>%{x:.3r}, %{hovertext}<extra></extra>",
            name="concepts",
            showlegend=False,
        )
    )
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    figure.update_xaxes(range=[0, 1.15 * max([float(v) for v in values], default=1.0)])
    what = f"The {len(labels)} strongest concepts, colour by modality score (blue image, violet shared, red text)"
    return finish(figure, caption=sentence(what, data), x=title, height=80 + 26 * max(2, len(labels)), legend=False)


def _nice_ticks(top: int) -> list[int]:
    """0 and up to three round numbers not above top."""
    unit = 10 ** int(np.floor(np.log10(max(1, top))))
    step = next((s for s in (unit // 5, unit // 2, unit, unit * 2, unit * 5) if s and top // s <= 3), max(1, top))
    return [0, *range(step, top + 1, step)]
