"""Ranks of the relevant candidates, by counting who is better instead of sorting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.passes import Span, Sums
from analysis.retrieval.ranking.rows import LARGE, true_cells, worth_compiling
from analysis.retrieval.ranking.similarities import Scores, Tile

NO_RANK = np.iinfo(np.int64).max  # of a query without any target in the pool
EXACT_TO = 30  # in a large problem ranks up to this are exact: recall and near misses at the usual k <= 10
_COMPILED = 2_000_000  # pairs from which on numba's import is soon made up for: few tasks are counted just once
_CROWDED = 256  # a target with more undecided rivals than this is settled by whole rows instead of pair by pair


@dataclass(frozen=True)
class TargetRanks:
    """Rank (1 = best) of every relevant candidate. query, candidate, rank: (n,), ordered by query, then candidate."""

    query: np.ndarray
    candidate: np.ndarray
    rank: np.ndarray
    n_queries: int
    n_candidates: int

    @property
    def best(self) -> np.ndarray:
        """(Q,) rank of each query's best target; NO_RANK for a query without a target in the pool."""
        best = np.full(self.n_queries, NO_RANK)
        np.minimum.at(best, self.query, self.rank)
        return best

    def losing(self, queries: np.ndarray) -> TargetRanks:
        """The same with some queries (mask (Q,)) placed behind every candidate: they have no direction to search in."""
        return replace(self, rank=np.where(queries[self.query], self.n_candidates + 1, self.rank))


def canonical_qrels(qrels: sp.csr_array) -> sp.csr_array:
    """(Q, C) qrels without explicit zeros or repeated entries, columns sorted in each row: non-zero = relevant."""
    qrels = sp.csr_array(qrels, copy=True)
    qrels.sum_duplicates()
    qrels.eliminate_zeros()
    qrels.sort_indices()
    return qrels


def relevant(qrels: sp.csr_array, query: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Whether each pair (query, candidate), arrays that broadcast, stands in canonical qrels."""
    rows = np.repeat(np.arange(qrels.shape[0], dtype=np.int64), np.diff(qrels.indptr))
    known = rows * qrels.shape[1] + qrels.indices  # ascending, because columns are sorted
    asked = np.asarray(query, np.int64) * qrels.shape[1] + candidate
    if not len(known):
        return np.zeros(asked.shape, bool)
    return known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] == asked


def ranks_of(similarity: np.ndarray | Iterable[np.ndarray], qrels: sp.csr_array) -> TargetRanks:
    """Rank of each relevant candidate in given similarities: 1 + how many candidates are more similar, or as similar
    and at a lower position.

    similarity: (Q, C), or its consecutive row blocks (b, C); qrels: (Q, C), non-zero = relevant. The values are taken
    as they are. RetrievalError when the shapes disagree or a value is NaN.
    """
    qrels = canonical_qrels(qrels)
    n_queries, n_candidates = qrels.shape
    query = np.repeat(np.arange(n_queries), np.diff(qrels.indptr))
    rank = np.empty(len(query), np.int64)
    row = 0
    for block in [similarity] if isinstance(similarity, np.ndarray) else similarity:
        if block.ndim != 2 or block.shape[1] != n_candidates or row + len(block) > n_queries:
            raise RetrievalError(
                f"Similarities of shape {block.shape} from row {row} on do not fit qrels of shape {qrels.shape}; "
                "expected one row a query and one column a candidate."
            )
        if np.isnan(block).any():
            raise RetrievalError(f"Similarities hold NaN from row {row} on; expected finite numbers.")
        targets = slice(qrels.indptr[row], qrels.indptr[row + len(block)])
        rank[targets] = _ranks_in(block, query[targets] - row, qrels.indices[targets])
        row += len(block)
    if row != n_queries:
        raise RetrievalError(f"Similarities have {row} rows, qrels {n_queries}; expected one row a query.")
    return TargetRanks(query, qrels.indices.astype(np.int64), rank, n_queries, n_candidates)


def target_ranks(scores: Scores, qrels: sp.csr_array, *, exact_to: int | None = None) -> TargetRanks:
    """Rank of each relevant candidate, without keeping or sorting any similarities.

    Exact up to rank `exact_to` (ties: lower position first); a rank beyond it may be off by the few candidates whose
    similarity agrees with the target's to six digits. None: all ranks up to 20 million pairs, the first 30 above.
    """
    counter = RankCounter(scores, qrels, exact_to=exact_to)
    for tile in scores.tiles():
        counter.add(tile)
    return counter.ranks()


class Splittable(Scores, Protocol):
    """Scores of which a span of candidates can be looked at alone."""

    def within(self, span: Span) -> Scores:
        """The same, of which the tiles hold the candidates of a span alone."""


@dataclass(frozen=True)
class RankPass:
    """The counting of `target_ranks` as a pass over the candidates. key: the intervention's text form."""

    scores: Splittable
    counter: RankCounter
    key: str
    title: str

    @property
    def n(self) -> int:
        return self.scores.n_candidates

    def part(self, span: Span) -> Sums:
        counter = self.counter.fresh()
        for tile in self.scores.within(span).tiles():
            counter.add(tile)
        return counter.sums()

    def joined(self, first: Sums, then: Sums) -> Sums:
        return {
            name: first[name] + then[name] if name in ("above", "near") else np.concatenate([first[name], then[name]])
            for name in first
        }

    def ranks(self, sums: Sums) -> TargetRanks:
        return self.counter.fresh(sums).ranks()


class RankCounter:
    """Counts, tile by tile, the rivals that certainly beat each target, and keeps the undecided ones for a second look."""

    def __init__(self, scores: Scores, qrels: sp.csr_array, *, exact_to: int | None = None) -> None:
        if qrels.shape != (scores.n_queries, scores.n_candidates):
            raise RetrievalError(
                f"qrels have shape {qrels.shape}; expected ({scores.n_queries}, {scores.n_candidates}), "
                "one row a query and one column a candidate."
            )
        qrels = canonical_qrels(qrels)
        n_pairs = scores.n_queries * scores.n_candidates
        self._scores = scores
        self._exact_to = (EXACT_TO if n_pairs > LARGE else scores.n_candidates) if exact_to is None else exact_to
        self._offsets = qrels.indptr.astype(np.int64)
        self._query = np.repeat(np.arange(scores.n_queries), np.diff(qrels.indptr))
        self._candidate = qrels.indices.astype(np.int64)
        self._similarity = scores.rough(self._query, self._candidate)
        self._above = np.zeros(len(self._query), np.int64)  # rivals that are better by more than the error
        self._near = np.zeros(len(self._query), np.int64)  # undecided rivals
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []  # (target, candidate) of undecided rivals
        norms = scores.candidate_norm
        self._norm = np.ones(len(self._query)) if norms is None else norms[self._candidate]
        self._count = _counting(n_pairs)

    def fresh(self, sums: Sums | None = None) -> RankCounter:
        """The same with these counts, or with none."""
        other = copy(self)
        other._above, other._near, other._pairs = np.zeros_like(self._above), np.zeros_like(self._near), []
        if sums is not None:
            other._above, other._near = sums["above"], sums["near"]
            other._pairs = [(sums["target"], sums["candidate"])]
        return other

    def sums(self) -> Sums:
        """What was counted; those of spans that follow each other add up."""
        target, candidate = self._undecided()
        return {"above": self._above, "near": self._near, "target": target, "candidate": candidate}

    def add(self, tile: Tile) -> None:
        queries = slice(tile.first, tile.first + len(tile.values))
        first, last = self._offsets[queries.start], self._offsets[queries.stop]
        targets = slice(int(first), int(last))
        threshold, error = self._threshold(tile, targets)
        above, near, target, candidate = self._count(
            tile,
            threshold,
            error,
            self._candidate[targets] - tile.start,
            self._exact_to - self._above[targets],
            self._offsets[queries.start : queries.stop + 1] - first,
        )
        self._above[targets] += above
        self._near[targets] += near
        target, candidate = target + targets.start, candidate + tile.start
        rival = self._near[target] <= _CROWDED
        self._pairs.append((target[rival], candidate[rival]))

    def _threshold(self, tile: Tile, targets: slice) -> tuple[np.ndarray, np.ndarray]:
        """What a value divided by its candidate's norm must exceed, and how far the two may be off together."""
        threshold, largest = self._similarity[targets], 1.0
        if tile.query_norm is not None and tile.candidate_norm is not None:
            threshold = threshold * tile.query_norm[self._query[targets] - tile.first]
            largest = float(tile.candidate_norm.max(initial=0))
        # The error of the target's similarity was divided by its norm and comes back times the rival's.
        error = tile.error * (1 + largest / self._norm[targets])
        return threshold.astype(np.float32), error.astype(np.float32)

    def ranks(self) -> TargetRanks:
        rank = self._above + 1 + self._near // 2
        relevant = (self._near > 0) & (self._above < self._exact_to)
        crowded = relevant & (self._near > _CROWDED)
        self._settle_pairs(rank, relevant & ~crowded)
        self._decide_rows(rank, np.flatnonzero(crowded))
        return TargetRanks(self._query, self._candidate, rank, self._scores.n_queries, self._scores.n_candidates)

    def _settle_pairs(self, rank: np.ndarray, chosen: np.ndarray) -> None:
        target, candidate = self._undecided()
        target, candidate = target[chosen[target]], candidate[chosen[target]]
        own = self._exact(np.flatnonzero(chosen))
        similarity = self._scores.pairs(self._query[target], candidate)
        better = beats(similarity, candidate, own[target], self._candidate[target])
        count = np.bincount(target[better], minlength=len(rank))
        rank[chosen] = self._above[chosen] + 1 + count[chosen]

    def _undecided(self) -> tuple[np.ndarray, np.ndarray]:
        """(target, candidate) of every pair that waits for its second look."""
        return (
            np.concatenate([np.empty(0, np.int64), *(pair[0] for pair in self._pairs)]),
            np.concatenate([np.empty(0, np.int64), *(pair[1] for pair in self._pairs)]),
        )

    def _decide_rows(self, rank: np.ndarray, targets: np.ndarray) -> None:
        """Whole rows in float64, for data in which hundreds of candidates are as good as equal."""
        rank[targets] = 1
        own = self._exact(targets)
        queries, row = np.unique(self._query[targets], return_inverse=True)
        for start in range(0, self._scores.n_candidates if len(targets) else 0, 1024):
            stop = min(start + 1024, self._scores.n_candidates)
            block, position = self._scores.block(queries, start, stop), np.arange(start, stop)
            for first in range(0, len(targets), 1024):
                part = targets[first : first + 1024]
                rivals = block[row[first : first + 1024]]
                rank[part] += beats(rivals, position, own[part, None], self._candidate[part, None]).sum(axis=1)

    def _exact(self, targets: np.ndarray) -> np.ndarray:
        """(n,) float64 similarities of all targets, exact for those asked for."""
        similarity = self._similarity.astype(np.float64)
        similarity[targets] = self._scores.pairs(self._query[targets], self._candidate[targets])
        return similarity


def beats(similarity: np.ndarray, candidate: np.ndarray, other: np.ndarray, other_candidate: np.ndarray) -> np.ndarray:
    """Whether a candidate stands before another: more similar, or as similar and at a lower position."""
    return (similarity > other) | ((similarity == other) & (candidate < other_candidate))


def _ranks_in(block: np.ndarray, row: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """The n-th targets of all rows together, so that the work is a few passes over the block."""
    rank = np.empty(len(row), np.int64)
    position = np.arange(block.shape[1])
    nth = np.arange(len(row)) - np.searchsorted(row, row)
    for n in range(int(nth.max(initial=-1)) + 1):
        chosen = np.flatnonzero(nth == n)
        values, own = block[row[chosen]], candidate[chosen]
        mine = values[np.arange(len(chosen)), own][:, None]
        rank[chosen] = 1 + beats(values, position, mine, own[:, None]).sum(axis=1)
    return rank


Counts: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # above, near, and (target, column) pairs


def _counting(n_pairs: int) -> Callable[..., Counts]:
    """The compiled loop for a large problem, and for a small one where something has imported numba already."""
    if not worth_compiling(n_pairs, _COMPILED):
        return _count_rivals
    from analysis.retrieval.ranking.rank_kernels import count_rivals

    return count_rivals


def _count_rivals(
    tile: Tile, threshold: np.ndarray, error: np.ndarray, own: np.ndarray, room: np.ndarray, offsets: np.ndarray
) -> Counts:
    """Of each target: how many rivals in a tile exceed its threshold by more than its error, how many lie within it, and
    which (target, column) the latter are, where fewer than `room` exceed it. Targets of row b are offsets[b] ..
    offsets[b + 1]; own: each target's own column, which may lie outside the tile."""
    above, near = np.zeros((2, len(threshold)), np.int64)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for n in range(int(np.diff(offsets).max(initial=0))):
        rows = np.flatnonzero(np.diff(offsets) > n)
        target = offsets[rows] + n
        values = tile.values if len(rows) == len(tile.values) else tile.values[rows]
        limit = threshold[target][:, None]
        difference = values - (limit if tile.candidate_norm is None else limit * tile.candidate_norm)
        slack = error[target][:, None]
        here = np.flatnonzero((own[target] >= 0) & (own[target] < values.shape[1]))
        difference[here, own[target][here]] = -np.inf
        certain = difference > slack
        undecided = (difference >= -slack) & ~certain
        above[target] = np.count_nonzero(certain, axis=1)
        near[target] = np.count_nonzero(undecided, axis=1)
        undecided &= (above[target] < room[target])[:, None]
        row, column = true_cells(undecided)
        found.append((target[row], column))
    target = np.concatenate([np.empty(0, np.int64), *(pair[0] for pair in found)])
    return above, near, target, np.concatenate([np.empty(0, np.int64), *(pair[1] for pair in found)])
