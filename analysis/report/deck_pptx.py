"""deck.pptx: slides that go into somebody's own deck. Title, caption and tables are native and can be edited, figures are
sharp pictures that link to the live view, command and note are speaker notes."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lxml.etree import SubElement
from PIL import Image
from pptx.oxml.ns import qn

from analysis.report import fitting
from analysis.report.browser import figure_pictures
from analysis.report.deck_html import deck_html, part_width
from analysis.report.fitting import GAP, LINE, WIDTH, Frame, cell_text, fitted, is_number, shortened
from analysis.report.slides import Deck, Slide
from analysis.store.finding import Figure, Gallery, Lists, Part, RankedList, Table, plain_text

_PX = 9525  # English metric units of a pixel at 96 a inch; the slide has 1280 x 720 of them
_LEFT = 40
_PT = 0.75  # points of a pixel
_SMALLEST = fitting.TEXT * _PT  # of all letters: the last row reads them
_PLAIN_TABLE = "{2D5ABB26-0587-4C30-8999-92F81FD0307C}"  # PowerPoint's "No Style, No Grid"
_GRID = "D5DAE0"
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
    _text(page, deck.title, (_LEFT, 200, WIDTH, 170), 40, bold=True)
    _text(page, "\n".join(filter(None, (deck.subtitle, deck.date))), (_LEFT, 390, WIDTH, 160), 18, color=_NEUTRAL)


def _slide(made: Any, slide: Slide, pictures: Any, notes: bool) -> None:
    page = made.slides.add_slide(made.slide_layouts[5])  # "Title Only": the title is the slide's own
    at = fitting.frame(slide.title, slide.caption)
    title = page.shapes.title
    title.left, title.top, title.width, title.height = (v * _PX for v in (_LEFT, 28, WIDTH, at.top - 32))
    _fill(title.text_frame, slide.title, 24 if at.title > 30 else 20, bold=True)
    width = part_width(slide)
    for index, part in enumerate(slide.parts):
        _part(page, part, (_LEFT + index * (width + GAP), at.top, width, at.height), pictures, slide.link)
    if slide.picture:
        _picture(page, slide.picture, (_LEFT + WIDTH - fitting.UPLOAD, at.top, fitting.UPLOAD, at.height), "")
    _caption(page, slide, at)
    if notes:
        words = "\n\n".join(filter(None, (slide.note, slide.command, slide.link)))
        page.notes_slide.notes_text_frame.text = words[:_LONGEST_NOTE]


def _part(page: Any, part: Part, box: tuple[int, int, int, int], pictures: Any, link: str) -> None:
    left, top, width, height = box
    if isinstance(part, Figure):
        _picture(page, next(pictures), box, link)
    elif isinstance(part, Table):
        if part.title:
            _text(page, fitted(part.title, 0.94 * width), (left, top, width, LINE), _SMALLEST, bold=True)
            top += LINE + 6
        _native_table(page, part, (left, top, width, height))
    elif isinstance(part, Lists):
        _lists(page, part, box)
    else:
        _gallery(page, part, box)


def _lists(page: Any, part: Lists, box: tuple[int, int, int, int]) -> None:
    left, top, width, _ = box
    room = fitting.list_widths(part, width)
    if part.query or part.query_picture:
        shown = _inlined(part.query_picture)
        if shown:
            _picture(page, shown, (left, top, 58, 58), "")
        beside = 70 if shown else 0
        words = fitted(part.query, width - beside - 20, 2)
        _text(page, words, (left + beside, top, width - beside, 2 * LINE), _SMALLEST)
        top += 2 * LINE + 6
    for index, one in enumerate(part.lists):
        _list(page, one, (left + index * (room["each"] + 20), top), room)


def _list(page: Any, one: RankedList, corner: tuple[int, int], room: Mapping[str, int]) -> None:
    left, top = corner
    _text(page, fitted(one.title, 0.9 * room["each"]), (left, top, room["each"], LINE), _SMALLEST, bold=True)
    top += LINE + 6
    words = 0.94 * room["words"] - 12
    rows = [
        [
            f"{e.rank:,}",
            f"✓ {fitted(e.text, words - 20, 2)}" if e.target else fitted(e.text, words, 2),
            fitting.moved_text(e.moved),
        ]
        for e in one.entries
    ]
    columns = (room["rank"], room["words"], room["moved"])
    _table(page, rows, (left + room["face"], top), columns, (True, False, True), tall=fitting.LIST_ROW)
    for index, data in enumerate(_inlined(entry.picture) for entry in one.entries):
        if data:
            _picture(page, data, (left, top + 3 + index * fitting.LIST_ROW, 58, 58), "")


def _gallery(page: Any, part: Gallery, box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    side, wide, captions = fitting.gallery_sizes(part, width, height)
    x, y = 0.0, 0
    for data in filter(None, map(_inlined, part.pictures)):
        shown, _ = _size(data, wide, side)
        if x + shown > width:
            x, y = 0.0, y + side + 8
        _picture(page, data, (left + round(x), top + y, round(shown), side), "")
        x += shown + 8
    below = y + side + 20 if x else 0
    words = "\n".join(f"• {text}" for text in captions)
    if words:
        _text(page, words, (left, top + below, width, max(LINE, height - below)), _SMALLEST)


def _native_table(page: Any, part: Table, box: tuple[int, int, int, int]) -> None:
    left, top, width, _ = box
    if not part.columns:
        return
    size = fitting.table_size(part, width)
    columns = fitting.column_widths(part, width, size) or [width // len(part.columns)] * len(part.columns)
    shown = [[cell_text(value) for value in row] for row in part.rows]
    right = tuple(bool(part.rows) and is_number(value) for value in (part.rows[0] if part.rows else part.columns))
    head = [shortened(name, fitting.MAX_CELL) for name in part.columns]
    _table(page, [head, *shown], (left, top), columns, right, header=True, size=size)


def _table(
    page: Any, rows: Sequence[Sequence[str]], corner: tuple[int, int], columns: Sequence[int], right: Sequence[bool],
    *, header: bool = False, tall: int = 0, size: int = fitting.TEXT,
) -> None:  # fmt: skip
    from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
    from pptx.util import Pt

    if not rows:
        return
    least = tall or fitting.ROW + round(LINE * size / fitting.TEXT)
    left, top = corner
    sizes = (value * _PX for value in (left, top, sum(columns), least * len(rows)))
    frame = page.shapes.add_table(len(rows), len(columns), *sizes)
    table = frame.table
    table.first_row, table.horz_banding = header, False
    frame._element.graphic.graphicData.tbl.tblPr.find(qn("a:tableStyleId")).text = _PLAIN_TABLE
    for column, wide in zip(table.columns, columns, strict=True):
        column.width = int(wide * _PX)
    for i, line in enumerate(rows):
        table.rows[i].height = least * _PX
        for j, text in enumerate(line):
            cell = table.cell(i, j)
            cell.text = plain_text(text)
            cell.margin_left = cell.margin_right = 6 * _PX
            cell.margin_top = cell.margin_bottom = (2 if tall else 6) * _PX
            cell.vertical_anchor = MSO_ANCHOR.MIDDLE
            _line_below(cell)
            for paragraph in cell.text_frame.paragraphs:
                paragraph.font.size, paragraph.font.bold = Pt(size * _PT), header and i == 0
                paragraph.alignment = PP_ALIGN.RIGHT if right[j] else PP_ALIGN.LEFT
                paragraph.line_spacing = 0.9 if tall else 1.0


def _line_below(cell: Any) -> None:
    line = SubElement(cell._tc.get_or_add_tcPr(), qn("a:lnB"), w=str(_PX))
    SubElement(SubElement(line, qn("a:solidFill")), qn("a:srgbClr"), val=_GRID)


def _caption(page: Any, slide: Slide, at: Frame) -> None:
    box = (_LEFT, at.caption_top, WIDTH, 720 - at.caption_top - 8)
    frame = _text(page, slide.caption, box, _SMALLEST, color=_NEUTRAL)
    if slide.link.startswith(("http://", "https://")):
        run = frame.paragraphs[-1].add_run()
        run.text = " live view"
        run.hyperlink.address = slide.link


def _picture(page: Any, data: bytes, box: tuple[int, int, int, int], link: str) -> None:
    """A picture, as large as its box allows, in proportion, at the top and in the middle."""
    left, top, width, height = box
    wide, high = _size(data, width, height)
    at = [round(value * _PX) for value in (left + (width - wide) / 2, top, wide, high)]
    shape = page.shapes.add_picture(io.BytesIO(data), *at)
    if link.startswith(("http://", "https://")):
        shape.click_action.hyperlink.address = link


def _size(data: bytes, width: float, height: float) -> tuple[float, float]:
    """Width and height of a picture within limits."""
    with Image.open(io.BytesIO(data)) as image:
        scale = min(width / image.width, height / image.height)
        return image.width * scale, image.height * scale


def _text(
    page: Any, text: str, box: tuple[int, int, int, int], size: float, *, bold: bool = False, color: str = ""
) -> Any:
    frame = page.shapes.add_textbox(*(value * _PX for value in box)).text_frame
    _fill(frame, text, size, bold=bold, color=color)
    return frame


def _fill(frame: Any, text: str, size: float, *, bold: bool = False, color: str = "") -> None:
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


def _inlined(source: str) -> bytes:
    """The picture of a data URI, as PowerPoint takes it; none for anything else."""
    head, _, body = source.partition(";base64,")
    if not head.startswith("data:image/") or head == "data:image/svg+xml":
        return b""
    data = base64.b64decode(body)
    with Image.open(io.BytesIO(data)) as image:
        if image.format in ("PNG", "JPEG"):
            return data
        out = io.BytesIO()
        image.convert("RGB").save(out, "PNG")  # it takes no WebP
    return out.getvalue()


def _without_clock(data: bytes) -> bytes:
    """The same archive with one fixed time in its entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            new.writestr(zipfile.ZipInfo(item.filename, _EPOCH), old.read(item), zipfile.ZIP_DEFLATED)
    return out.getvalue()
