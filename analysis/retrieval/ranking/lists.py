"""The ordered candidates of single queries, whatever ordered them: one score, two stages, or two scores added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from analysis.retrieval.ranking.ranks import target_ranks
from analysis.retrieval.ranking.similarities import OneQuery, Scores
from analysis.retrieval.ranking.two_models import fused_rows, rerank
from analysis.retrieval.search import Ranking, best_candidates


class Lists(Protocol):
    """The ordered candidates of single queries, whatever ordered them."""

    def top(self, query: int, k: int) -> Ranking:
        """The k best candidates, ids and scores (1, k)."""

    def ranks(self, query: int, candidates: np.ndarray) -> np.ndarray:
        """(n,) ranks, 1 = best, of some candidates."""

    def similarities(self, query: int, candidates: np.ndarray) -> np.ndarray:
        """(n,) scores of some candidates, as `top` gives them."""


@dataclass(frozen=True)
class ScoreLists:
    """Lists in the order of scores."""

    scores: Scores

    def top(self, query: int, k: int) -> Ranking:
        return best_candidates(self._one(query), k)

    def ranks(self, query: int, candidates: np.ndarray) -> np.ndarray:
        chosen = np.unique(candidates)
        pairs = (np.ones(len(chosen)), (np.zeros(len(chosen), int), chosen))
        wanted = sp.csr_array(pairs, shape=(1, self.scores.n_candidates))
        found = target_ranks(self._one(query), wanted, exact_to=self.scores.n_candidates)
        return found.rank[np.searchsorted(found.candidate, candidates)]

    @cached_property
    def _one(self) -> Callable[[int], OneQuery]:
        """The scores of one query; those of the last one are kept."""
        return lru_cache(maxsize=1)(partial(OneQuery, self.scores))

    def similarities(self, query: int, candidates: np.ndarray) -> np.ndarray:
        return self.scores.pairs(np.full(len(candidates), query), candidates)


@dataclass(frozen=True)
class TwoStageLists:
    """Lists of a hybrid: the first n of `first` in the order of `second`, the others behind as `first` has them."""

    first: Scores
    second: Scores
    n: int

    @cached_property
    def _listed(self) -> ScoreLists:
        return ScoreLists(self.first)

    def top(self, query: int, k: int) -> Ranking:
        listed = self._listed.top(query, max(k, self.n))
        head = rerank(self.second, listed.ids[:, : self.n], np.array([query]))
        ids = np.concatenate([head.ids, listed.ids[:, self.n :]], axis=1)[:, :k]
        scores = np.concatenate([head.scores, listed.scores[:, self.n :]], axis=1)[:, :k]
        return Ranking(ids, scores)

    def ranks(self, query: int, candidates: np.ndarray) -> np.ndarray:
        passed = self.top(query, self.n).ids[0]
        rank = self._listed.ranks(query, candidates)
        place = {int(candidate): position + 1 for position, candidate in enumerate(passed)}
        return np.array([place.get(int(c), int(r)) for c, r in zip(candidates, rank, strict=True)], dtype=np.int64)

    def similarities(self, query: int, candidates: np.ndarray) -> np.ndarray:
        asked = np.full(len(candidates), query)
        passed = self._listed.ranks(query, candidates) <= self.n
        return np.where(passed, self.second.pairs(asked, candidates), self.first.pairs(asked, candidates))


@dataclass(frozen=True)
class FusedLists:
    """Lists in the order of fused similarities."""

    first: Scores
    second: Scores
    weight: float

    def top(self, query: int, k: int) -> Ranking:
        row = self._row(query)
        ids = np.argsort(-row, kind="stable")[:k]
        return Ranking(ids[None], row[ids][None].astype(np.float32))

    def ranks(self, query: int, candidates: np.ndarray) -> np.ndarray:
        row = self._row(query)
        rank = np.empty(len(row), np.int64)
        rank[np.argsort(-row, kind="stable")] = np.arange(1, len(row) + 1)
        return rank[candidates]

    def similarities(self, query: int, candidates: np.ndarray) -> np.ndarray:
        return self._row(query)[candidates]

    def _row(self, query: int) -> np.ndarray:
        return fused_rows(self.first, self.second, np.array([query]), self.weight)[0]
