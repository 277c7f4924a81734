"""A deck as data: what stands on each slide, whatever format it is written in. Writers: deck_html, deck_pptx, deck_pdf."""

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
from analysis.store.finding import Entry, Figure, Finding, Gallery, Lists, Part, RankedList, Table, plain_text

SERVER = "http://127.0.0.1:8501"  # where `make run` shows the live views that slides link to
ROWS = 8  # of a table on one slide
PLACES = 5  # of a list
LETTERS = 84  # of the columns of a table side by side
MOST_LETTERS = 34  # that one column takes before its cells are broken
COLUMNS = 2  # parts side by side
MAX_TITLE, MAX_CAPTION, MAX_CELL = 220, 420, 90  # characters; more does not fit at a size that the last row reads
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
    return Deck(shortened(title, MAX_TITLE), shortened(subtitle, MAX_CAPTION), tuple(slides), date)


def figure_json(part: Figure, width: int, height: int, *, mode: str = "light") -> dict[str, Any]:
    """Data and layout of a frozen figure at a fixed size, in the colours of a theme, without WebGL and without anything
    that is loaded from elsewhere. ReportError for what is no figure."""
    try:
        raw = _cleaned(json.loads(part.plotly))
        traces = [_plain_trace(trace) for trace in raw["data"]]
        figure = themed(go.Figure({"data": traces, "layout": raw.get("layout", {})}, skip_invalid=True), mode)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"A figure of a finding cannot be read ({error}); pin its view again.") from error
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


def shortened(text: object, limit: int) -> str:
    """One line of at most `limit` characters, without what no file format takes."""
    flat = " ".join(plain_text(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def cell_text(value: object) -> str:
    """A number or text of a table, as it is shown."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else shortened(value, MAX_CELL)


def _slides(finding: Finding, server: str) -> list[Slide]:
    whole = Slide(
        shortened(_unmarked(finding.headline), MAX_TITLE), (), shortened(_unmarked(finding.caption), MAX_CAPTION),
        finding.address(server), plain_text(finding.note)[:MAX_NOTE], plain_text(finding.command)[:MAX_NOTE],
        shortened(finding.author, 80), finding.picture,
    )  # fmt: skip
    pages = _pages([piece for part in finding.parts for piece in _pieces(part)])
    if len(pages) < 2:
        return [replace(whole, parts=tuple(pages[0]) if pages else ())]
    titles = [f"{shortened(whole.title, MAX_TITLE - 10)} ({n} of {len(pages)})" for n in range(1, len(pages) + 1)]
    return [
        replace(whole, title=title, parts=tuple(page), picture=whole.picture if n == 0 else b"")
        for n, (title, page) in enumerate(zip(titles, pages, strict=True))
    ]


def _pages(pieces: list[Part]) -> list[list[Part]]:
    """Small tables and galleries side by side; figures and lists have a slide each, or nobody could read them."""
    pages: list[list[Part]] = []
    for piece in pieces:
        if pages and len(pages[-1]) < COLUMNS and _small(piece) and all(map(_small, pages[-1])):
            pages[-1].append(piece)
        else:
            pages.append([piece])
    return pages


def _small(part: Part) -> bool:
    return isinstance(part, Gallery) or (isinstance(part, Table) and len(part.rows) < ROWS and len(part.columns) <= 6)


def _pieces(part: Part) -> list[Part]:
    """A part in pieces that fit a slide."""
    if isinstance(part, Table):
        starts = range(0, max(1, len(part.rows)), ROWS)
        pieces = [replace(part, rows=part.rows[start : start + ROWS]) for start in starts]
        return [narrow for piece in pieces for narrow in _narrow(piece)]
    if isinstance(part, Lists):
        return [replace(part, lists=tuple(RankedList(one.title, _places(one.entries)) for one in part.lists[:2]))]
    if isinstance(part, Gallery):
        return [Gallery(part.pictures[:6], part.captions[:5])]
    return [part]


def widths(part: Table) -> list[int]:
    """Letters that each column takes."""
    return [
        min(MOST_LETTERS, max(len(shortened(name, MAX_CELL)), *(len(cell_text(row[i])) for row in part.rows), 1))
        for i, name in enumerate(part.columns)
    ]


def _narrow(part: Table) -> list[Table]:
    """A wide table as several that can be read, each with the first column."""
    taken = widths(part)
    if sum(taken) + 2 * len(taken) <= LETTERS or len(taken) < 3:
        return [part]
    groups: list[list[int]] = [[0]]
    for i in range(1, len(taken)):
        used = sum(taken[j] + 2 for j in groups[-1])
        if len(groups[-1]) > 1 and used + taken[i] + 2 > LETTERS:
            groups.append([0])
        groups[-1].append(i)
    return [
        replace(part, columns=tuple(part.columns[i] for i in group),
                rows=tuple(tuple(row[i] for i in group) for row in part.rows))
        for group in groups
    ]  # fmt: skip


def _places(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The first of a list; where no target is among them, the best target in the last place."""
    first = entries[:PLACES]
    behind = next((entry for entry in entries[PLACES:] if entry.target), None)
    return first if behind is None or any(entry.target for entry in first) else (*first[:-1], behind)


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
