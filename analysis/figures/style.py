"""How a figure is finished: template, fonts, legend, caption, numbers as text, and the chart settings of the app.

In the app show figures with `st.plotly_chart(figure, theme="streamlit", config=chart_config(name))`: Streamlit lays its
own ground, ink, grid and typeface over the template, so one figure serves light and dark and follows a switch at once.
Outside the app (files, decks) `themed(figure, "light")` gives the same look without Streamlit.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import plotly.graph_objects as go

from analysis.figures.palette import ADAPTIVE_INK, GRID, GROUND, HATCH, INK, NEUTRAL, Style, rgba

FONT = "'Plex Sans', 'IBM Plex Sans', 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
MONO = "'Plex Mono', 'Cascadia Code', Menlo, Consolas, monospace"
TEXT_SIZE = 14  # axis titles, legends, annotations: read from the back of a meeting room
TICK_SIZE = 13
WEBGL_ABOVE = 1000  # points
DECORATION = "decoration"  # a trace that repeats or explains data; left out of CSV


@dataclass(frozen=True)
class Curve:
    """A named series: x (n,), y (n,), optionally an interval low/high (n,) around y."""

    label: str
    x: np.ndarray
    y: np.ndarray
    style: Style = field(default_factory=Style)
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def finish(
    figure: go.Figure,
    *,
    caption: str,
    x: str = "",
    y: str = "",
    height: int = 360,
    legend: bool | None = None,
    layout: Mapping[str, Any] | None = None,
) -> go.Figure:
    """Axis titles, sizes, legend above the picture, and the caption (kept in `layout.meta`, shown under the figure).

    layout: what this kind of figure sets beside it, nested as in Plotly's JSON; it wins over the house's settings.

    The layout is put together as a dictionary and assigned once: every `update_*` of Plotly walks the figure and checks it
    again, which made this function most of what a page rerun costs.
    """
    many = sum(trace.showlegend is not False and bool(trace.name) for trace in figure.data) > 1
    shown = many if legend is None else legend
    whole = figure.layout.to_plotly_json()
    _merge(
        whole,
        {
            "template": _TEMPLATE,
            "height": height,
            "showlegend": shown,
            "font": _font(TEXT_SIZE),
            "margin": {"l": 12, "r": 16, "t": 36 if shown else 20, "b": 12},
            "legend": {
                "orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": _font(TEXT_SIZE),
            },
            "hoverlabel": {"font": _font(TICK_SIZE)},
        },
    )  # fmt: skip
    for kind, title in (("xaxis", x), ("yaxis", y)):
        for name in {kind, *(key for key in (*whole, *(layout or ())) if key.startswith(kind))}:
            words = {"text": title} if title else {}
            _merge(
                whole.setdefault(name, {}),
                {
                    "tickfont": _font(TICK_SIZE),
                    "title": {"font": _font(TEXT_SIZE), "standoff": 10, **words},
                    "automargin": True,
                },
            )
    _merge(whole, layout or {})
    whole["meta"] = {"caption": caption}
    figure.layout = whole
    for trace in figure.data:
        _keep_unselected(trace)
    return figure


def caption_of(figure: go.Figure) -> str:
    """What the figure shows, on which data: the line under it, and its description for screen readers."""
    return str((figure.layout.meta or {}).get("caption", ""))


def data_line(
    dataset: str,
    *,
    split: str = "",
    images: int = 0,
    captions: int = 0,
    backbone: str = "",
    tap: str = "",
) -> str:
    """The data of a caption: "COCO val2017, 5,000 images, 25,000 captions, qwen2-vl-7b @ last layer"."""
    parts = [f"{dataset} {split}".strip()]
    parts += [f"{count(images)} images"] if images else []
    parts += [f"{count(captions)} captions"] if captions else []
    if backbone:
        parts.append(f"{backbone} @ {tap}" if tap else backbone)
    return ", ".join(part for part in parts if part)


def sentence(what: str, data: str = "") -> str:
    """The caption: what is shown, then on which data."""
    return f"{what.rstrip('.')}. {data.rstrip('.')}." if data else f"{what.rstrip('.')}."


def themed(figure: go.Figure, mode: str = "light") -> go.Figure:
    """A copy with ground, ink, grid and typeface of the "light" or "dark" theme, for files and decks."""
    copy = go.Figure(figure)
    copy.update_layout(
        paper_bgcolor=GROUND[mode],
        plot_bgcolor=GROUND[mode],
        font={"family": FONT, "color": INK[mode]},
        legend_font_color=INK[mode],
        hoverlabel={"bgcolor": GROUND[mode], "font_color": INK[mode]},
    )
    axis = {"gridcolor": GRID[mode], "tickcolor": NEUTRAL, "tickfont_color": INK[mode], "title_font_color": INK[mode]}
    return copy.update_xaxes(**axis).update_yaxes(**axis)


def chart_config(name: str, *, kind: str = "svg", buttons: bool = True) -> dict[str, Any]:
    """Plotly settings for `st.plotly_chart(config=...)`: download as SVG (or "png") under the view's name, little else."""
    return {
        "displaylogo": False,
        "displayModeBar": "hover" if buttons else False,
        "modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d", "autoScale2d", "toggleSpikelines"],
        "toImageButtonOptions": {"format": kind, "filename": name, "scale": 1 if kind == "svg" else 3},
    }


def percent(share: float) -> str:
    """A share in [0, 1] as percent with one decimal: 0.0718 -> "7.2 %"; NaN -> a dash."""
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of two shares as signed percentage points: 0.0423 -> "+4.2"."""
    return "–" if math.isnan(difference) else f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def interval(low: float, high: float) -> str:
    """A confidence interval of shares in percent: "[2.4, 3.6]"; empty where there is none."""
    bounds = f"[{100 * low:.1f}, {100 * high:.1f}]".replace("-", "\N{MINUS SIGN}")
    return "" if math.isnan(low) or math.isnan(high) else bounds


def seed_range(low: float, high: float) -> str:
    """The range of a control's random seeds, shares in percent: "(seeds 11.8 to 15.4)"; empty where there is none."""
    return "" if math.isnan(low) or math.isnan(high) else f"(seeds {100 * low:.1f} to {100 * high:.1f})"


def score(value: float) -> str:
    """Three significant digits: 0.01 -> "0.0100", 12345 -> "12,345"."""
    if math.isnan(value):
        return "–"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size and size < 1e-3:
        return f"{value:.2e}"
    return f"{value:#.3g}"


def count(number: float) -> str:
    """A whole number with thousands separators."""
    return f"{int(number):,}"


def plain(text: str, limit: int = 80) -> str:
    """A caption or name as chart text: one line, shortened, no markup (Plotly reads <b> and entities)."""
    flat = " ".join(str(text).split())
    return html.escape(flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…", quote=False)


def concept_label(concept: int, names: Mapping[int, str], limit: int = 30) -> str:
    """A concept in a chart: `dog, puppy · 1834`, or `concept 1834` where nobody named it."""
    name = names.get(concept, "")
    return f"{plain(name, limit)} · {concept}" if name else f"concept {concept}"


def line(curve: Curve, **settings: Any) -> go.Scatter:
    """The curve as a line; low and high travel as an invisible error bar, so that the CSV has them."""
    style = curve.style
    extra: dict[str, Any] = {}
    if curve.low is not None and curve.high is not None:
        y = np.asarray(curve.y, float)
        extra["error_y"] = {
            "array": np.asarray(curve.high, float) - y,
            "arrayminus": y - np.asarray(curve.low, float),
            "visible": False,
        }
    return go.Scatter(
        x=curve.x,
        y=curve.y,
        name=curve.label,
        line={"color": style.color, "dash": style.dash, "width": style.width},
        **(extra | settings),
    )


def band(curve: Curve, *, alpha: float = 0.16, hatch: bool = False, **settings: Any) -> go.Scatter:
    """The interval low..high of a curve as an area behind it; hatched where it is a control."""
    x, low, high = (np.asarray(part, float) for part in (curve.x, curve.low, curve.high))
    color = curve.style.color
    pattern = {"shape": HATCH, "size": 6, "solidity": 0.25, "fgcolor": color, "bgcolor": rgba(color, alpha / 2)}
    return go.Scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=rgba(color, alpha),
        fillpattern=pattern if hatch else None,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        name=curve.label,
        meta=DECORATION,
        **settings,
    )


def across(*, x: float | None = None, y: float | None = None) -> dict[str, Any]:
    """A dotted line over the whole picture at x or at y, for `shapes` of a layout."""
    if y is None:
        ends: dict[str, Any] = {"x0": x, "x1": x, "y0": 0, "y1": 1, "xref": "x", "yref": "y domain"}
    else:
        ends = {"x0": 0, "x1": 1, "y0": y, "y1": y, "xref": "x domain", "yref": "y"}
    return {"type": "line", "line": {"color": NEUTRAL, "width": 1, "dash": "dot"}, **ends}


def upright(
    figure: go.Figure, x: float, words: str, *, dash: str = "solid", log: bool = False, side: str = "right"
) -> None:
    """A vertical line at x with its words beside it; on a log axis annotations want the exponent, lines the value."""
    figure.add_shape(
        type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": NEUTRAL, "width": 1.5, "dash": dash}
    )
    at = math.log10(x) if log else x
    figure.add_annotation(
        x=at,
        y=1,
        yref="paper",
        text=f" {words} ",
        xanchor="left" if side == "right" else "right",
        yanchor="top",
        showarrow=False,
        font_size=TICK_SIZE,
    )


def scatter_kind(n_points: int) -> type[go.Scatter] | type[go.Scattergl]:
    """SVG up to WEBGL_ABOVE points, WebGL beyond: one page element per point stops being fluent there."""
    return cast("type[go.Scatter] | type[go.Scattergl]", go.Scattergl if n_points > WEBGL_ABOVE else go.Scatter)


def _font(size: int) -> dict[str, Any]:
    return {"size": size, "color": ADAPTIVE_INK}


def _merge(into: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Settings over what a layout says already, level by level; what they do not name stays."""
    for key, value in settings.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _keep_unselected(trace: Any) -> None:
    """A click must not fade the rest of the picture (Plotly's default): it means "open this one", not "hide the others"."""
    if trace.type not in ("bar", "scatter", "scattergl"):
        return
    opacity = trace.marker.opacity
    trace.unselected = {"marker": {"opacity": 1 if opacity is None else opacity}}
    if trace.type == "bar":
        trace.unselected.textfont = {"color": ADAPTIVE_INK}
        trace.selected = {"textfont": {"color": ADAPTIVE_INK}}  # Plotly.js reads both or fails at the click
    elif "text" in (trace.mode or ""):
        trace.unselected.textfont = {"color": NEUTRAL}


_TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": TEXT_SIZE},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": [NEUTRAL],
        "xaxis": {
            "showgrid": False,
            "zeroline": False,
            "ticks": "outside",
            "ticklen": 4,
            "showline": True,
            "linecolor": NEUTRAL,
        },
        "yaxis": {"showgrid": True, "zeroline": False},
        "hoverlabel": {"align": "left"},
    }
)
