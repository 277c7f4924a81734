"""M-BEIR as published (UniIR): query/<split>/*.jsonl, cand_pool/local|global/*.jsonl, qrels/<split>/*.txt and pictures
under the same root.

A pool is streamed once. Held in memory per row: the offset of its line and its modality, 9 bytes; the line is read
again when a sample is asked for. While streaming, 16 more bytes a row find repeated ids and contents. The union pool of
5.6 million candidates therefore holds 50 MB.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from analysis.data.defects import Defects, printable
from analysis.data.disk import clean_text, file_digest, fingerprint
from analysis.data.mbeir_layout import Layout
from analysis.data.names import Finder
from analysis.data.retrieval import SampleTable, build_retrieval, relate
from analysis.data.samples import Picture, RetrievalSet, Sample
from analysis.data.tasks import IMAGE, MODALITY_OF, TEXT, modality_bits, task_code
from analysis.errors import DataError


def peek_task(layout: Layout) -> str:
    """The task's code from the first query and the first of its targets that the pool holds: no line is parsed but
    those. Empty where that does not tell; loading then does."""
    query = _first(layout.queries)
    targets = [candidate for asker, candidate in _relevant_pairs(layout, Defects()) if asker == str(query.get("qid"))]
    needles = [json.dumps(target).encode() for target in targets]
    with layout.candidates.open("rb") as file:
        lines = (_parsed(line) for line in file if any(needle in line for needle in needles))
        candidate = next((record for record in lines if str(record.get("did")) in targets), {})
    sides = _declared(query, QUERY), _declared(candidate, CANDIDATE)
    return task_code(*sides) if all(sides) else ""


def load_mbeir_jsonl(
    layout: Layout, *, limit_queries: int | None = None, seed: int = 0, check: bool = False
) -> RetrievalSet:
    """The retrieval task of one query file and its pool. Pictures of a local pool must exist; those of the union pool
    are looked for only with `check`, which also verifies headers (5.6 million files otherwise)."""
    defects = Defects()
    pairs = _relevant_pairs(layout, defects)
    look = "header" if check else "exists"
    queries, query_of = _scan(layout, layout.queries, QUERY, {query for query, _ in pairs}, look, defects)
    look = look if layout.pool == "local" or check else ""
    candidates, candidate_of = _scan(
        layout, layout.candidates, CANDIDATE, {candidate for _, candidate in pairs}, look, defects
    )
    files = [layout.queries, layout.candidates, *([layout.qrels] if layout.qrels else [])]
    revision = [part for file in files for part in (file.name, _digest(file))]
    notes = ["Targets are the pos_cand_list of the query file, since there is no qrels file."] * (layout.qrels is None)
    notes += [f"Candidates are the {layout.pool} pool."] * (layout.pool == "global")
    return build_retrieval(
        layout.name,
        queries,
        candidates,
        relate(pairs, query_of, candidate_of, defects),
        numbering="M-BEIR",
        defects=defects,
        revision=revision,
        split=layout.split,
        limit_queries=limit_queries,
        seed=seed,
        note=" ".join(notes),
    )


@dataclass(frozen=True)
class Side:
    """How the fields of a line are called."""

    name: str
    identifier: str
    text: str
    picture: str
    modality: str


QUERY = Side("query", "qid", "query_txt", "query_img_path", "query_modality")
CANDIDATE = Side("candidate", "did", "txt", "img_path", "modality")


@dataclass(frozen=True)
class JsonlTable(SampleTable):
    """One side: where each line starts, and its modality."""

    layout: Layout
    path: Path
    side: Side
    offsets: np.ndarray  # (n,) int64
    bits: np.ndarray

    def sample(self, row: int) -> Sample:
        with self.path.open("rb") as file:
            return self._sample(file, row)

    def __iter__(self) -> Iterator[Sample]:
        with self.path.open("rb") as file:
            yield from (self._sample(file, row) for row in range(len(self)))

    def take(self, rows: np.ndarray) -> JsonlTable:
        return JsonlTable(self.layout, self.path, self.side, self.offsets[rows], self.bits[rows])

    @property
    def identity(self) -> str:
        return fingerprint([str(self.path), self.side.name, self.offsets.tobytes(), self.bits.tobytes()])

    def identifier(self, row: int, file: BinaryIO | None = None) -> str:
        if file is None:
            with self.path.open("rb") as file:
                return self.identifier(row, file)
        return str(self._record(file, row).get(self.side.identifier))

    def _record(self, file: BinaryIO, row: int) -> dict[str, Any]:
        file.seek(int(self.offsets[row]))
        try:
            return json.loads(file.readline().decode("utf-8-sig"))
        except ValueError as error:
            raise DataError(f"{self.path.name} changed while it was in use: load the dataset again.") from error

    def _sample(self, file: BinaryIO, row: int) -> Sample:
        record, bits, side = self._record(file, row), int(self.bits[row]), self.side
        relative = str(record.get(side.picture) or "")
        picture = None
        if bits & IMAGE:
            picture = Picture(path=_picture_path(self.layout.root, relative), name=printable(relative))
        return Sample(
            printable(f"{self.layout.name}/{side.name}:{record.get(side.identifier)}"),
            MODALITY_OF[bits],
            clean_text(record.get(side.text)) if bits & TEXT else "",
            picture,
            source=printable(relative),
            split=self.layout.split,
        )


def _scan(
    layout: Layout, path: Path, side: Side, wanted: Container[str], look: str, defects: Defects
) -> tuple[JsonlTable, dict[str, int]]:
    """The table of a file, and the first row of each wanted id. `look` = "", "exists" or "header": what is asked of
    the pictures."""
    offsets, bits, hashes, contents = array("q"), array("b"), array("q"), array("q")
    rows: dict[str, int] = {}
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            start, offset = offset, offset + len(line)
            try:
                record = json.loads(line.decode("utf-8-sig"))  # of bytes, json.loads would guess the encoding
                identifier = record[side.identifier]
            except (ValueError, KeyError, TypeError):
                if line.strip():
                    defects.add("unreadable line", f"{path.name} line {number}")
                continue
            identifier = str(identifier)
            if identifier in wanted:
                rows.setdefault(identifier, len(offsets))
            offsets.append(start)
            hashes.append(hash(identifier))
            bits.append(_modality_bits(record, identifier, side, layout.root if look else None, look, defects))
            contents.append(hash(f"{record.get(side.picture)}\0{record.get(side.text)}"))
    table = JsonlTable(layout, path, side, np.array(offsets, np.int64), np.array(bits, np.int8))
    _drop_repeated(table, np.array(hashes, np.int64), defects)
    _count_twins(table, np.array(contents, np.int64), defects)
    return table, rows


def _modality_bits(
    record: dict[str, Any], identifier: str, side: Side, root: Path | None, look: str, defects: Defects
) -> int:
    """Modality bits of what is both declared and there; what lacks a part is counted."""
    declared = bits = _declared(record, side)
    if declared & TEXT and not clean_text(record.get(side.text)):
        defects.add(f"{side.name} without its text", identifier)
        bits &= ~TEXT
    if declared & IMAGE:
        relative = record.get(side.picture)
        problem = "" if relative else "names no file"
        if relative and root is not None:
            problem = _problem(root, str(relative), look)
        if problem:
            defects.add(f"{side.name} without its picture", f"{identifier} ({problem})")
            bits &= ~IMAGE
    return bits


def _problem(root: Path, relative: str, look: str) -> str:
    path = _picture_path(root, relative)
    if not os.path.isfile(path):
        return f"{relative} is missing"
    if look == "header":
        try:
            Picture(path=path, name=printable(relative)).check()
        except DataError as error:
            return str(error)
    return ""


def _picture_path(root: Path, relative: str) -> Path:
    """The file of that name; where there is none, one of the same name in another Unicode form, with slashes for
    backslashes, in another case, or below another root."""
    path = root / relative
    if os.path.isfile(path):
        return path
    hit = _finder(root).find(relative) or _finder(root).find_similar(relative)[0]
    return hit[0] if hit else path


@lru_cache(maxsize=8)
def _finder(root: Path) -> Finder:
    return Finder([root], Defects())


def _declared(record: dict[str, Any], side: Side) -> int:
    """Bits of the modality field; where it says something unknown, what is there counts."""
    bits = modality_bits(record.get(side.modality))
    return bits or TEXT * bool(clean_text(record.get(side.text))) + IMAGE * bool(record.get(side.picture))


def _drop_repeated(table: JsonlTable, hashes: np.ndarray, defects: Defects) -> None:
    ordered = np.sort(hashes)
    if not (ordered[1:] == ordered[:-1]).any():
        return
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    seen: set[str] = set()  # ids of the rows that share a hash: two ids may have one
    with table.path.open("rb") as file:
        for row in np.flatnonzero(counts[inverse] > 1).tolist():
            identifier = table.identifier(row, file)
            if identifier in seen:
                defects.add(f"duplicate {table.side.name} id", identifier)
                table.bits[row] = 0
            seen.add(identifier)


def _count_twins(table: JsonlTable, contents: np.ndarray, defects: Defects) -> None:
    """Count candidates that name the picture and text of an earlier one under another id. They stay: which of them a
    ranking puts first is chance, and qrels may name either."""
    if table.side is not CANDIDATE:
        return
    rows = np.flatnonzero(table.bits)
    _, inverse, counts = np.unique(contents[rows], return_inverse=True, return_counts=True)
    seen: set[tuple[str, str]] = set()
    with table.path.open("rb") as file:
        for row in rows[counts[inverse] > 1].tolist():
            record = table._record(file, row)
            content = (str(record.get(CANDIDATE.picture)), str(record.get(CANDIDATE.text)))
            if content in seen:  # not another content with the same hash
                kind = "candidate with the picture and text of another (kept)"
                defects.add(kind, record.get(CANDIDATE.identifier))
            seen.add(content)


def _relevant_pairs(layout: Layout, defects: Defects) -> list[tuple[str, str]]:
    if layout.qrels is None:
        pairs = []
        with layout.queries.open("rb") as file:
            for line in file:
                record = _parsed(line)
                pairs += [
                    (str(record["qid"]), str(did)) for did in record.get("pos_cand_list") or () if "qid" in record
                ]
        return pairs
    return list(_qrels(layout.qrels, defects))


def _qrels(path: Path, defects: Defects) -> Iterator[tuple[str, str]]:
    """(query id, candidate id) of lines "qid 0 did relevance [task]" with a relevance above zero."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            fields = line.split()
            try:
                query, _, candidate, relevance = fields[:4]
                if float(relevance) > 0:
                    yield query, candidate
            except ValueError:
                if fields:
                    defects.add("unreadable line", f"{path.name} line {number}")


def _first(path: Path) -> dict[str, Any]:
    """The first readable record of a file."""
    with path.open("rb") as file:
        return next((record for record in map(_parsed, file) if record), {})


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _digest(path: Path, edge: int = 1 << 20) -> bytes:
    """Content of a file, or of its two ends and its size where it is large (the union pool has gigabytes)."""
    size = path.stat().st_size
    if size <= 64 * edge:
        return file_digest(path)
    with path.open("rb") as file:
        head = file.read(edge)
        file.seek(-edge, os.SEEK_END)
        return size.to_bytes(8, "little") + head + file.read(edge)
