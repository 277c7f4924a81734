"""Notes leave and enter a database: a backup, JSON with everything, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from analysis.errors import StoreError
from analysis.store import notes_database as db
from analysis.store.finding import checked, from_json, to_json
from analysis.store.notebook import finding, findings, insert_finding, insert_label

FORMAT = "retrievallens-notes"
MOST = 10_000_000  # no SAE has so many concepts
LABEL_COLUMNS = ("sae", "concept", "text", "author", "time")
FINDING_COLUMNS = (
    "id", "collection", "order", "title", "sentence", "caption", "note", "author", "time", "tags", "link", "command",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins so


def backup(notes: Path, target: Path) -> Path:
    """A copy of the database as it is at one moment, also while others write. StoreError for a server's database: that
    has its own tools."""
    where = db.address(notes)
    if where.get_backend_name() != "sqlite":
        raise StoreError(
            f"The notes are in {where.render_as_string()}; back that up with its own tool (pg_dump), or use "
            "`.venv/bin/python -m analysis notes export FILE.json`."
        )
    with db.reading(notes) as connection:
        if connection is None:
            raise StoreError(f"There are no notes in {notes} yet; nothing to back up.")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    os.close(handle)
    try:
        source, copy = sqlite3.connect(str(where.database), timeout=db.WAIT_SECONDS), sqlite3.connect(name)
        try:
            source.backup(copy)
        finally:
            source.close()
            copy.close()
        os.replace(name, target)
    except (sqlite3.Error, OSError) as error:
        Path(name).unlink(missing_ok=True)
        raise StoreError(f"The backup {target} could not be written ({error}); choose a place with room.") from error
    return target


def export_json(notes: Path) -> str:
    """Labels with their history, and findings with everything, the hidden ones too."""
    every = [*findings(notes), *findings(notes, hidden=True)]
    whole = {
        "format": FORMAT,
        "schema": db.NOTES_SCHEMA,
        "labels": _labels(notes),
        "findings": [to_json(finding(notes, item.id)) for item in every],
    }
    return json.dumps(whole, ensure_ascii=False, indent=1)


def import_json(notes: Path, text: str) -> dict[str, int]:
    """Take in what `export_json` wrote; what is here already stays as it is. How many of each were new."""
    try:
        whole = json.loads(text)
        if whole["format"] != FORMAT:
            raise KeyError("format")
        entries, given = list(whole["findings"]), list(whole["labels"])
        json.dumps(whole, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"This is no export of notes ({error}); expected what `notes export` writes.") from error
    if whole.get("schema") != db.NOTES_SCHEMA:
        raise StoreError(
            f"The export is of version {whole.get('schema')}, this program reads version {db.NOTES_SCHEMA}; "
            "update RetrievalLens."
        )
    with db.writing(notes) as connection:
        before = _count(connection)
        new = sum(_take_label(connection, row) for row in given)
        for entry in entries:
            insert_finding(connection, checked(from_json(entry)))
        return {"labels": new, "findings": _count(connection) - before}


def export_csv(notes: Path, what: str) -> str:
    """All labels with their history, or the cards of all findings, one a row. Cells that a spreadsheet would take for a
    formula begin with an apostrophe."""
    if what == "labels":
        return _csv(LABEL_COLUMNS, _labels(notes))
    rows = [{**to_json(item), "tags": ", ".join(item.tags)} for item in findings(notes)]
    return _csv(FINDING_COLUMNS, rows)


def import_labels_csv(notes: Path, text: str) -> int:
    """Labels from CSV with the columns of `export_csv`; how many were new."""
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise StoreError(f"The CSV cannot be read ({error}); expected what `notes export` writes.") from error
    missing = [name for name in LABEL_COLUMNS if rows and name not in rows[0]]
    if not rows or missing:
        raise StoreError(
            f"The CSV lacks {', '.join(missing) or 'rows'}; expected the columns {', '.join(LABEL_COLUMNS)}."
        )
    with db.writing(notes) as connection:
        return sum(
            _take_label(connection, {name: _from_cell(row[name] or "") for name in LABEL_COLUMNS}) for row in rows
        )


def _labels(notes: Path) -> list[dict[str, Any]]:
    with db.reading(notes) as connection:
        if connection is None:
            return []
        rows = connection.execute(sa.select(db.labels).order_by(db.labels.c.id)).all()
        return [{name: getattr(row, name) for name in LABEL_COLUMNS} for row in rows]


def _take_label(connection: sa.Connection, row: Any) -> bool:
    try:
        concept = int(row["concept"])
        sae, text, author, time = (str(row[name]) for name in ("sae", "text", "author", "time"))
        if not 0 <= concept <= MOST or not sae:
            raise ValueError(f"SAE, or a concept from 0 to {MOST:,}, but {sae[:20]!r} and {concept}")
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise StoreError(
            f"A label has no {error}; expected the columns {', '.join(LABEL_COLUMNS)} with a whole number as concept."
        ) from error
    return insert_label(connection, sae, concept, text, author, time)


def _count(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(db.findings)) or 0)


def _csv(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_cell(row[name]) for name in columns] for row in rows])
    return out.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


def _from_cell(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith((*_FORMULA, "'")) else text
