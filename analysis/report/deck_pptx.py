"""deck.pptx: slides that go into somebody's own deck. Title, caption and tables are native and can be edited, figures are
sharp pictures that link to the live view, command and note are speaker notes."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from analysis.report.browser import figure_pictures
from analysis.report.deck_html import deck_html
from analysis.report.slides import Deck, Slide, cell_text, shortened
from analysis.store.finding import Figure, Gallery, Lists, Part, RankedList, Table, plain_text

_PX = 9525  # English metric units of a pixel at 96 a inch; the slide has 1280 x 720 of them
_LEFT, _TOP, _WIDTH, _GAP = 40, 128, 1200, 24
_HEIGHT, _CAPTION_TOP = 474, 612
_LONGEST_NOTE = 8000
_EPOCH = (2026, 1, 1, 0, 0, 0)
_NEUTRAL = "4D5866"


def deck_pptx(deck: Deck, *, notes: bool = True) -> bytes:
    """The file's bytes, the same for the same deck. ReportError where a figure needs Chromium and there is none."""
    from pptx import Presentation
    from pptx.util import Emu

    pictures = iter(figure_pictures(deck_html(deck)))
    made = Presentation()
    made.slide_width, made.slide_height = Emu(1280 * _PX), Emu(720 * _PX)
    _first(made, deck)
    for slide in deck.slides:
        _slide(made, slide, pictures, notes)
    about = made.core_properties
    about.title, about.author, about.last_modified_by = deck.title, "RetrievalLens", "RetrievalLens"
    about.created = about.modified = datetime(*_EPOCH, tzinfo=UTC)
    out = io.BytesIO()
    made.save(out)
    return _without_clock(out.getvalue())


def _first(made: Any, deck: Deck) -> None:
    page = made.slides.add_slide(made.slide_layouts[6])
    _text(page, deck.title, (_LEFT, 230, _WIDTH, 150), 40, bold=True)
    _text(page, "\n".join(filter(None, (deck.subtitle, deck.date))), (_LEFT, 390, _WIDTH, 120), 18, color=_NEUTRAL)


def _slide(made: Any, slide: Slide, pictures: Any, notes: bool) -> None:
    page = made.slides.add_slide(made.slide_layouts[5])  # "Title Only": the title is the slide's own
    title = page.shapes.title
    title.left, title.top, title.width, title.height = (v * _PX for v in (_LEFT, 24, _WIDTH, 98))
    _fill(
        title.text_frame,
        slide.title,
        26 if len(slide.title) <= 90 else 20 if len(slide.title) <= 150 else 16,
        bold=True,
    )
    width = (_WIDTH - _GAP * (len(slide.parts) - 1)) // max(1, len(slide.parts))
    for index, part in enumerate(slide.parts):
        box = _LEFT + index * (width + _GAP), _TOP, width, _HEIGHT
        _part(page, part, box, pictures, slide.link)
    if slide.picture:
        _picture(page, slide.picture, (_LEFT + _WIDTH - 240, _TOP, 240, 150), "")
    _caption(page, slide)
    if notes:
        words = "\n\n".join(filter(None, (slide.note, slide.command, slide.link)))
        page.notes_slide.notes_text_frame.text = words[:_LONGEST_NOTE]


def _part(page: Any, part: Part, box: tuple[int, int, int, int], pictures: Any, link: str) -> None:
    left, top, width, height = box
    if isinstance(part, Figure):
        _picture(page, next(pictures), box, link)
    elif isinstance(part, Table):
        if part.title:
            _text(page, part.title, (left, top, width, 34), 16, bold=True)
        shown = [[cell_text(value) for value in row] for row in part.rows]
        _table(page, part.columns, shown, (left, top + (38 if part.title else 0), width, height), _right(part))
    elif isinstance(part, Lists):
        _lists(page, part, box)
    else:
        _gallery(page, part, box)


def _lists(page: Any, part: Lists, box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    if part.query or part.query_picture:
        shown = _inlined(part.query_picture)
        if shown:
            _picture(page, shown, (left, top, 62, 62), "")
        _text(page, shortened(part.query, 160), (left + (74 if shown else 0), top, width - 74, 62), 13)
        top, height = top + 70, height - 70
    each = (width - 16 * (len(part.lists) - 1)) // max(1, len(part.lists))
    for index, one in enumerate(part.lists):
        _list(page, one, (left + index * (each + 16), top, each, height))


def _list(page: Any, one: RankedList, box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    _text(page, shortened(one.title, 60), (left, top, width, 32), 15, bold=True)
    rows = [[str(e.rank), f"{'✓ ' if e.target else ''}{shortened(e.text, 90)}", _moved(e.moved)] for e in one.entries]
    room = 66 if any(_inlined(entry.picture) for entry in one.entries) else 0
    tall = 68 if room else 0
    inner = (left + room, top + 36, width - room, height - 36)
    _table(
        page,
        ("", "", ""),
        rows,
        inner,
        (True, False, True),
        widths=(0.12, 0.7, 0.18),
        header=False,
        tall=tall or 56,
        size=14,
    )
    for index, entry in enumerate(one.entries):
        shown = _inlined(entry.picture)
        if shown:
            _picture(page, shown, (left, top + 38 + index * tall, 62, 62), "")


def _gallery(page: Any, part: Gallery, box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    columns = max(1, width // 160)
    shown = [data for data in map(_inlined, part.pictures) if data]
    for index, data in enumerate(shown):
        at = left + (index % columns) * 160, top + (index // columns) * 160, 150, 150
        _picture(page, data, at, "")
    below = -(-len(shown) // columns) * 160
    words = "\n".join(f"• {shortened(text, 140)}" for text in part.captions)
    _text(page, words, (left, top + below, width, max(40, height - below)), 15)


def _table(
    page: Any, columns: Sequence[str], rows: Sequence[Sequence[str]], box: tuple[int, int, int, int], right: Sequence[bool],
    *, widths: Sequence[float] = (), header: bool = True, tall: int = 0, size: int = 0,
) -> None:  # fmt: skip
    from pptx.enum.text import PP_ALIGN
    from pptx.util import Pt

    if not columns or not (rows or header):
        return
    left, top, width, _ = box
    lines = ([list(columns)] if header else []) + [list(row) for row in rows]
    lengths = [max(4, *(len(line[i]) for line in lines)) for i in range(len(columns))]
    letters = size or int(min(18, max(10, 1.2 * width / (sum(lengths) + 2 * len(columns)))))
    frame = page.shapes.add_table(
        len(lines), len(columns), left * _PX, top * _PX, width * _PX, (tall or 38) * len(lines) * _PX
    )
    table = frame.table
    table.first_row, table.horz_banding = header, False
    shares = list(widths) or [length / sum(lengths) for length in lengths]
    for column, share in zip(table.columns, shares, strict=True):
        column.width = int(width * share * _PX)
    for i, line in enumerate(lines):
        if tall:
            table.rows[i].height = tall * _PX
        for j, text in enumerate(line):
            cell = table.cell(i, j)
            cell.text = plain_text(text)
            cell.margin_left = cell.margin_right = 6 * _PX
            for paragraph in cell.text_frame.paragraphs:
                paragraph.font.size, paragraph.font.bold = Pt(letters), header and i == 0
                paragraph.alignment = PP_ALIGN.RIGHT if right[j] else PP_ALIGN.LEFT


def _caption(page: Any, slide: Slide) -> None:
    frame = _text(page, slide.caption, (_LEFT, _CAPTION_TOP, _WIDTH, 84), 14, color=_NEUTRAL)
    if slide.link.startswith(("http://", "https://")):
        run = frame.paragraphs[-1].add_run()
        run.text = " live view"
        run.hyperlink.address = slide.link


def _picture(page: Any, data: bytes, box: tuple[int, int, int, int], link: str) -> None:
    """A picture, as large as its box allows, in proportion, at the top."""
    with Image.open(io.BytesIO(data)) as image:
        ratio, plain = image.width / image.height, image.format in ("PNG", "JPEG")
        if not plain:  # python-pptx takes no WebP
            out = io.BytesIO()
            image.convert("RGB").save(out, "PNG")
            data = out.getvalue()
    left, top, width, height = box
    wide, high = (width, width / ratio) if width / ratio <= height else (height * ratio, height)
    at = [round(value * _PX) for value in (left + (width - wide) / 2, top, wide, high)]
    shape = page.shapes.add_picture(io.BytesIO(data), *at)
    if link.startswith(("http://", "https://")):
        shape.click_action.hyperlink.address = link


def _text(
    page: Any, text: str, box: tuple[int, int, int, int], size: int, *, bold: bool = False, color: str = ""
) -> Any:
    frame = page.shapes.add_textbox(*(value * _PX for value in box)).text_frame
    _fill(frame, text, size, bold=bold, color=color)
    return frame


def _fill(frame: Any, text: str, size: int, *, bold: bool = False, color: str = "") -> None:
    from pptx.dml.color import RGBColor
    from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
    from pptx.util import Pt

    frame.word_wrap, frame.vertical_anchor = True, MSO_ANCHOR.TOP
    frame.margin_left = frame.margin_right = frame.margin_top = frame.margin_bottom = 0
    frame.text = plain_text(text)
    for paragraph in frame.paragraphs:
        paragraph.alignment = PP_ALIGN.LEFT
        paragraph.font.size, paragraph.font.bold = Pt(size), bold
        if color:
            paragraph.font.color.rgb = RGBColor.from_string(color)


def _right(part: Table) -> tuple[bool, ...]:
    first = part.rows[0] if part.rows else ("",) * len(part.columns)
    return tuple(isinstance(value, int | float) and not isinstance(value, bool) for value in first)


def _moved(places: int | None) -> str:
    return "" if not places else f"{'▲' if places > 0 else '▼'} {abs(places)}"


def _inlined(source: str) -> bytes:
    """The bytes of a data URI of a picture; none for anything else."""
    head, _, body = source.partition(";base64,")
    return base64.b64decode(body) if head.startswith("data:image/") and head != "data:image/svg+xml" else b""


def _without_clock(data: bytes) -> bytes:
    """The same archive with one fixed time in its entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            new.writestr(zipfile.ZipInfo(item.filename, _EPOCH), old.read(item), zipfile.ZIP_DEFLATED)
    return out.getvalue()
