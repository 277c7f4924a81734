"""The database of notes: its tables, how it is opened, and what keeps it whole. What is written there: `notebook.py`.

A SQLite file in the cache's `notes` folder unless RETRIEVALLENS_NOTES names another place, as a SQLAlchemy URL
(`postgresql+psycopg://user@host/name`). SQLite keeps its rollback journal (a write-ahead log does not work on the network
folders that caches lie on), syncs every commit, and takes the write lock when a transaction begins, so two writers wait for
each other instead of failing; on PostgreSQL a lock of ours does the same. Notes of the time before, JSON lines, are taken
in when the database is opened.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from analysis.errors import StoreError

NOTES_VARIABLE = "RETRIEVALLENS_NOTES"
NOTES_SCHEMA = 1
FILE = "notes.sqlite"
WAIT_SECONDS = 30

log = logging.getLogger(__name__)
_tables = sa.MetaData()
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts rows up in INTEGER keys only

meta = sa.Table(
    "retrievallens_meta", _tables,
    sa.Column("key", sa.String(1000), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)  # fmt: skip
labels = sa.Table(
    "labels", _tables,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("sae", sa.String(16), nullable=False),  # first 16 hex of the sha256 of the weights
    sa.Column("concept", sa.Integer, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("time", sa.String(40), nullable=False),
    sa.Index("labels_of_concept", "sae", "concept", "id"),
    sa.Index("labels_newest", "sae", "id"),
)  # fmt: skip
collections = sa.Table(
    "collections", _tables,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("time", sa.String(40), nullable=False),
)  # fmt: skip
findings = sa.Table(
    "findings", _tables,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("uid", sa.String(32), nullable=False, unique=True),
    sa.Column("collection", sa.ForeignKey("collections.id"), nullable=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("hidden", sa.Boolean, nullable=False, default=False),
    sa.Column("words", sa.Text, nullable=False),  # everything that search looks at, case folded
    sa.Column("card", sa.Text, nullable=False),  # JSON of a Finding without what `contents` holds
    sa.Index("findings_in_order", "collection", "place"),
)  # fmt: skip
contents = sa.Table(
    "finding_contents", _tables,
    sa.Column("finding", sa.ForeignKey("findings.id"), primary_key=True),
    sa.Column("parts", sa.Text, nullable=False),
    sa.Column("picture", sa.LargeBinary, nullable=False),
)  # fmt: skip
results = sa.Table(
    "kept_results", _tables,
    sa.Column("digest", sa.String(64), primary_key=True),  # of the store
    sa.Column("what", sa.String(1000), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("time", sa.String(40), nullable=False),
)  # fmt: skip

_engines: dict[tuple[int, str, str], sa.Engine] = {}
_ready: set[tuple[int, str, str]] = set()
_lock = threading.RLock()


def address(notes: Path | str) -> sa.URL:
    """Where the notes of a cache are: RETRIEVALLENS_NOTES, else the SQLite file in its `notes` folder."""
    given = os.environ.get(NOTES_VARIABLE, "").strip()
    try:
        return sa.make_url(given) if given else sa.URL.create("sqlite", database=str(Path(notes) / FILE))
    except ArgumentError as error:
        raise StoreError(
            f"{NOTES_VARIABLE} is no database address; expected a SQLAlchemy URL such as "
            "postgresql+psycopg://user@host/name or sqlite:////folder/notes.sqlite."
        ) from error


@contextmanager
def reading(notes: Path | str) -> Iterator[sa.Connection | None]:
    """A connection that sees one state of the notes; None where there are none yet, and nothing is created then."""
    where = address(notes)
    if _file(where) and not Path(where.database or "").is_file() and not _old_files(notes):
        yield None
        return
    with _explained(where):
        engine = _opened(notes, where)
        with engine.begin() as connection:
            yield connection


@contextmanager
def writing(notes: Path | str) -> Iterator[sa.Connection]:
    """A transaction: everything in it is kept, or nothing."""
    where = address(notes)
    with _explained(where):
        engine = _opened(notes, where).execution_options(write=True)
        with engine.begin() as connection:
            _alone(connection)
            yield connection


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _opened(notes: Path | str, where: sa.URL) -> sa.Engine:
    """The engine of an address, its tables made and the old notes taken in. One a process: connections do not survive a
    fork."""
    key = os.getpid(), where.render_as_string(hide_password=False), str(notes)
    with _lock:
        if key not in _engines:
            _engines[key] = _engine(where)
        gone = _file(where) and not Path(where.database or "").is_file()
        if key not in _ready or gone:
            if _file(where):
                Path(where.database or "").parent.mkdir(parents=True, exist_ok=True)
            _prepare(_engines[key], notes, where)
            _ready.add(key)
        return _engines[key]


def _engine(where: sa.URL) -> sa.Engine:
    if where.get_backend_name() != "sqlite":
        return sa.create_engine(where, pool_pre_ping=True, pool_size=4)
    engine = sa.create_engine(where, poolclass=NullPool, connect_args={"timeout": WAIT_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _prepare(engine: sa.Engine, notes: Path | str, where: sa.URL) -> None:
    """Tables and version, then the notes of the time before. A database that is ready is only read."""
    if sa.inspect(engine).has_table(meta.name):
        with engine.begin() as connection:
            known = {row.key: row.value for row in connection.execute(sa.select(meta))}
        if "schema" in known:
            _check(known["schema"], where)
            if all(known.get(_mark(path)) == str(path.stat().st_size) for path in _old_files(notes)):
                return
    with engine.execution_options(write=True).begin() as connection:
        _alone(connection)
        _tables.create_all(connection)
        known = {row.key: row.value for row in connection.execute(sa.select(meta))}
        if "schema" not in known:
            connection.execute(meta.insert().values(key="schema", value=str(NOTES_SCHEMA)))
        _check(known.get("schema", str(NOTES_SCHEMA)), where)
        for path in _old_files(notes):
            size = str(path.stat().st_size)
            if known.get(_mark(path)) != size:
                _take_in(connection, path)
                connection.execute(meta.delete().where(meta.c.key == _mark(path)))
                connection.execute(meta.insert().values(key=_mark(path), value=size))


def _alone(connection: sa.Connection) -> None:
    """One writer at a time, as SQLite has it from BEGIN IMMEDIATE: places in a collection and names stay unique."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(712115)")


def _check(schema: str, where: sa.URL) -> None:
    if schema != str(NOTES_SCHEMA):
        raise StoreError(
            f"The notes in {where.render_as_string()} are of version {schema}, this program reads version {NOTES_SCHEMA}; "
            "update RetrievalLens, or let RETRIEVALLENS_NOTES name another database."
        )


def _old_files(notes: Path | str) -> list[Path]:
    folder = Path(notes)
    return sorted([*folder.glob("labels-*.jsonl"), *folder.glob("findings.jsonl")]) if folder.is_dir() else []


def _mark(path: Path) -> str:
    return f"taken in: {path.absolute()}"[-1000:]


def _take_in(connection: sa.Connection, path: Path) -> None:
    """Labels or findings of a file of JSON lines, each once. Lines that are none (torn by a crash) are counted in the log
    and left out; the file stays as it is."""
    from analysis.store.finding import Finding
    from analysis.store.notebook import insert_finding, insert_label

    broken = 0
    for number, line in enumerate(path.read_bytes().split(b"\n")):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if entry.pop("schema") != 1:
                raise ValueError("another schema")
            if path.name == "findings.jsonl":
                uid = f"{abs(_stable(path.name, number, line)):032x}"
                insert_finding(connection, Finding(**entry, id=uid))
            else:
                label = str(entry["text"]), str(entry["author"]), str(entry["time"])
                insert_label(connection, path.stem.removeprefix("labels-"), int(entry["concept"]), *label)
        except (ValueError, KeyError, TypeError, AttributeError, StoreError):
            broken += 1
    if broken:
        log.warning("%s: %d lines are no notes and were left out", path.name, broken)


def _stable(*parts: object) -> int:
    """A number that the same line of the same file always gets, so that nothing is taken in twice."""
    import hashlib

    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:32], 16)


def _file(where: sa.URL) -> bool:
    return where.get_backend_name() == "sqlite" and bool(where.database) and where.database != ":memory:"


@contextmanager
def _explained(where: sa.URL) -> Iterator[None]:
    """What can go wrong with a database, as one sentence."""
    place = where.render_as_string()
    try:
        yield
    except (NoSuchModuleError, ImportError) as error:
        raise StoreError(
            f"{place} needs a driver that is not installed ({error}); install it, e.g. psycopg for PostgreSQL."
        ) from error
    except DBAPIError as error:
        raise StoreError(
            f"The notes in {place} could not be kept or read ({str(error.orig).strip().splitlines()[0]}); check that the "
            "place is writable, has room, and is a database of notes, or restore a backup."
        ) from error
    except (SQLAlchemyError, OSError) as error:
        raise StoreError(
            f"The notes in {place} could not be kept or read ({error}); make that place writable."
        ) from error
