"""Caption tables line by line: CSV in the dialects that spreadsheets, Flickr8k/30k and scripts write, and JSON lines.

Every row comes with the number of the line on which it begins. A line that is none is counted with its number and costs
no other line.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.data.columns import CAPTION, FILE, column_of
from analysis.data.defects import Defects, printable
from analysis.data.disk import read_json, read_text
from analysis.data.names import is_picture
from analysis.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
_LONGEST = 200  # lines of one quoted caption
_NUMBERED = re.compile(r"#\d+$")  # "1000268201.jpg#0", as the Flickr token files write it


@dataclass(frozen=True)
class TableRow:
    """One row: the file that it names and the cell with its caption or captions. `split` where a column says one."""

    line: int
    file: str
    caption: Any
    split: str = ""


def read_table(path: Path, defects: Defects) -> Iterator[TableRow]:
    """The rows of a CSV, TSV, token, JSON or JSON-lines file. Raises DataError where no column can be the file or the
    caption: the columns found are named."""
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        yield from _records(path.name, list(_json(path, defects)), defects)
    else:
        yield from _csv(path.name, _lines(read_text(path)), defects)


@dataclass(frozen=True)
class _Dialect:
    delimiter: str
    columns: list[str]
    file: int
    caption: int
    split: int | None
    begin: int  # index of the first line behind the header


def _csv(name: str, lines: list[str], defects: Defects) -> Iterator[TableRow]:
    dialect = _dialect(name, lines, defects)
    number = dialect.begin
    while number < len(lines):
        begin, line = number, lines[number]
        number += 1
        if not line.strip(" \t\x1a\x00\ufeff"):
            continue
        where = f"{name} line {begin + 1}"
        cells, used = _cells(lines, begin, dialect)
        if cells is None:
            defects.add("unreadable line", f"{where} (a quotation mark that is not closed, or stands inside)")
            continue
        number = begin + used
        if len(cells) > len(dialect.columns):
            cells = _with_delimiters(line, dialect) if used == 1 else None
            if cells is None:
                defects.add("unreadable line", f"{where} (more columns than the header)")
                continue
            defects.add("caption with unquoted delimiters (read whole)", where)
        cells += [""] * (len(dialect.columns) - len(cells))
        caption = cells[dialect.caption]
        if any("\udc80" <= character <= "\udcff" for character in caption):
            raise DataError(f"{where} is not UTF-8; save the table as UTF-8.")
        split = cells[dialect.split].strip() if dialect.split is not None else ""
        yield TableRow(begin + 1, cells[dialect.file].strip(), caption, split)


def _dialect(name: str, lines: list[str], defects: Defects) -> _Dialect:
    """Delimiter and columns from the first lines. Excel's own "sep=;" goes before the header; a table without one is read
    where its first line names a picture."""
    begin = next((index for index, line in enumerate(lines) if line.strip() and not _is_remark(line)), len(lines))
    header = lines[begin] if begin < len(lines) else ""
    marks: tuple[str, ...] = DELIMITERS
    if (stated := re.fullmatch(r'"?sep=(.)"?[,;\t]*', header.strip(" "), re.IGNORECASE)) is not None:
        marks, begin = (stated.group(1),), begin + 1
        header = lines[begin] if begin < len(lines) else ""
    candidates = []
    for mark in marks:
        columns = _parse(header, mark) or []
        candidates.append((mark, columns))
        file, caption = column_of(columns, FILE, name), column_of(columns, CAPTION, name)
        if file is not None and caption is not None:
            split = next((i for i, column in enumerate(columns) if column.strip().lower() == "split"), None)
            return _Dialect(mark, columns, columns.index(file), columns.index(caption), split, begin + 1)
    for mark, columns in candidates:
        if len(columns) > 1 and is_picture(_NUMBERED.sub("", columns[0].strip())):
            defects.add("table without a header (first column read as file, the rest as caption)", name)
            return _Dialect(mark, ["file", "caption"], 0, 1, None, begin)
    _, columns = max(candidates, key=lambda found: len(found[1]))
    shown = ", ".join(printable(column.strip()) for column in columns if column.strip())
    raise DataError(
        f"{name} has the columns {shown[:300] or 'none'}; expected file and caption in its first line (or names such as "
        "image_name and comment)."
    )


def _is_remark(line: str) -> bool:
    """A line about the table before its header: "# captions of 2024"."""
    return line.startswith("#") and not any(is_picture(without_number(cell)) for cell in re.split(r"[,;\t|]", line))


def _cells(lines: list[str], begin: int, dialect: _Dialect) -> tuple[list[str] | None, int]:
    """(cells, lines used) of the row that begins at a line. A quoted caption may run over several lines, unless one of
    them is a row by itself: then the quotation mark was a stray one, and (None, 1) is returned."""
    text = lines[begin]
    for used in range(1, _LONGEST):
        cells = _parse(text, dialect.delimiter)
        if cells is not None and (used == 1 or len(cells) == len(dialect.columns)):
            return cells, used
        following = begin + used
        if text.count('"') == 0 or following >= len(lines) or _is_row(lines[following], dialect):
            break
        text = f"{text}\n{lines[following]}"
    return None, 1


def _is_row(line: str, dialect: _Dialect) -> bool:
    cells = line.split(dialect.delimiter)
    return len(cells) >= len(dialect.columns) and is_picture(_NUMBERED.sub("", cells[dialect.file].strip(' "')))


def _parse(text: str, delimiter: str) -> list[str] | None:
    """The cells of one record, None where its quotation marks do not pair up: doubled inside a cell, or behind a backslash."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a long caption is no reason to stop
    escapes = (None, "\\") if '\\"' in text else (None,)
    for escape in escapes:
        try:
            return next(
                csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True, escapechar=escape), []
            )
        except csv.Error:
            continue
    return None


def _with_delimiters(line: str, dialect: _Dialect) -> list[str] | None:
    """The cells of a line whose caption holds the delimiter: what lies behind the columns before it and before those
    behind it. None where another column behind the caption could hold it as well."""
    behind = dialect.columns[dialect.caption + 1 :]
    if behind not in ([], [dialect.columns[dialect.file]]):
        return None
    cells = line.split(dialect.delimiter)
    stop = len(cells) - len(behind)
    text = dialect.delimiter.join(cells[dialect.caption : stop]).strip()
    before = [cell.strip().strip('"') for cell in cells[: dialect.caption]]
    return [*before, text, *(cell.strip().strip('"') for cell in cells[stop:])]


def _lines(text: str) -> list[str]:
    """Lines by \\n, \\r\\n, or \\r alone where the file has no \\n: a lone \\r inside a caption ends no line."""
    if "\n" not in text:
        return text.split("\r")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _json(path: Path, defects: Defects) -> Iterator[tuple[int, Any]]:
    """(number, record) of a list, of lines, or of what an object holds, whatever the file's name promises: pictures as keys,
    or one list of objects."""
    text = read_text(path)
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
        if path.suffix.lower() == ".json" and not _is_record(text.lstrip().split("\n", 1)[0]):
            read_json(path)  # says what is wrong with it
    if whole is None:
        yield from _json_lines(path.name, text, defects)
    elif isinstance(whole, list):
        yield from enumerate(whole, 1)
    elif isinstance(whole, dict) and whole and all(is_picture(key) for key in whole):
        yield from enumerate([{"file": name, "caption": captions} for name, captions in whole.items()], 1)
    elif isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        yield from enumerate(lists[0] if len(lists) == 1 and path.suffix.lower() == ".json" else [whole], 1)
    else:
        raise DataError(f"{path.name} holds {type(whole).__name__}; expected objects with file and caption.")


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line.strip().rstrip(",")), dict)
    except ValueError:
        return False


def _json_lines(name: str, text: str, defects: Defects) -> Iterator[tuple[int, Any]]:
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            try:
                yield line, json.loads(content.strip().rstrip(","))
            except ValueError:
                defects.add("unreadable line", f"{name} line {line}")


def _records(name: str, records: list[tuple[int, Any]], defects: Defects) -> Iterator[TableRow]:
    keys = dict.fromkeys(str(key) for _, record in records if isinstance(record, dict) for key in record)
    if not records:
        return
    file, caption = column_of(keys, FILE, name), column_of(keys, CAPTION, name)
    if file is None or caption is None:
        shown = ", ".join(printable(key) for key in list(keys)[:20])
        raise DataError(
            f"{name} has the keys {shown or 'none'}; expected file and caption (or names such as image, text)."
        )
    split = next((key for key in keys if key.strip().lower() == "split"), None)
    for line, record in records:
        if not isinstance(record, dict):
            defects.add("unreadable line", f"{name} line {line}")
            continue
        value = record.get(file)
        if isinstance(value, dict):  # an image struct of the hub
            value = value.get("path")
        told = record.get(split) if split else ""
        yield TableRow(line, value.strip() if isinstance(value, str) else "", record.get(caption),
                       told if isinstance(told, str) else "")  # fmt: skip


def without_number(name: str) -> str:
    """ "1000268201.jpg" of "1000268201.jpg#0"."""
    return _NUMBERED.sub("", name)
