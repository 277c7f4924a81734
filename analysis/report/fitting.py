"""What fits on a slide of 1280 x 720 at letters of 24 pixels, which the last row reads: how wide words and columns are, how
many rows, lines and pictures have room. Both writers lay out by it, so that nothing is cut off in either."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.store.finding import Entry, Gallery, Lists, Part, RankedList, Table, plain_text

WIDTH = 1200  # pixels between the edges of a slide
GAP = 24  # between parts side by side
HALF = (WIDTH - GAP) // 2
TEXT, LINE = 24, 31  # pixels of the smallest letters, and of a line of them
LARGER = 30  # letters of a small table
ROWS = 8  # of a table on one slide
PLACES = 5  # of a list
PICTURES = 6  # of a gallery
UPLOAD = 240  # pixels of an uploaded picture beside the parts
MAX_CELL = 90  # characters
ROW, CELL = 14, 18  # pixels around the lines of a row and the words of a cell
LIST_ROW, FACE = 65, 70  # pixels of a row of a list, and of the picture in it
TITLE_LINES = CAPTION_LINES = 3
_CAPTION = 1104  # pixels: the number of the slide stands beside its last line
_LEAST = 180  # pixels below which no column of words is pressed
_TOP, _BELOW_TITLE, _BELOW_PARTS, _BOTTOM = 28, 14, 10, 20
_TITLE, _LONG_TITLE = 37, 31  # bold letters are wider than those of 34 and 26 pixels, and other typefaces than ours
_LINK = 120  # pixels of "live view"
_NARROW, _WIDE = frozenset("iljtfrI.,:;'|()[]! -"), frozenset("mwMW@%")


@dataclass(frozen=True)
class Frame:
    """Where things stand on a slide, in pixels. title: its letters, line: of a line of them; height: of the parts."""

    title: int
    line: int
    top: int
    height: int
    caption_top: int


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


def is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def pixels(text: str, size: float = TEXT) -> float:
    """How wide a text is in the letters of the app, within a few percent."""
    wide = sum(
        0.3 if letter in _NARROW else 0.86 if letter in _WIDE else 0.6 if letter.isdigit()
        else 0.67 if letter.isupper() else 1.0 if letter > "\u2fff" else 0.56
        for letter in text
    )  # fmt: skip
    return wide * size


def lines(text: str, width: float, size: float = TEXT) -> int:
    """Lines that a text takes: words are not broken, so that each leaves some room."""
    need = pixels(text, size)
    return 1 if need <= width else math.ceil(need / (0.93 * width))


def fitted(text: object, width: float, most: int = 1, size: float = TEXT) -> str:
    """One paragraph of at most `most` lines, with an ellipsis where it goes on."""
    flat = shortened(text, 2000)
    while flat and lines(flat, width, size) > most:
        room = 0.93 * width * most / pixels(flat, size)
        flat = flat.removesuffix("…")
        flat = flat[: min(len(flat) - 1, int(len(flat) * room))].rstrip() + "…"
    return flat


def fitted_caption(text: object) -> str:
    """A caption without its middle where it is too long: its start says what is shown, its end the data, N and the demo."""
    flat = shortened(text, 20_000)
    room = 0.93 * CAPTION_LINES * _CAPTION - _LINK
    if pixels(flat) <= room:
        return flat
    words = flat.split(" ")
    start: list[str] = []
    end: list[str] = []
    used = pixels(" … ")
    for word in reversed(words):
        if (used := used + pixels(f" {word}")) > 0.7 * room:
            break
        end.insert(0, word)
    for word in words[: len(words) - len(end)]:
        if (used := used + pixels(f" {word}")) > room:
            break
        start.append(word)
    return " ".join([*start, "…", *end]) if end else fitted(flat, _CAPTION - _LINK, CAPTION_LINES)


def frame(title: str, caption: str) -> Frame:
    """Where the parts of a slide stand."""
    large = lines(title, WIDTH, _TITLE) <= 2
    letters, line = (34, 41) if large else (26, 32)
    tall = line * (lines(title, WIDTH, _TITLE) if large else min(TITLE_LINES, lines(title, WIDTH, _LONG_TITLE)))
    below = min(CAPTION_LINES, lines(f"{caption} live view", _CAPTION)) * LINE
    top, caption_top = _TOP + tall + _BELOW_TITLE, 720 - _BOTTOM - below
    return Frame(letters, line, top, caption_top - _BELOW_PARTS - top, caption_top)


def fitted_title(text: object) -> str:
    return fitted(text, WIDTH, TITLE_LINES, _LONG_TITLE)


def column_widths(part: Table, width: float, size: float = TEXT) -> list[int]:
    """Pixels of each column, [] where they are too many: a column of numbers takes what it needs, words share the rest."""
    natural = _natural(part, size)
    if sum(natural) <= width:
        return [int(width * need / sum(natural)) for need in natural]
    words = [i for i in range(len(natural)) if not all(is_number(row[i]) for row in part.rows)]
    room = width - sum(need for i, need in enumerate(natural) if i not in words)
    taken = dict(enumerate(natural))
    for count, i in enumerate(sorted(words, key=natural.__getitem__)):
        taken[i] = min(natural[i], room / (len(words) - count))
        room -= taken[i]
        if taken[i] < min(natural[i], _LEAST):
            return []
    return [int(taken[i]) for i in range(len(natural))] if words else []


def table_height(part: Table, widths: Sequence[int], size: float = TEXT) -> int:
    """Pixels of a table with its title and its head."""
    return (LINE + 6 if part.title else 0) + sum(_row_heights(part, widths, size))


def table_size(part: Table, width: int) -> int:
    """Pixels of its letters: larger where a few rows have room for it."""
    return LARGER if len(part.rows) < 7 and sum(_natural(part, LARGER)) <= width else TEXT


def pages(parts: Sequence[Part], height: int, *, beside: bool = False) -> list[list[Part]]:
    """What stands on each slide: small tables and galleries side by side, a figure or lists alone, a long table on several.
    beside: an uploaded picture stands beside the first."""
    found: list[list[Part]] = []
    for piece in (piece for part in parts for piece in _pieces(part, height)):
        room = bool(found) and len(found[-1]) < 2 and not (beside and len(found) == 1)
        if room and all(_small(one, height) for one in (piece, *found[-1])):
            found[-1].append(piece)
        else:
            found.append([piece])
    return found


def gallery_sizes(part: Gallery, width: int, height: int) -> tuple[int, int, list[str]]:
    """(height and greatest width of a picture, the captions that have room). height 0: without a limit."""
    across = 6 if width > HALF else 3
    side, wide = (150 if across == 6 else 128), (width - 8 * (across - 1)) // across
    left = height - (side + 8) * -(-len(part.pictures) // across) - 12
    captions: list[str] = []
    for text in part.captions:
        line = fitted(text, width - 30, 2) if height else shortened(text, 400)
        left -= LINE * lines(line, width - 30)
        if height and left < 0:
            break
        captions.append(line)
    return side, wide, captions


def _natural(part: Table, size: float) -> list[float]:
    """Pixels that each column takes where nothing is broken. Its head is bold."""
    head = [1.05 * pixels(shortened(name, MAX_CELL), size) for name in part.columns]
    cells = [[pixels(cell_text(value), size) for value in row] for row in part.rows]
    return [CELL + 1.04 * max(column) for column in zip(head, *cells, strict=True)]


def list_widths(part: Lists, width: int) -> dict[str, int]:
    """Pixels of each of the lists, and of the rank, the picture, the words and the places moved of an entry."""
    each = (width - 20 * (len(part.lists) - 1)) // max(1, len(part.lists))
    entries = [entry for one in part.lists for entry in one.entries]
    rank = 16 + round(max((pixels(f"{entry.rank:,}") for entry in entries), default=0))
    moved = 16 + round(max((pixels(moved_text(entry.moved)) for entry in entries), default=0))
    face = FACE if any(entry.picture.startswith("data:image/") for entry in entries) else 0
    return {"each": each, "rank": rank, "face": face, "moved": moved, "words": each - rank - face - moved}


def moved_text(places: int | None) -> str:
    return "" if not places else f"{'▲' if places > 0 else '▼'} {abs(places):,}"


def _small(part: Part, height: int) -> bool:
    if isinstance(part, Table):
        taken = column_widths(part, HALF)
        return len(part.rows) < ROWS and bool(taken) and table_height(part, taken) <= height
    return isinstance(part, Gallery)


def _pieces(part: Part, height: int) -> list[Part]:
    """A part in pieces that fit a slide."""
    if isinstance(part, Table):
        return [piece for narrow in _narrow(part) for piece in _short(narrow, height)]
    if isinstance(part, Lists):
        return [replace(part, lists=tuple(RankedList(one.title, _places(one.entries)) for one in part.lists[:2]))]
    if isinstance(part, Gallery):
        return [Gallery(part.pictures[:PICTURES], part.captions[:PLACES])]
    return [part]


def _narrow(part: Table) -> list[Table]:
    """A wide table as several that can be read, each with the first column."""
    if column_widths(part, WIDTH) or len(part.columns) < 3:
        return [part]
    groups: list[list[int]] = [[0]]
    for i in range(1, len(part.columns)):
        if len(groups[-1]) > 1 and not column_widths(_columns(part, [*groups[-1], i]), WIDTH):
            groups.append([0])
        groups[-1].append(i)
    return [_columns(part, group) for group in groups]


def _columns(part: Table, which: Sequence[int]) -> Table:
    rows = tuple(tuple(row[i] for i in which) for row in part.rows)
    return replace(part, columns=tuple(part.columns[i] for i in which), rows=rows)


def _short(part: Table, height: int) -> list[Table]:
    """A long table as several that are not higher than a slide."""
    heights = _row_heights(part, column_widths(part, WIDTH) or [WIDTH // max(1, len(part.columns))] * len(part.columns))
    head = heights[0] + (LINE + 6 if part.title else 0)
    groups: list[list[int]] = [[]]
    for i, tall in enumerate(heights[1:]):
        if groups[-1] and (len(groups[-1]) == ROWS or head + tall + sum(heights[1 + j] for j in groups[-1]) > height):
            groups.append([])
        groups[-1].append(i)
    return [replace(part, rows=tuple(part.rows[i] for i in group)) for group in groups]


def _row_heights(part: Table, widths: Sequence[int], size: float = TEXT) -> list[int]:
    """Pixels of the head and of each row."""
    rows = [[shortened(name, MAX_CELL) for name in part.columns], *([cell_text(v) for v in row] for row in part.rows)]
    taken = ([lines(text, wide - CELL, size) for text, wide in zip(row, widths, strict=True)] for row in rows)
    return [ROW + round(LINE * size / TEXT) * max(counts, default=1) for counts in taken]


def _places(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The first of a list; where no target is among them, the best target in the last place."""
    first = entries[:PLACES]
    behind = next((entry for entry in entries[PLACES:] if entry.target), None)
    return first if behind is None or any(entry.target for entry in first) else (*first[:-1], behind)
