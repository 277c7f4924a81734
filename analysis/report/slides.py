"""A deck as data: what stands on each slide, whatever format it is written in. Writers: `deck_html`, `deck_pptx`; a PDF is
the HTML as a browser prints it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.errors import AnalysisError
from analysis.figures.style import TICK_SIZE, themed
from analysis.report import fitting
from analysis.report.fitting import shortened
from analysis.store.finding import Figure, Finding, Lists, Part, plain_text

SERVER = "http://127.0.0.1:8501"  # where `make run` shows the live views that slides link to
MAX_TITLE, MAX_SUBTITLE = 220, 420  # characters; more does not fit at a size that the last row reads
MAX_NOTE = 20_000
MAX_POINTS = 4000  # of one trace, once it is no WebGL trace any more
PLAIN = {"scattergl": "scatter", "heatmapgl": "heatmap"}
DRAWN = {"scatter", "bar", "box", "violin", "heatmap", "histogram", "histogram2d", "contour", "image", "waterfall"}


class ReportError(AnalysisError):
    """A deck or a report cannot be written as asked."""


@dataclass(frozen=True)
class Slide:
    """title: the computed sentence. note: what the speaker may read; command: what gives the numbers again."""

    title: str
    parts: tuple[Part, ...] = ()
    caption: str = ""
    link: str = ""
    note: str = ""
    command: str = ""
    author: str = ""
    picture: bytes = b""


@dataclass(frozen=True)
class Deck:
    title: str
    subtitle: str
    slides: tuple[Slide, ...]
    date: str = ""  # as it stands on the first slide


def deck_of(title: str, found: Sequence[Finding], *, subtitle: str = "", date: str = "", server: str = SERVER) -> Deck:
    """One slide a finding, more where its tables and lists need them. ReportError without findings."""
    if not found:
        raise ReportError(
            f"There is nothing to present in {title!r}; pin a figure or a view in the app, or use `deck --standard`."
        )
    slides = [slide for finding in found for slide in _slides(finding, server)]
    return Deck(shortened(title, MAX_TITLE), shortened(subtitle, MAX_SUBTITLE), tuple(slides), date)


def figure_json(part: Figure, width: int, height: int, *, mode: str = "light") -> dict[str, Any]:
    """Data and layout of a frozen figure at a fixed size, in the colours of a theme, without WebGL and without anything
    that is loaded from elsewhere. ReportError for what is no figure."""
    try:
        raw = _cleaned(json.loads(part.plotly))
        traces = [_plain_trace(trace) for trace in raw["data"]]
        figure = themed(go.Figure({"data": traces, "layout": raw.get("layout", {})}, skip_invalid=True), mode)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"A figure of a finding cannot be read ({error}); pin its view again.") from error
    figure.update_layout(font_size=max(TICK_SIZE, figure.layout.font.size or 0))
    figure = go.Figure(_readable(json.loads(figure.to_json())))
    layout = figure.layout.to_plotly_json()
    layout |= {"width": width, "height": height, "autosize": False}
    layout["images"] = [one for one in layout.get("images", ()) if str(one.get("source", "")).startswith("data:image/")]
    ready = json.loads(go.Figure({"data": figure.data, "layout": layout}).to_json())
    return {"data": ready["data"], "layout": ready["layout"]}


def natural_height(part: Figure) -> int:
    """Pixels that the figure was made for."""
    height = json.loads(part.plotly).get("layout", {}).get("height")
    return int(height) if isinstance(height, int | float) and height > 0 else 360


def _slides(finding: Finding, server: str) -> list[Slide]:
    title = shortened(_unmarked(finding.headline), MAX_TITLE)
    whole = Slide(
        fitting.fitted_title(title), (), fitting.fitted_caption(_unmarked(finding.caption)),
        finding.address(server), plain_text(finding.note)[:MAX_NOTE], plain_text(finding.command)[:MAX_NOTE],
        shortened(finding.author, 80), b"" if _shows_query(finding.parts) else finding.picture,
    )  # fmt: skip
    height = fitting.frame(f"{title} (10 of 10)", whole.caption).height
    pages = fitting.pages(finding.parts, height, beside=bool(whole.picture))
    if len(pages) < 2:
        return [replace(whole, parts=tuple(pages[0]) if pages else ())]
    short = fitting.fitted_title(shortened(title, MAX_TITLE - 10))
    titles = [f"{short} ({n} of {len(pages)})" for n in range(1, len(pages) + 1)]
    return [
        replace(whole, title=title, parts=tuple(page), picture=whole.picture if n == 0 else b"")
        for n, (title, page) in enumerate(zip(titles, pages, strict=True))
    ]


def _shows_query(parts: Sequence[Part]) -> bool:
    """Whether an uploaded query stands above its lists already."""
    return bool(parts) and isinstance(parts[0], Lists) and parts[0].query_picture.startswith("data:image/")


def _plain_trace(trace: dict[str, Any]) -> dict[str, Any]:
    kind = trace.get("type", "scatter")
    plain = {**trace, "type": PLAIN.get(kind, kind)}
    if plain["type"] not in DRAWN:
        raise ValueError(f"a trace of kind {kind!r}")
    if kind not in PLAIN:
        return plain
    whole = _decoded(plain)
    n = max((len(whole[name]) for name in ("x", "y") if whole.get(name) is not None), default=0)
    return _thinned(whole, n) if n > MAX_POINTS else plain


def _cleaned(value: Any) -> Any:
    """The same JSON with texts that a browser can draw and encode."""
    if isinstance(value, dict):
        return {name: _cleaned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return plain_text(value) if isinstance(value, str) else value


def _readable(value: Any, name: str = "") -> Any:
    """The same JSON without letters smaller than those of the axes."""
    if isinstance(value, dict):
        small = name.endswith("font") and isinstance(value.get("size"), int | float) and value["size"] < TICK_SIZE
        return {key: _readable(inner, key) for key, inner in value.items()} | ({"size": TICK_SIZE} if small else {})
    return [_readable(inner, name) for inner in value] if isinstance(value, list) and len(value) < 200 else value


def _decoded(value: Any) -> Any:
    """Plotly's typed arrays as lists, at any depth."""
    if isinstance(value, dict):
        if set(value) >= {"dtype", "bdata"}:
            return np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"])).tolist()
        return {name: _decoded(inner) for name, inner in value.items()}
    return value


def _thinned(trace: dict[str, Any], n: int) -> dict[str, Any]:
    """Every so many-th point, of everything that has one entry a point."""
    step = -(-n // MAX_POINTS)

    def thin(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: thin(inner) for key, inner in value.items()}
        return value[::step] if hasattr(value, "__len__") and not isinstance(value, str) and len(value) == n else value

    return {name: thin(value) for name, value in trace.items()}


def _unmarked(text: str) -> str:
    """Without the ** that the pages print computed numbers with."""
    return text.replace("**", "")
