"""What people add to a cache: labels of concepts and pinned findings. Append-only JSON lines under cache/notes/.

A line is never changed or removed: a new label for a concept is a new line, and the older ones are its history. Labels
belong to an SAE (by the sha256 of its weights), so they survive a rebuilt store and never move to another dictionary.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from analysis.errors import StoreError

NOTEBOOK_SCHEMA = 1
MAX_LABEL = 200
MAX_NOTE = 4000

log = logging.getLogger(__name__)
Note = TypeVar("Note")


@dataclass(frozen=True)
class Label:
    """What somebody called a concept. An empty text takes the label back."""

    concept: int
    text: str
    author: str
    time: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Finding:
    """A pinned view: which page with which parameters, what it shows, and a note."""

    page: str
    title: str
    params: dict[str, list[str]]  # query parameters of the view
    note: str = ""
    author: str = ""
    command: str = ""  # reproduces the numbers of the view
    facts: dict[str, Any] = field(default_factory=dict)  # numbers on screen when it was pinned
    time: str = ""


def add_label(notes: Path, sae_sha256: str, concept: int, text: str, author: str = "") -> Label:
    """Append a label and return it. Raises StoreError when it is too long or the folder cannot be written."""
    text, author = " ".join(text.split()), " ".join(author.split())
    if len(text) > MAX_LABEL:
        raise StoreError(f"The label has {len(text)} characters; at most {MAX_LABEL} are kept: shorten it.")
    label = Label(int(concept), text, author[:80] or "anonymous", _now())
    _append(_labels_file(notes, sae_sha256), asdict(label))
    return label


def history(notes: Path, sae_sha256: str, concept: int) -> list[Label]:
    """All labels that a concept was ever given, newest first."""
    return [label for label in reversed(_read_labels(notes, sae_sha256)) if label.concept == concept]


def labels(notes: Path, sae_sha256: str) -> dict[int, Label]:
    """The label that stands for each concept: the last one, left out where it was taken back."""
    latest = {label.concept: label for label in _read_labels(notes, sae_sha256)}
    return {concept: label for concept, label in latest.items() if label.text}


def label_stamp(notes: Path, sae_sha256: str) -> int:
    """Changes whenever a label is added: the size of the file, which only grows."""
    path = _labels_file(notes, sae_sha256)
    return path.stat().st_size if path.is_file() else 0


def add_finding(notes: Path, finding: Finding) -> Finding:
    """Append a finding with the time of now and return it."""
    if len(finding.note) > MAX_NOTE:
        raise StoreError(f"The note has {len(finding.note)} characters; at most {MAX_NOTE} are kept: shorten it.")
    kept = Finding(**{**asdict(finding), "time": _now(), "author": finding.author.strip()[:80] or "anonymous"})
    _append(Path(notes) / "findings.jsonl", asdict(kept))
    return kept


def findings(notes: Path) -> list[Finding]:
    """All findings, oldest first."""
    return _read(Path(notes) / "findings.jsonl", Finding)


def _read_labels(notes: Path, sae_sha256: str) -> list[Label]:
    return _read(_labels_file(notes, sae_sha256), Label)


def _labels_file(notes: Path, sae_sha256: str) -> Path:
    return Path(notes) / f"labels-{sae_sha256[:16]}.jsonl"


def _append(path: Path, entry: dict[str, Any]) -> None:
    """One line, in one write, under a lock: two writers never mix, an interrupted one leaves at most a broken last line,
    after which the next line begins anew."""
    line = json.dumps({"schema": NOTEBOOK_SCHEMA, **entry}, ensure_ascii=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.seek(0, os.SEEK_END)
            torn = False
            if handle.tell():
                handle.seek(-1, os.SEEK_END)
                torn = handle.read(1) != b"\n"
            handle.write(("\n" if torn else "").encode() + line.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise StoreError(
            f"The note could not be kept ({error.strerror or error}); make the folder {path.parent.name} of the cache writable."
        ) from error


def _read(path: Path, kind: type[Note]) -> list[Note]:
    """The notes of a file in the order written. Lines that are none (torn by a crash, edited by hand) are counted in the
    log and left out: the other notes stay readable."""
    if not path.is_file():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(f"The notes in {path.name} cannot be read ({error.strerror or error}).") from error
    found, broken = [], 0
    for line in filter(None, map(bytes.strip, lines)):
        try:
            entry = json.loads(line)
            if entry.pop("schema") != NOTEBOOK_SCHEMA:
                raise ValueError("another schema")
            found.append(kind(**entry))
        except (ValueError, KeyError, TypeError, AttributeError):
            broken += 1
    if broken:
        log.warning("%s: %d lines are no notes of schema %d and were left out", path.name, broken, NOTEBOOK_SCHEMA)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
