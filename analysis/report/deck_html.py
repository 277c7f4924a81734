"""deck.html: the whole deck in one file that needs no network. reveal.js turns the pages, figures stay interactive.

Figures have fixed sizes, because a chart that is drawn while its slide is hidden otherwise gets a wrong one. Every word of
a finding passes through the template's escaping or lies in JSON whose "<" is written as \\u003c.
"""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.figures.palette import ACCENT, GRID, GROUND, INK, TARGET
from analysis.figures.style import TICK_SIZE
from analysis.report import fitting
from analysis.report.fitting import GAP, TEXT, WIDTH, cell_text, fitted, is_number, shortened
from analysis.report.slides import Deck, Slide, figure_json, natural_height
from analysis.store.finding import Figure, Lists, Part, Table, plain_text

VENDOR = Path(__file__).parents[2] / "assets" / "vendor"
FONTS = Path(__file__).parents[2] / "static" / "fonts"
LARGEST = TEXT / TICK_SIZE  # how much a figure made for the page is enlarged
PAGE_TEXT, ON_PAGE = 16, 1.15  # letters of a report, and how much its figures are enlarged
LEAST = 0.52  # of the height it was made for, at that enlargement
QUIET = {"light": "#4d5866", "dark": "#aab3bd"}
LINK = {"light": ACCENT, "dark": "#5fcac1"}  # as in the app's own dark theme
MAX_BYTES = 5_000_000


def deck_html(deck: Deck, *, notes: bool = False, mode: str = "light") -> str:
    """The file's text. notes: speaker notes with author's note and command, readable by anyone who gets the file."""
    shown = [_slide(slide, notes, mode) for slide in deck.slides]
    figures = any(isinstance(part, Figure) for slide in deck.slides for part in slide.parts)
    return environment().get_template("deck.html.j2").render(
        deck=deck,
        slides=shown,
        reveal_css=vendored("reveal/reveal.css"),
        reveal_js=vendored("reveal/reveal.js"),
        notes_js=vendored("reveal/notes.js") if notes else "",
        plotly_js=vendored("plotly/plotly-cartesian.min.js") if figures else "",
        plugins=Markup("[RevealNotes]") if notes else Markup("[]"),
        **colours(mode),
    )  # fmt: skip


def part_html(part: Part, width: int, height: int, mode: str, *, page: bool = False) -> Markup:
    """One part of a finding as markup of a given size. page: for a page to read, with smaller letters and all words."""
    if isinstance(part, Figure):
        return _figure(part, width, height, mode, ON_PAGE if page else LARGEST)
    width = round(width * TEXT / PAGE_TEXT) if page else width  # as many letters have room
    if isinstance(part, Table):
        size = fitting.table_size(part, width)
        taken = fitting.column_widths(part, width, size)
        shares = [f"{100 * one / sum(taken):.2f}" for one in taken]
        return _render("table.html.j2", part=part, size=size, shares=shares, cell=_whole if page else cell_text,
                       number=is_number, title=fitted(part.title, width), short=shortened, most=fitting.MAX_CELL)  # fmt: skip
    if isinstance(part, Lists):
        sizes = fitting.list_widths(part, width)
        return _render("lists.html.j2", part=part, fitted=fitted, moved_text=fitting.moved_text, **sizes)
    side, wide, captions = fitting.gallery_sizes(part, width, height)
    return _render("gallery.html.j2", part=part, side=side, wide=wide, captions=captions)


def _whole(value: object) -> str:
    return value if isinstance(value, str) else cell_text(value)


def colours(mode: str) -> dict[str, str | Markup]:
    return {
        "ground": GROUND[mode], "ink": INK[mode], "line": GRID[mode], "quiet": QUIET[mode], "accent": LINK[mode],
        "target": TARGET, "fonts": typeface(),
    }  # fmt: skip


@lru_cache(maxsize=1)
def typeface() -> Markup:
    """The letters of the app inside the file, so that a deck looks the same on any machine."""
    faces = (("plex-sans-latin", ""), ("plex-sans-greek", " unicode-range: U+0370-03FF;"))
    rules = (
        f"@font-face {{ font-family: 'Plex Sans'; font-weight: 100 700;{limits} "
        f"src: url(data:font/woff2;base64,{base64.b64encode((FONTS / f'{name}.woff2').read_bytes()).decode()}); }}"
        for name, limits in faces
    )
    return Markup("\n".join(rules))  # our own files


@lru_cache(maxsize=8)
def vendored(name: str) -> Markup:
    """A file of assets/vendor, as it may stand in a script or style element."""
    text = (VENDOR / name).read_text(encoding="utf-8")
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # our own file


@lru_cache(maxsize=1)
def environment() -> Environment:
    here = Path(__file__).with_name("templates")
    return Environment(loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, finalize=_shown)


def _shown(value: Any) -> Any:
    """What a template prints: text without what no encoding takes."""
    return plain_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def script_json(value: Any) -> Markup:
    """JSON inside a script element: no `</script>` and no `<!--` can occur in it."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def data_uri(picture: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" if picture else ""


def safe_picture(source: str) -> str:
    """A picture that lies in the file itself; anything else is left out."""
    return source if source.startswith("data:image/") else ""


def _slide(slide: Slide, notes: bool, mode: str) -> dict[str, Any]:
    width, at = part_width(slide), fitting.frame(slide.title, slide.caption)
    by = f"Pinned by {slide.author}" if slide.author else ""
    words = "\n\n".join(filter(None, (slide.note, slide.command, by)))
    return {
        "title": slide.title, "size": at.title, "caption": slide.caption,
        "link": slide.link if slide.link.startswith(("http://", "https://")) else "",
        "parts": [part_html(part, width, at.height, mode) for part in slide.parts],
        "picture": data_uri(slide.picture), "notes": words if notes else "",
    }  # fmt: skip


def part_width(slide: Slide) -> int:
    """Pixels of each part of a slide."""
    room = WIDTH - (fitting.UPLOAD + GAP if slide.picture else 0)
    return (room - GAP * (len(slide.parts) - 1)) // max(1, len(slide.parts))


def _figure(part: Figure, width: int, height: int, mode: str, largest: float) -> Markup:
    scale = min(largest, max(1.0, height / (LEAST * natural_height(part))))
    drawn = round(width / scale), round(height / scale)
    return _render(
        "figure.html.j2", width=drawn[0], height=drawn[1], scale=f"{scale:.4f}", outer=(width, height),
        figure=script_json(figure_json(part, *drawn, mode=mode)), words=_description(part),
    )  # fmt: skip


def _description(part: Figure) -> str:
    layout = json.loads(part.plotly).get("layout", {})
    meta = layout.get("meta")
    return shortened(meta.get("caption", "") if isinstance(meta, dict) else "", 400)


def _render(name: str, **values: Any) -> Markup:
    made = environment().get_template(name).render(picture=safe_picture, **values)
    return Markup(made)  # escaped by the template
