"""The k best candidates of every query, exact and independent of block sizes and threads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.rows import RowSource, true_cells
from analysis.retrieval.ranking.similarities import RowScores, Scores, Tile

_CROWDED = 1024  # undecided candidates of one query from which on its whole row is computed again


@dataclass(frozen=True)
class Ranking:
    """ids (Q, k): candidate positions, best first; scores (Q, k) float32: their similarities."""

    ids: np.ndarray
    scores: np.ndarray


def search(queries: np.ndarray, candidates: RowSource, k: int, *, device: str = "cpu") -> Ranking:
    """The k candidates with the largest dot product, ties to the lower position.

    queries (Q, D) and candidates (C, D) are unit rows and taken as they are, so that the dot product is the cosine.
    Candidates may be a memory map or a sequence of blocks (n_i, D); never more than a block is held. Similarities that
    agree to twelve digits are ties; the order does not depend on blocks, threads or device. k is cut to C; no queries
    give an empty ranking (0, k). RetrievalError for k < 1, no candidates, unequal widths, NaN, or an unknown device.
    """
    return best_candidates(RowScores(queries, candidates, device=device), k)


def best_candidates(scores: Scores, k: int, queries: np.ndarray | None = None) -> Ranking:
    """`search` on any scores, for some queries (positions; default all)."""
    if k < 1 or not scores.n_candidates:
        raise RetrievalError(
            f"Asked for the best {k} of {scores.n_candidates} candidates; expected k >= 1 and at least one candidate."
        )
    k = min(k, scores.n_candidates)
    asked = np.arange(scores.n_queries) if queries is None else np.asarray(queries)
    shortlists: dict[int, Shortlist] = {}
    for tile in scores.tiles(queries):
        if tile.first not in shortlists:
            shortlists[tile.first] = Shortlist(k, len(tile.values))
        shortlists[tile.first].add(tile)
    ids, similarity = np.empty((len(asked), k), np.int64), np.empty((len(asked), k), np.float32)
    for first, shortlist in shortlists.items():
        part = slice(first, first + shortlist.n_queries)
        ids[part], similarity[part] = shortlist.decide(scores, asked[part])
    return Ranking(ids, similarity)


class Shortlist:
    """Of a group of queries, every candidate that may still be among the k best, given the error of the scores.

    row (which query of the group), candidate, value (similarity), error: one entry a candidate, in any order.
    """

    def __init__(self, k: int, n_queries: int) -> None:
        self.k, self.n_queries = k, n_queries
        self.row, self.candidate = np.empty((2, 0), np.int64)
        self.value, self.error = np.empty((2, 0), np.float32)
        self.bar = np.full(n_queries, -np.inf, np.float32)  # k candidates are certainly at least this good

    def add(self, tile: Tile) -> None:
        value, error = similarities(tile)
        self.bar = np.maximum(self.bar, _kth_largest(value - error, self.k))
        row, column = true_cells(value + error >= self.bar[:, None])
        self.row = np.concatenate([self.row, row])
        self.candidate = np.concatenate([self.candidate, column + tile.start])
        self.value = np.concatenate([self.value, value[row, column]])
        self.error = np.concatenate([self.error, np.broadcast_to(error, value.shape)[row, column]])
        self._prune()

    def decide(self, scores: Scores, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids, similarities) of the k best, (n_queries, k). Looks again, in float64, at every candidate whose
        neighbour in the order is closer than the error."""
        order = np.lexsort((self.candidate, -self.value, self.row))
        row, candidate = self.row[order], self.candidate[order]
        value = self.value[order].astype(np.float64)
        slack = np.zeros(self.n_queries, np.float32)
        np.maximum.at(slack, row, self.error[order])
        close = (row[1:] == row[:-1]) & (value[:-1] - value[1:] <= 2 * slack[row[1:]])
        unsure = np.append(close, False) | np.append(False, close)
        crowded = (np.bincount(row[unsure], minlength=self.n_queries) > _CROWDED)[row] & unsure
        single = unsure & ~crowded
        value[single] = scores.pairs(queries[row[single]], candidate[single])
        _decide_rows(scores, queries, row, candidate, value, np.flatnonzero(crowded))
        order = np.lexsort((candidate, -value, row))
        place = np.arange(len(order)) - np.searchsorted(row, row)  # rows stay together: `row` is sorted in both orders
        chosen = order[place < self.k]
        shape = (self.n_queries, self.k)
        return candidate[chosen].reshape(shape), value[chosen].reshape(shape).astype(np.float32)

    def _prune(self) -> None:
        lowest = self.value - self.error
        order = np.lexsort((-lowest, self.row))
        row = self.row[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kth = order[place == self.k - 1]
        self.bar[self.row[kth]] = np.maximum(self.bar[self.row[kth]], lowest[kth])
        kept = self.value + self.error >= self.bar[self.row]
        self.row, self.candidate = self.row[kept], self.candidate[kept]
        self.value, self.error = self.value[kept], self.error[kept]


def _decide_rows(
    scores: Scores, queries: np.ndarray, row: np.ndarray, candidate: np.ndarray, value: np.ndarray, entries: np.ndarray
) -> None:
    """Fill value[entries] from whole float64 rows, for data in which a thousand candidates are as good as equal."""
    rows, place = np.unique(row[entries], return_inverse=True)
    for start in range(0, scores.n_candidates if len(entries) else 0, 1024):
        stop = min(start + 1024, scores.n_candidates)
        here = (candidate[entries] >= start) & (candidate[entries] < stop)
        block = scores.block(queries[rows], start, stop)
        value[entries[here]] = block[place[here], candidate[entries[here]] - start]


def similarities(tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of a tile and their error, (b, c) and a shape that broadcasts to it."""
    if tile.query_norm is None or tile.candidate_norm is None:
        return tile.values, np.full((1, 1), tile.error, np.float32)
    scale = 1 / (tile.query_norm[:, None] * tile.candidate_norm[None, :])
    return tile.values * scale, tile.error * scale


def _kth_largest(values: np.ndarray, k: int) -> np.ndarray:
    """A lower bound (b,) of the k-th largest value of each row: the k-th largest of the maxima of 2k or more groups.

    The k best groups hold at least k values that large. One pass over the row instead of a partition.
    """
    rows, columns = values.shape
    if columns < k:
        return np.full(rows, -np.inf, np.float32)
    groups = max(2 * k, 64)
    if columns >= 2 * groups:
        whole = columns - columns % groups
        values = values[:, :whole].reshape(rows, whole // groups, groups).max(axis=1)
    return np.partition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k]
