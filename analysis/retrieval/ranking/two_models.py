"""Two backbones together: one takes the top n and the other orders them, or their similarities are added.

The article in paper/ names the first "model combination strategy". Both backbones must hold the same queries and
candidates in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.ranks import TargetRanks, canonical_qrels, ranks_of, target_ranks
from analysis.retrieval.ranking.rows import true_cells
from analysis.retrieval.ranking.similarities import QuerySubset, Scores
from analysis.retrieval.search import Ranking, Shortlist, best_candidates, similarities

_EXACT_PAIRS = 20_000_000  # up to here fused rows are computed in float64
_GROUP = 256


def two_stage_ranks(first: Scores, second: Scores, qrels: sp.csr_array, ns: Sequence[int]) -> list[TargetRanks]:
    """Ranks of the targets when `second` orders the top n of `first`, for several n.

    A target that the first stage does not pass on keeps its rank there, behind the n. n >= C is the second alone;
    n = 1 is the first alone.
    """
    check_alike(first, second)
    if not len(ns) or min(ns) < 1:
        raise RetrievalError(f"The first stage was asked for its top {list(ns)}; expected n >= 1.")
    inner = [n for n in ns if n < first.n_candidates]
    results: dict[int, TargetRanks] = {}
    if len(inner) < len(ns):
        results[first.n_candidates] = target_ranks(second, qrels)
    if inner:
        before = target_ranks(first, qrels)
        passed = best_candidates(first, max(inner)).ids
        ordered = rerank(second, passed).ids
        place = _places(passed, ordered)
        column = _columns(ordered, before)
        for n in inner:
            rank = before.rank.copy()
            inside = np.flatnonzero((column >= 0) & (rank <= n))
            rank[inside] = np.cumsum(place < n, axis=1)[before.query[inside], column[inside]]
            results[n] = replace(before, rank=rank)
    return [results[min(n, first.n_candidates)] for n in ns]


def rerank(scores: Scores, ids: np.ndarray, queries: np.ndarray | None = None) -> Ranking:
    """Given lists of candidates (q, n), in the order of `scores`. queries (q,): whose lists these are; default all."""
    part = scores if queries is None else QuerySubset(scores, queries)
    n_queries, n = ids.shape
    value, error = np.zeros((2, n_queries, n), np.float32)
    for tile in part.tiles():
        rows = slice(tile.first, tile.first + len(tile.values))
        row, column = true_cells((ids[rows] >= tile.start) & (ids[rows] < tile.start + tile.values.shape[1]))
        known, slack = similarities(tile)
        inside = ids[rows][row, column] - tile.start
        value[rows][row, column] = known[row, inside]
        error[rows][row, column] = np.broadcast_to(slack, known.shape)[row, inside]
    shortlist = Shortlist(n, n_queries)
    shortlist.row, shortlist.candidate = np.repeat(np.arange(n_queries), n), ids.ravel().astype(np.int64)
    shortlist.value, shortlist.error = value.ravel(), error.ravel()
    return Ranking(*shortlist.decide(part, np.arange(n_queries)))


def two_stage_lists(first: Scores, second: Scores, n: int, k: int) -> np.ndarray:
    """(Q, k) ids of the k best candidates of every query: the top n of `first` in the order of `second`, the others behind
    as `first` has them. k is cut to C."""
    check_alike(first, second)
    passed = best_candidates(first, max(n, k)).ids
    if not len(passed):
        return passed[:, :k]
    return np.concatenate([rerank(second, passed[:, :n]).ids, passed[:, n:]], axis=1)[:, :k]


def fused_ranks(first: Scores, second: Scores, qrels: sp.csr_array, weights: Sequence[float]) -> list[TargetRanks]:
    """Ranks of the targets under `fused_rows`, for several weights of `second`."""
    check_alike(first, second)
    if all(weight in (0, 1) for weight in weights):  # one model alone: nothing to add up
        return [target_ranks(second if weight else first, qrels) for weight in weights]
    qrels = canonical_qrels(qrels)
    parts: list[list[np.ndarray]] = [[] for _ in weights]
    for queries, left, right in _row_groups(first, second, np.arange(first.n_queries)):
        for index, weight in enumerate(weights):
            ranks = ranks_of(fuse(left, right, weight), qrels[queries])
            parts[index].append(ranks.rank)
    query = np.repeat(np.arange(qrels.shape[0]), np.diff(qrels.indptr))
    candidate = qrels.indices.astype(np.int64)
    return [
        TargetRanks(query, candidate, np.concatenate([np.empty(0, np.int64), *part]), *qrels.shape) for part in parts
    ]


def fused_rows(first: Scores, second: Scores, queries: np.ndarray, weight: float) -> np.ndarray:
    """(len(queries), C) float64: see `fuse`."""
    groups = _row_groups(first, second, np.asarray(queries))
    return np.concatenate([fuse(left, right, weight) for _, left, right in groups])


def fused_groups(first: Scores, second: Scores, weight: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(some queries, their `fused_rows`) until all queries were named once."""
    check_alike(first, second)
    for queries, left, right in _row_groups(first, second, np.arange(first.n_queries)):
        yield queries, fuse(left, right, weight)


def best_of_rows(rows: np.ndarray, k: int) -> np.ndarray:
    """(b, k) columns of the k largest values of each row (b, C), best first, ties to the lower column. k is cut to C."""
    k = min(k, rows.shape[1])
    least = np.partition(rows, rows.shape[1] - k, axis=1)[:, rows.shape[1] - k]
    row, column = true_cells(rows >= least[:, None])
    order = np.lexsort((column, -rows[row, column], row))
    place = np.arange(len(order)) - np.searchsorted(row, row)
    return column[order[place < k]].reshape(len(rows), k)


def fuse(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """weight * second + (1 - weight) * first, rows (b, C) made comparable before.

    Each row minus its mean, divided by its standard deviation (a constant row counts as 0). weight in [0, 1];
    RetrievalError otherwise.
    """
    if not 0 <= weight <= 1:
        raise RetrievalError(f"The weight of the second model is {weight}; expected a number from 0 to 1.")
    if weight in (0, 1):  # one of them alone, without the rounding that would break its ties
        return _z(second if weight else first)
    return weight * _z(second) + (1 - weight) * _z(first)


def check_alike(first: Scores, second: Scores) -> None:
    """RetrievalError unless both score the same number of queries and candidates."""
    shapes = [(scores.n_queries, scores.n_candidates) for scores in (first, second)]
    if shapes[0] != shapes[1]:
        raise RetrievalError(
            f"The two models score {shapes[0]} and {shapes[1]} queries and candidates; expected the same task of the "
            "same data set: choose another store."
        )


def _z(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    return centred * np.where(deviation > 1e-12, 1 / np.maximum(deviation, 1e-12), 0.0)


def _row_groups(
    first: Scores, second: Scores, queries: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for start in range(0, len(queries), _GROUP):
        group = queries[start : start + _GROUP]
        yield group, _rows(first, group), _rows(second, group)


def _rows(scores: Scores, queries: np.ndarray) -> np.ndarray:
    """(b, C) float64 similarities."""
    if scores.n_queries * scores.n_candidates <= _EXACT_PAIRS:
        return scores.block(queries, 0, scores.n_candidates)
    rows = np.empty((len(queries), scores.n_candidates))
    for tile in scores.tiles(queries):
        values, _ = similarities(tile)
        rows[tile.first : tile.first + len(values), tile.start : tile.start + values.shape[1]] = values
    return rows


def _places(lists: np.ndarray, reordered: np.ndarray) -> np.ndarray:
    """Where each entry of the reordered lists stood in `lists`; both (q, n) with the same ids in each row."""
    return np.take_along_axis(np.argsort(lists, axis=1), np.argsort(np.argsort(reordered, axis=1), axis=1), axis=1)


def _columns(lists: np.ndarray, ranks: TargetRanks) -> np.ndarray:
    """Column of each target in its query's list, -1 where it is not in it."""
    keys = (np.arange(len(lists))[:, None] * ranks.n_candidates + lists).ravel()
    order = np.argsort(keys)
    wanted = ranks.query * ranks.n_candidates + ranks.candidate
    slot = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[slot] == wanted, slot % lists.shape[1], -1)
