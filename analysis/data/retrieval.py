"""Retrieval tasks from their parts: sides held as compact tables, relevance by ids -> RetrievalSet. Also the two tasks
that image-caption pairs hold by themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import scipy.sparse as sp

from analysis.data.defects import Defects
from analysis.data.disk import fingerprint
from analysis.data.samples import PairSet, RetrievalSet, Sample
from analysis.data.tasks import main_modality, mixture, number_note, task_code
from analysis.errors import DataError


def pairs_as_retrieval(pairs: PairSet, task: str, *, limit_queries: int | None = None, seed: int = 0) -> RetrievalSet:
    """The retrieval task inside pairs: "i2t" (every picture asks for its captions) or "t2i" (every caption asks for its
    picture). Queries and candidates are the samples of `pairs` themselves, in their order; `limit_queries` as in
    `build_retrieval`."""
    if task not in ("i2t", "t2i"):
        raise DataError(f"Image-caption pairs hold the tasks i2t and t2i, not {task!r}: give a folder with that task.")
    images = [sample for sample in pairs.samples if sample.modality == "image"]
    texts = [sample for sample in pairs.samples if sample.modality == "text"]
    queries, candidates = (images, texts) if task == "i2t" else (texts, images)
    column_of = {sample.pair_id: column for column, sample in enumerate(images)}
    of_text = np.array([column_of[sample.pair_id] for sample in texts], np.int64)
    relevant = sp.coo_array(
        (np.ones(len(texts), np.int8), (of_text, np.arange(len(texts)))), shape=(len(images), len(texts))
    )
    qrels = sp.csr_array(relevant if task == "i2t" else relevant.T)
    rows = _limited(np.arange(len(queries)), limit_queries, seed)
    return RetrievalSet(
        task,
        [queries[row] for row in rows.tolist()],
        candidates,
        qrels[rows],
        pairs.name,
        defects=pairs.defects,
        split=pairs.split,
        revision=pairs.revision,
    )


class SampleTable(ABC, Sequence[Sample]):
    """One side of a task: a sequence that keeps a few bytes a row and makes a Sample when asked for one.

    `bits` (n,) int8 holds the modality of each row (tasks.TEXT | tasks.IMAGE), 0 where a row cannot be embedded.
    """

    bits: np.ndarray

    @abstractmethod
    def sample(self, row: int) -> Sample: ...

    @abstractmethod
    def take(self, rows: np.ndarray) -> SampleTable:
        """The table of some rows, in the order asked for."""

    @abstractmethod
    def identifier(self, row: int) -> str: ...

    @property
    def identity(self) -> str:
        """Equal for two tables of the same rows of one file, as two tasks over one pool have them; "" where unknown."""
        return ""

    def __len__(self) -> int:
        return len(self.bits)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = int(index) + len(self) * (index < 0)
        if not 0 <= row < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.sample(row)

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(row) for row in range(len(self)))


@dataclass(frozen=True)
class Relevance:
    """Relevant (query, candidate) pairs, each once. Positions (n,) are rows of the two tables, -1 where a table does
    not know the id; the unknown ids are counted as defects."""

    queries: np.ndarray
    candidates: np.ndarray


def relate(
    pairs: Iterable[tuple[str, str]], query_of: Mapping[str, int], candidate_of: Mapping[str, int], defects: Defects
) -> Relevance:
    """Relevance from (query id, candidate id) pairs; `query_of` and `candidate_of` give the row of an id."""
    lines = list(pairs)
    unique = list(dict.fromkeys(lines))
    if len(unique) < len(lines):
        defects.add("duplicate qrels line", _first_repeated(lines), len(lines) - len(unique))
    for kind, side, rows in (("query", 0, query_of), ("candidate", 1, candidate_of)):
        unknown = [identifier for identifier in dict.fromkeys(pair[side] for pair in unique) if identifier not in rows]
        if unknown:
            defects.add(f"unknown {kind} in qrels", unknown[0], len(unknown))
    return Relevance(
        np.array([query_of.get(query, -1) for query, _ in unique], np.int64),
        np.array([candidate_of.get(candidate, -1) for _, candidate in unique], np.int64),
    )


def build_retrieval(
    name: str,
    queries: SampleTable,
    candidates: SampleTable,
    relevance: Relevance,
    *,
    numbering: str,
    defects: Defects,
    revision: Iterable[str | bytes],
    split: str = "",
    limit_queries: int | None = None,
    seed: int = 0,
    note: str = "",
) -> RetrievalSet:
    """RetrievalSet of what can be embedded. The task's code follows from the modalities of queries and of the
    candidates that are relevant to them.

    A target that is in no pool, or cannot be embedded, is missing; queries that qrels do not name are left out, since
    nothing is known to be right for them. `limit_queries` takes the first of a permutation that depends on `seed`
    alone; the pool stays whole. Raises DataError when no query, candidate or target is left.
    """
    lines = relevance.queries >= 0
    lines[lines] = queries.bits[relevance.queries[lines]] != 0
    asked, targets = relevance.queries[lines], relevance.candidates[lines]
    found = targets >= 0
    found[found] = candidates.bits[targets[found]] != 0

    rows, silent = _query_rows(queries, asked)
    rows = _limited(rows, limit_queries, seed)
    if silent.size:
        defects.add("query without a target in qrels", queries.identifier(int(silent[0])), silent.size)
    pool = np.flatnonzero(candidates.bits)
    in_use = np.isin(asked, rows)
    _require(name, len(rows), len(pool), int((in_use & found).sum()), defects)

    query_of, column_of = _inverse(rows, len(queries)), _inverse(pool, len(candidates))
    hit, miss = in_use & found, in_use & ~found
    qrels = sp.csr_array(
        (np.ones(hit.sum(), np.int8), (query_of[asked[hit]], column_of[targets[hit]])), shape=(len(rows), len(pool))
    )
    missing = np.bincount(query_of[asked[miss]], minlength=len(rows)).astype(np.int32)
    used = candidates.bits[targets[hit]]
    task = task_code(main_modality(queries.bits[rows]), main_modality(used))
    notes = [note, number_note(name, task, numbering), *_mixtures(queries.bits[rows], used, candidates.bits[pool])]
    return RetrievalSet(
        task=task,
        queries=queries.take(rows),
        candidates=candidates.take(pool),
        qrels=qrels,
        name=name,
        missing_targets=int(missing.sum()),
        unanswerable_queries=int((np.diff(qrels.indptr) == 0).sum()),
        note=" ".join(filter(None, notes)),
        defects=defects,
        split=split,
        revision=fingerprint(revision),
        missing_per_query=missing,
    )


def _first_repeated(lines: list[tuple[str, str]]) -> str:
    seen: set[tuple[str, str]] = set()
    for line in lines:
        if line in seen:
            return " ".join(line)
        seen.add(line)
    return ""


def _query_rows(queries: SampleTable, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the queries that qrels name, and of those that they do not."""
    named = np.zeros(len(queries), bool)
    named[asked] = True
    return np.flatnonzero(named), np.flatnonzero(~named & (queries.bits != 0))


def _limited(rows: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """`limit` of the rows: the first of a permutation that depends on `seed` alone, put back in order."""
    if limit is not None and limit < 1:
        raise DataError(f"limit_queries is {limit}; expected at least 1, or none for all.")
    return rows if limit is None else np.sort(np.random.default_rng(seed).permutation(rows)[:limit])


def _require(name: str, n_queries: int, n_candidates: int, n_targets: int, defects: Defects) -> None:
    left = {"query": n_queries, "candidate": n_candidates, "target that is in the pool": n_targets}
    gone = [kind for kind, count in left.items() if count == 0]
    if gone:
        found = "; ".join(defects.lines()) or "the files are empty"
        raise DataError(
            f"{name} has no {' and no '.join(gone)} left ({found}); are queries, candidates and qrels of one split?"
        )


def _inverse(rows: np.ndarray, length: int) -> np.ndarray:
    """(length,) position of each row in `rows`, -1 elsewhere."""
    positions = np.full(length, -1, np.int64)
    positions[rows] = np.arange(len(rows))
    return positions


def _mixtures(query_bits: np.ndarray, target_bits: np.ndarray, pool_bits: np.ndarray) -> Iterator[str]:
    for what, bits in (("Queries", query_bits), ("Targets", target_bits), ("Pool", pool_bits)):
        if mixed := mixture(bits):
            yield f"{what}: {mixed}, in one task."
