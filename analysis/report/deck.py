"""A deck in the format that its file name asks for."""

from __future__ import annotations

from pathlib import Path

from analysis.report.browser import printed
from analysis.report.deck_html import MAX_BYTES, deck_html
from analysis.report.deck_pptx import deck_pptx
from analysis.report.files import write_whole
from analysis.report.slides import Deck, ReportError

FORMATS = ("html", "pptx", "pdf")


def deck_bytes(deck: Deck, kind: str, *, notes: bool = False, mode: str = "light") -> bytes:
    """The deck as "html", "pptx" or "pdf". notes: in HTML; PowerPoint has them where its speaker notes are."""
    if kind == "pptx":
        return deck_pptx(deck)
    html = deck_html(deck, notes=notes and kind == "html", mode=mode)
    return printed(html) if kind == "pdf" else html.encode()


def write_deck(deck: Deck, path: Path, *, notes: bool = False, mode: str = "light") -> None:
    kind = path.suffix[1:].lower()
    if kind not in FORMATS:
        raise ReportError(f"{path.name!r} names no format of a deck; expected .html, .pptx or .pdf.")
    write_whole(path, deck_bytes(deck, kind, notes=notes, mode=mode))


__all__ = ["FORMATS", "MAX_BYTES", "deck_bytes", "write_deck"]
