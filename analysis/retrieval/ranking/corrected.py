"""Similarities with a bias of each candidate taken off: s(q, c) - b_c, measured on a bank of queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.passes import Span
from analysis.retrieval.ranking.similarities import Scores, Tile, rounded
from analysis.retrieval.search import best_candidates, similarities

if TYPE_CHECKING:
    from analysis.retrieval.interventions.step import CorrectsSimilarities

_DIGITS = 7  # of a bias: equal candidates get equal ones, whatever block of a float32 product they stood in
_ROUNDING = 2.4e-7  # of a difference of values around 1 in float32
Columns = Callable[[], Iterator[tuple[int, np.ndarray]]]


@dataclass(frozen=True)
class CandidateBias:
    """values (G, C) float64: the biases that groups of queries use; group (Q,): which one each query of the task uses.
    The first is that of all stored queries, for a query that is none of them; the last is 0, for queries that are left
    alone. first (C,) bool: the first candidates of the bank, where only queries that begin with one of them are corrected."""

    values: np.ndarray
    group: np.ndarray
    first: np.ndarray | None = None

    def of_others(self, scores: Scores) -> np.ndarray:
        """(n,) groups of queries that are none of the task's."""
        groups = np.zeros(scores.n_queries, np.int64)
        if self.first is not None and scores.n_queries:
            groups[~self.first[best_candidates(scores, 1).ids[:, 0]]] = len(self.values) - 1
        return groups


def measure_bias(step: CorrectsSimilarities, scores: Scores, *, seed: int = 0) -> CandidateBias:
    """The bias that a step gives every candidate, from the scores of the task's queries.

    bank "half": the queries are split at random; each half is corrected by what was measured on the other. "queries": all
    are corrected by all, which is leakage. RetrievalError with too few queries or a bias that is no finite number.
    """
    n = scores.n_queries
    halved = step.bank == "half"
    if n < 2:
        raise RetrievalError(f"{step.label!r} has a bank of {n} queries; expected a task with two or more.")
    order = np.random.default_rng(seed).permutation(n)
    halves = (np.sort(order[: n // 2]), np.sort(order[n // 2 :]))
    banks = [np.arange(n), *(halves if halved else ())]
    values = [_finite(step, step.bias(partial(columns, scores, bank), len(bank)), scores) for bank in banks]
    group = np.zeros(n, np.int64)
    if halved:  # who stands in the first half is corrected by the second, and the reverse
        group[halves[0]], group[halves[1]] = 2, 1
    first = None
    if step.only_hubs:
        best = best_candidates(scores, 1).ids[:, 0]
        tops = [np.zeros(scores.n_candidates, bool) for _ in banks]
        for top, bank in zip(tops, banks, strict=True):
            top[best[bank]] = True
        group[~np.stack(tops)[group, best]] = len(banks)
        first = tops[0]
    return CandidateBias(np.stack([*values, np.zeros(scores.n_candidates)]), group, first)


def columns(scores: Scores, bank: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(start, similarities (B, c) float32 of the bank queries with the candidates from start on), in their order."""
    held: list[np.ndarray] = []
    start = 0
    for tile in scores.tiles(bank):
        if held and tile.start != start:
            yield start, np.concatenate(held)
            held = []
        start = tile.start
        held.append(np.array(similarities(tile)[0], np.float32))
    if held:
        yield start, np.concatenate(held)


class CorrectedScores:
    """Scores minus the bias of each candidate; group (Q,): which bias each query uses."""

    def __init__(self, scores: Scores, bias: CandidateBias, group: np.ndarray) -> None:
        self._scores, self._bias, self._group = scores, bias.values, np.asarray(group, np.int64)
        self._single = bias.values.astype(np.float32)
        self.n_queries, self.n_candidates = scores.n_queries, scores.n_candidates
        self.candidate_norm = scores.candidate_norm

    def within(self, span: Span) -> Self:
        """As `RowScores.within`; of corrected cosines that are compared in blocks."""
        part = copy(self)
        part._scores = self._scores.within(span)  # type: ignore[attr-defined]
        return part

    def tiles(self, queries: np.ndarray | None = None) -> Iterator[Tile]:
        groups = self._group if queries is None else self._group[queries]
        for tile in self._scores.tiles(queries):
            rows = slice(tile.first, tile.first + len(tile.values))
            taken = self._single[groups[rows], tile.start : tile.start + tile.values.shape[1]]
            largest = float(np.abs(taken).max(initial=0))
            if tile.query_norm is not None and tile.candidate_norm is not None:
                scale = tile.query_norm[:, None] * tile.candidate_norm
                taken, largest = taken * scale, largest * float(scale.max(initial=0))
            yield replace(tile, values=tile.values - taken, error=tile.error + _ROUNDING * (1 + largest))

    def rough(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        return self._scores.rough(queries, candidates) - self._bias[self._group[queries], candidates]

    def pairs(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        return rounded(self._scores.pairs(queries, candidates) - self._bias[self._group[queries], candidates])

    def block(self, queries: np.ndarray, start: int, stop: int) -> np.ndarray:
        return rounded(self._scores.block(queries, start, stop) - self._bias[self._group[queries], start:stop])


def _finite(step: CorrectsSimilarities, bias: np.ndarray, scores: Scores) -> np.ndarray:
    bias = np.asarray(bias, np.float64)
    if bias.shape != (scores.n_candidates,) or not np.isfinite(bias).all():
        raise RetrievalError(
            f"{step.label!r} gives a bias of shape {bias.shape}{'' if np.isfinite(bias).all() else ' that is not finite'}; "
            f"expected a finite number for each of {scores.n_candidates:,} candidates."
        )
    return np.round(bias, _DIGITS)
