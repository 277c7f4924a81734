"""One figure, table or list as a picture at slide size, with its title, caption, data and demo label inside: the slide of a
deck, drawn by the same Chromium."""

from __future__ import annotations

import re
import textwrap
import threading
from dataclasses import replace
from html import escape

from analysis.figures.palette import GROUND, INK
from analysis.report import fitting
from analysis.report.browser import figure_svg, printed, slide_png
from analysis.report.deck_html import QUIET, deck_html
from analysis.report.fitting import LINE, TEXT
from analysis.report.slides import ReportError, Slide, deck_of
from analysis.store.finding import Figure, Finding

FORMATS = ("svg", "png", "pdf")
MIME = {"svg": "image/svg+xml", "png": "image/png", "pdf": "application/pdf"}
PATIENCE = 60.0  # seconds that somebody waits for the pictures of others
_EDGE, _WIDTH, _HEIGHT = 40, 1280, 720
_LETTER = 0.56  # of its size a letter is wide, on average
_FONT = "'Plex Sans', 'IBM Plex Sans', Arial, sans-serif"
_turn = threading.Lock()  # one Chromium at a time


def still(finding: Finding, kind: str, *, mode: str = "light") -> bytes:
    """The finding as "svg" (figures alone), "png" or "pdf" (every page of a long list). ReportError where it has nothing to
    draw, or no Chromium draws it."""
    if kind not in FORMATS:
        raise ReportError(f"{kind[:20]!r} is no format of a picture; expected one of {', '.join(FORMATS)}.")
    deck = deck_of(finding.headline, [finding])
    deck = replace(deck, slides=tuple(replace(slide, link="") for slide in deck.slides if slide.parts))
    if not deck.slides:
        raise ReportError("This view holds no figure, table or list to draw; copy its link instead.")
    if not _turn.acquire(timeout=PATIENCE):
        raise ReportError("Pictures of other visitors are being drawn; try again in a moment.")
    try:
        if kind == "pdf":
            return printed(deck_html(deck, mode=mode), pages="2-")
        if kind == "png":
            return slide_png(deck_html(deck, mode=mode), 2)
        first = next((slide for slide in deck.slides if isinstance(slide.parts[0], Figure)), None)
        if first is None:
            raise ReportError("Tables and lists have no SVG; take PNG or PDF.")
        return _svg(first, figure_svg(deck_html(replace(deck, slides=(first,)), mode=mode)), mode).encode()
    finally:
        _turn.release()


def _svg(slide: Slide, figure: str, mode: str) -> str:
    """Title, figure and caption one below the other, letters as letters."""
    frame = fitting.frame(slide.title, slide.caption)
    title = _wrapped(fitting.fitted_title(slide.title), frame.title)[: fitting.TITLE_LINES]
    caption = _wrapped(fitting.fitted_caption(slide.caption), TEXT)
    top = _EDGE + frame.line * len(title)
    room = _HEIGHT - top - LINE * len(caption) - _EDGE // 2
    tag, _, inside = figure[figure.index("<svg") :].partition(">")
    placed = f'<svg x="{_EDGE}" y="{top}" width="{_WIDTH - 2 * _EDGE}" height="{room}"'
    inner = f"{placed}{re.sub(r' (?:width|height)=.[0-9.]+.', '', tag.removeprefix('<svg'))}>{inside}"
    written = [_line(words, _EDGE + frame.line * n, f'font-size="{frame.title}" font-weight="600" fill="{INK[mode]}"')
               for n, words in enumerate(title)]  # fmt: skip
    written += [_line(words, _HEIGHT - _EDGE // 2 - LINE * n, f'font-size="{TEXT}" fill="{QUIET[mode]}"')
                for n, words in enumerate(reversed(caption))]  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'font-family="{_FONT}"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="{GROUND[mode]}"/>'
        f"{''.join(written)}{inner}</svg>"
    )


def _wrapped(text: str, size: int) -> list[str]:
    return textwrap.wrap(text, int(fitting.WIDTH / (_LETTER * size)))


def _line(words: str, y: int, look: str) -> str:
    return f'<text x="{_EDGE}" y="{y}" {look}>{escape(words)}</text>'
