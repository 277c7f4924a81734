"""A plain folder: pictures and captions.csv or captions.jsonl with the columns file and caption."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from analysis.data.disk import clean_text, fingerprint, listing, picture_names
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.samples import Defects, PairSet, Picture
from analysis.errors import DataError

TABLES = ("captions.csv", "captions.jsonl")


def find_tables(path: Path) -> list[Path]:
    """The caption tables of a folder, or the file itself."""
    if path.is_file():
        return [path] if path.name in TABLES else []
    return [path / name for name in TABLES if (path / name).is_file()]


def load_folder(
    path: Path, *, split: str | None = None, limit: int | None = None, seed: int = 0, check: bool = False
) -> PairSet:
    """Pairs of a plain folder. File names count from the folder or from its images/ folder, and are the image ids;
    several lines may name one file. Such a folder has no splits: asking for one raises DataError."""
    tables = find_tables(path)
    root = path.parent if path.is_file() else path
    if split is not None:
        raise DataError(f"{root.name} is a plain folder without splits, so it has no {split!r}; leave the split out.")
    defects = Defects()
    captions: dict[str, list[str]] = {}
    for table in tables:
        for line, name, caption in _rows(table, defects):
            text = clean_text(caption)
            if not name:
                defects.add("line without a file", f"{table.name} line {line}")
            elif not text:
                defects.add("empty caption", f"{table.name} line {line}")
                captions.setdefault(name, [])
            elif text in captions.setdefault(name, []):
                defects.add("duplicate caption", f"{table.name} line {line}")
            else:
                captions[name].append(text)
    revision: list[str | bytes] = [fingerprint(table.read_bytes() for table in tables)]
    groups = list(_groups(root, captions, defects, revision))
    return build_pairs(root.name, groups, defects=defects, revision=revision, limit=limit, seed=seed, check=check)


def _rows(table: Path, defects: Defects) -> Iterator[tuple[int, str, object]]:
    """(line number, file, caption) of a table."""
    try:
        text = table.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{table.name} is not UTF-8 ({error}); save it as UTF-8.") from error
    records = _csv(text, table.name, defects) if table.suffix == ".csv" else _jsonl(text, table.name, defects)
    for line, record in records:
        file = record.get("file")
        yield line, file.strip().replace("\\", "/") if isinstance(file, str) else "", record.get("caption")


def _csv(text: str, name: str, defects: Defects) -> Iterator[tuple[int, dict[str, object]]]:
    header = text.partition("\n")[0]
    delimiter = next((mark for mark in (",", ";", "\t") if mark in header), ",")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a long caption is no reason to stop
    # strict: a quote that is never closed would otherwise swallow all lines behind it without a word
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns = [column.strip().lower() for column in reader.fieldnames or ()]
    if not {"file", "caption"} <= set(columns):
        raise DataError(f"{name} has the columns {', '.join(columns) or 'none'}; expected file and caption.")
    reader.fieldnames = columns
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            defects.add("unreadable line", f"{name} line {reader.line_num} ({error})")
            continue
        yield reader.line_num, record


def _jsonl(text: str, name: str, defects: Defects) -> Iterator[tuple[int, dict[str, object]]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except ValueError:
            record = None
        if isinstance(record, dict):
            yield line, record
        else:
            defects.add("unreadable line", f"{name} line {line}")


def _groups(
    root: Path, captions: dict[str, list[str]], defects: Defects, revision: list[str | bytes]
) -> Iterator[PairGroup]:
    listings: dict[Path, dict[str, int]] = {}
    used: dict[Path, set[str]] = {}
    for name, texts in captions.items():
        for path in (root / name, root / "images" / name):
            if path.parent not in listings:
                listings[path.parent] = listing(path.parent)
            size = listings[path.parent].get(path.name)
            if size is not None:
                break
        else:
            defects.add("picture missing", name)
            continue
        revision.append(f"{name} {size}")
        used.setdefault(path.parent, set()).add(path.name)
        if size == 0:
            defects.add("picture of 0 bytes", name)
            continue
        numbered = [(str(number), text) for number, text in enumerate(texts)]
        yield PairGroup(name, Picture(path=path, name=name), numbered, source=name)
    for folder, names in used.items():
        for unnamed in sorted(picture_names(listings[folder]) - names):
            defects.add("picture without a caption", unnamed)
