"""Recall with intervals: bars, table, curves over a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.palette import NEUTRAL, backbone_styles, method_style, rgba
from analysis.figures.style import Curve, band, finish, interval, line, plain, sentence, upright

_LOG_SPAN = 50  # from this ratio of its ends on an axis without 0 is logarithmic
_ROW = 34  # pixels of a method
_ROOM = 1.4  # length of a panel by its longest whisker: the number beside it stays in the panel on a narrow page
_GAP = 0.03  # between the panels of the cut-offs, of the width


def furthest(frames: Sequence[pd.DataFrame]) -> dict[int, float]:
    """k -> the largest recall, end of an interval or of a band among some frames of `recall_bars`."""
    ends = pd.concat([frame.reindex(columns=["k", "recall", "high", "band_high"]) for frame in frames])
    return ends.groupby("k").max().max(axis=1).to_dict()


def recall_bars(
    frame: pd.DataFrame, *, data: str = "", definition: str = "hit", reach: Mapping[int, float] | None = None
) -> go.Figure:
    """Recall@k of each method with its interval, one panel per k, the number beside each bar.

    frame: columns method, k, recall, low, high (shares in [0, 1]; NaN = no interval), methods in the order to show.
    Where it has band_low, band_high (the range of a control's random seeds), that range stands in place of the interval.
    Controls (random concepts) and masks are hatched. reach: where the axis of each k ends at least (`furthest`), so that
    figures that stand together have the same.
    """
    seeds = "band_low" in frame and bool(frame["band_low"].notna().any())
    if seeds:
        frame = frame.assign(low=frame["band_low"].fillna(frame["low"]), high=frame["band_high"].fillna(frame["high"]))
    frame = frame.assign(method=[plain(method, 200) for method in frame["method"]])
    methods = list(dict.fromkeys(frame["method"]))
    ks = sorted(frame["k"].unique())
    styles = [method_style(method) for method in methods]
    labels: list[dict[str, object]] = []
    axes: dict[str, dict[str, object]] = {}
    traces: list[go.Bar] = []
    width = (1 - _GAP * (len(ks) - 1)) / max(1, len(ks))
    for column, k in enumerate(ks, start=1):
        rows = frame[frame["k"] == k].set_index("method").reindex(methods)
        value, low, high = (100 * rows[name].to_numpy(float) for name in ("recall", "low", "high"))
        whisker = np.where(np.isnan(high), value, high)
        suffix = str(column) if column > 1 else ""
        traces.append(
            go.Bar(
                x=np.nan_to_num(value),
                y=methods,
                xaxis=f"x{suffix}",
                yaxis=f"y{suffix}",
                orientation="h",
                name=f"R@{k}",
                width=0.62,
                marker={
                    "color": [rgba(style.color, 0.4) for style in styles],
                    "line": {"color": [style.color for style in styles], "width": 1.5},
                    "pattern": {
                        "shape": [style.hatch for style in styles],
                        "fgcolor": [style.color for style in styles],
                        "bgcolor": [rgba(style.color, 0.15) for style in styles],
                        "size": 7,
                        "solidity": 0.25,
                    },
                },
                error_x={
                    "array": np.nan_to_num(whisker - value),
                    "arrayminus": np.nan_to_num(value - np.where(np.isnan(low), value, low)),
                    "color": NEUTRAL,
                    "thickness": 1.5,
                    "width": 4,
                },
                hovertemplate="%{y}<br>R@" + str(k) + " %{x:.1f} %<extra></extra>",
                showlegend=False,
            )
        )
        end = max(float(np.nanmax(whisker, initial=0)), 100 * (reach or {}).get(int(k), 0), 1e-9)
        labels += [
            {
                "x": tip,
                "y": method,
                "xref": f"x{suffix}",
                "yref": f"y{suffix}",
                "text": "–" if np.isnan(number) else f"{number:.1f}",
                "xanchor": "left",
                "xshift": 5,
                "showarrow": False,
            }
            for method, number, tip in zip(methods, value, np.nan_to_num(whisker), strict=True)
        ]
        left = (column - 1) * (width + _GAP)
        axes[f"xaxis{suffix}"] = {
            "anchor": f"y{suffix}", "domain": [left, left + width], "range": [0, _ROOM * end],
            "nticks": 4, "title": {"text": f"R@{k} (%)"},
        }  # fmt: skip
        axes[f"yaxis{suffix}"] = {
            "anchor": f"x{suffix}", "domain": [0, 1], "type": "category", "autorange": "reversed", "showgrid": False,
            "ticks": "",
        }  # fmt: skip
        if column > 1:
            axes[f"yaxis{suffix}"] |= {"matches": "y", "showticklabels": False}
    what = "Recall" if definition == "hit" else "Recall (fraction of the targets)"
    ranges = "; of random controls the mean and the range of their seeds" if seeds else ""
    caption = sentence(f"{what} of each method with its 95 % bootstrap interval over queries{ranges}", data)
    layout = {"annotations": labels, **axes}
    return finish(
        go.Figure(traces), caption=caption, height=90 + _ROW * max(2, len(methods)), legend=False, layout=layout
    )


def masked_recall(frame: pd.DataFrame, *, k: int, data: str = "", definition: str = "hit") -> go.Figure:
    """Recall@k of several models under the same masks, overlaid: one panel a side that is masked, one row a mask, one marker a
    model with its interval; a dotted line marks each model's base.

    frame: columns model, side, mask, recall, low, high (shares in [0, 1]; NaN = no number there); base is the first mask.
    """
    models, sides, masks = (list(dict.fromkeys(frame[name])) for name in ("model", "side", "mask"))
    styles = dict(zip(models, backbone_styles(models), strict=True))
    step = min(0.22, 0.72 / max(1, len(models)))
    shift = {model: step * (place - (len(models) - 1) / 2) for place, model in enumerate(models)}
    width = (1 - _GAP * (len(sides) - 1)) / max(1, len(sides))
    reach = 100 * float(np.nanmax(frame["high"].fillna(frame["recall"]), initial=1e-11))
    traces: list[go.Scatter] = []
    axes: dict[str, dict[str, object]] = {}
    lines: list[dict[str, object]] = []
    titles: list[dict[str, object]] = []
    for column, side in enumerate(sides):
        suffix = str(column + 1) if column else ""
        for model in models:
            style = styles[model]
            rows = frame[(frame["side"] == side) & (frame["model"] == model) & frame["recall"].notna()]
            value, low, high = (100 * rows[name].to_numpy(float) for name in ("recall", "low", "high"))
            traces.append(
                go.Scatter(
                    x=value, y=[masks.index(mask) + shift[model] for mask in rows["mask"]],
                    xaxis=f"x{suffix}", yaxis=f"y{suffix}", mode="markers",
                    name=plain(model), legendgroup=model, showlegend=column == 0,
                    marker={"color": style.color, "symbol": style.symbol, "size": 11, "line": {"width": 1.5}},
                    error_x={
                        "array": np.nan_to_num(high - value), "arrayminus": np.nan_to_num(value - low),
                        "color": style.color, "thickness": 1.5, "width": 4,
                    },
                    customdata=[f"{mask}, {side}" for mask in rows["mask"]],
                    hovertemplate="%{customdata}<br>R@" + str(k) + " %{x:.1f} %<extra>" + plain(model) + "</extra>",
                )
            )  # fmt: skip
            if len(rows) and rows["mask"].iloc[0] == masks[0]:
                lines.append(
                    {
                        "type": "line", "xref": f"x{suffix}", "yref": f"y{suffix}", "layer": "below", "x0": value[0],
                        "x1": value[0], "y0": -0.5, "y1": len(masks) - 0.5,
                        "line": {"color": rgba(style.color, 0.6), "width": 1, "dash": "dot"},
                    }
                )  # fmt: skip
        left = column * (width + _GAP)
        axes[f"xaxis{suffix}"] = {
            "anchor": f"y{suffix}", "domain": [left, left + width], "range": [0, 1.08 * reach],
            "title": {"text": f"R@{k} (%)"},
        }  # fmt: skip
        axes[f"yaxis{suffix}"] = {
            "anchor": f"x{suffix}", "range": [len(masks) - 0.5, -0.5], "tickvals": list(range(len(masks))),
            "ticktext": masks, "showticklabels": column == 0, "ticks": "",
        }  # fmt: skip
        titles.append({
            "text": f"<b>{side}</b>", "x": left + width / 2, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "center",
            "yanchor": "bottom", "showarrow": False,
        })  # fmt: skip
    what = "Recall" if definition == "hit" else "Recall (fraction of the targets)"
    caption = sentence(
        f"{what}@{k} of each model with these tokens left out of pooling, with 95 % bootstrap intervals over queries; dotted: "
        "its base", data,
    )  # fmt: skip
    layout = {"annotations": titles, "shapes": lines, **axes, "legend": {"y": 1.09}, "margin": {"t": 64}}
    return finish(go.Figure(traces), caption=caption, height=120 + 66 * len(masks), legend=True, layout=layout)


def recall_table(frame: pd.DataFrame, *, base: str = "base") -> pd.DataFrame:
    """The same rows as a wide table: per method and k the recall in percent, its interval as text, and the difference.

    Where the frame has difference, difference_low, difference_high (paired bootstrap), they are shown;
    otherwise the difference to `base` is the plain one. Percentages keep their full precision: the page formats them.
    """
    methods = list(dict.fromkeys(frame["method"]))
    table = pd.DataFrame({"method": methods})
    for k in sorted(frame["k"].unique()):
        rows = frame[frame["k"] == k].set_index("method").reindex(methods)
        table[f"R@{k} (%)"] = 100 * rows["recall"].to_numpy(float)
        table[f"R@{k} interval"] = [interval(*pair) for pair in zip(rows["low"], rows["high"], strict=True)]
        if "difference" in rows:
            difference = rows["difference"].to_numpy(float)
            bounds = zip(rows["difference_low"], rows["difference_high"], strict=True)
            table[f"R@{k} change"] = 100 * difference
            table[f"R@{k} change interval"] = [interval(*pair) for pair in bounds]
        elif base in methods:
            recall = rows["recall"].to_numpy(float)
            table[f"R@{k} change"] = 100 * (recall - recall[methods.index(base)])
    return table


def sweep_curve(table: pd.DataFrame, *, k: int, label: str) -> Curve:
    """One line of recall_curve from a sweep: the rows of cut-off k of a table with x, k, recall, low, high."""
    rows = table[table["k"] == k].sort_values("x", kind="stable")
    x, y, low, high = (rows[name].to_numpy(float) for name in ("x", "recall", "low", "high"))
    return Curve(label, x, y, method_style(label), low, high)


def recall_curve(
    curves: Sequence[Curve],
    *,
    title: str,
    k: int,
    percent: bool = False,
    bands: Sequence[Curve] = (),
    levels: Sequence[Curve] = (),
    current: float | None = None,
    chosen: float | None = None,
    data: str = "",
    height: int = 380,
) -> go.Figure:
    """Recall@k against a setting, with bootstrap intervals and the controls in the same picture. title: of the x axis.

    curves: y, low, high in [0, 1]; bands: controls drawn as a hatched area low..high with its middle y; levels: methods
    that do not depend on the setting (base, ReAlign), drawn as horizontal lines at y[0]. current: the slider's value;
    chosen: the value picked on the other half of the queries. percent: x is a share and shown in percent.
    """
    unit = 100.0 if percent else 1.0
    figure = go.Figure()
    reach = [np.asarray(c.x, float) * unit for c in (*curves, *bands)]
    ends = (min(map(np.min, reach)), max(map(np.max, reach))) if reach else (0.0, 1.0)
    log = ends[0] > 0 and ends[1] > _LOG_SPAN * ends[0]
    for control in bands:
        scaled = _in_percent(control, unit)
        figure.add_trace(band(scaled, hatch=True, alpha=0.22))
        figure.add_trace(line(scaled, mode="lines", legendrank=1003, hovertemplate=_hover(control.label, k)))
    for level in levels:
        flat = Curve(level.label, np.asarray(ends), np.full(2, 100 * float(np.asarray(level.y)[0])), level.style)
        figure.add_trace(line(flat, mode="lines", legendrank=1002, hovertemplate=_hover(level.label, k)))
    for curve in curves:
        scaled = _in_percent(curve, unit)
        if scaled.low is not None:
            figure.add_trace(band(scaled, alpha=0.11))
        marker = {"symbol": curve.style.symbol, "size": 8, "color": curve.style.color}
        figure.add_trace(line(scaled, mode="lines+markers", marker=marker, hovertemplate=_hover(curve.label, k)))
    for at, words, dash, side in (
        (current, "now", "solid", "right"),
        (chosen, "chosen on the other half", "dash", "left"),
    ):
        if at is not None:
            upright(figure, at * unit, words, dash=dash, log=log, side=side)
    measured = np.unique(np.concatenate(reach)) if reach else np.zeros(0)
    figure.update_xaxes(type="log" if log else "linear", tickvals=measured if log and measured.size <= 12 else None)
    heights = [100 * float(np.max(c.y if c.high is None else c.high)) for c in (*curves, *bands, *levels) if len(c.y)]
    figure.update_yaxes(range=[0, 1.12 * max([*heights, 1e-9])])
    hatched = "; hatched: the range of the control" if bands else ""
    what = f"Recall@{k} with 95 % bootstrap intervals{hatched}"
    title += f"{' (%)' if percent else ''}{', log scale' if log else ''}"
    return finish(figure, caption=sentence(what, data), x=title, y=f"R@{k} (%)", height=height)


def _in_percent(curve: Curve, unit: float) -> Curve:
    low, high = (None if part is None else 100 * np.clip(part, 0, 1) for part in (curve.low, curve.high))
    return Curve(curve.label, np.asarray(curve.x, float) * unit, 100 * np.asarray(curve.y), curve.style, low, high)


def _hover(label: str, k: int) -> str:
    return "%{x:.3~g}<br>R@" + str(k) + " %{y:.1f} %<extra>" + label + "</extra>"
