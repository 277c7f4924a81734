"""What an intervention changed, query by query: ranks before and after, and the two lists side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.steps import one_of
from analysis.retrieval.ranking.ranks import NO_RANK, TargetRanks, target_ranks
from analysis.retrieval.ranking.similarities import QuerySubset, Scores
from analysis.retrieval.ranking.two_models import fused_rows, rerank
from analysis.retrieval.search import Ranking, best_candidates

STATUSES = ("rescued", "lost", "near miss", "unchanged", "no target")


def movement(before: TargetRanks, after: TargetRanks, k: int) -> pd.DataFrame:
    """One row a query: query, before, after (rank of the best target), moved (places gained), status.

    rescued: now among the first k and not before; lost: the reverse; near miss: behind the first k both times, now at
    a rank of at most 3 k; unchanged: everything else; no target: nothing relevant in the pool (ranks 0).
    """
    if k < 1 or before.n_queries != after.n_queries:
        raise RetrievalError(
            f"Movement at k = {k} of {before.n_queries} and {after.n_queries} queries; expected k >= 1 and one query set."
        )
    old, new = before.best, after.best
    missing = (old == NO_RANK) | (new == NO_RANK)
    status = np.select(
        [missing, (old > k) & (new <= k), (old <= k) & (new > k), (new > k) & (new <= 3 * k)],
        ["no target", "rescued", "lost", "near miss"],
        "unchanged",
    )
    old, new = np.where(missing, 0, old), np.where(missing, 0, new)
    return pd.DataFrame(
        {"query": np.arange(len(old)), "before": old, "after": new, "moved": old - new, "status": status}
    )


CHANGES = ("rescued", "lost", "near", "moved", "all")
_STATUS = {"rescued": "rescued", "lost": "lost", "near": "near miss"}


def changed(moved: pd.DataFrame, which: str) -> pd.DataFrame:
    """Rows of a movement table that changed in one way (one of CHANGES), the most telling first: the largest gain among
    the rescued, the largest loss among the lost, the closest near miss, the biggest movement of all."""
    one_of("change of queries", which, CHANGES)
    if which in _STATUS:
        part = moved[moved["status"] == _STATUS[which]]
        by, ascending = ("after", True) if which == "near" else ("moved", which == "lost")
        return part.sort_values(by, ascending=ascending, kind="stable")
    if which == "moved":
        return moved.iloc[np.argsort(-moved["moved"].abs().to_numpy(), kind="stable")]
    return moved


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
        return best_candidates(self.scores, k, np.array([query]))

    def ranks(self, query: int, candidates: np.ndarray) -> np.ndarray:
        return _ranks(self.scores, query, candidates)

    def similarities(self, query: int, candidates: np.ndarray) -> np.ndarray:
        return self.scores.pairs(np.full(len(candidates), query), candidates)


@dataclass(frozen=True)
class TwoStageLists:
    """Lists of a hybrid: the first n of `first` in the order of `second`, the others behind as `first` has them."""

    first: Scores
    second: Scores
    n: int

    def top(self, query: int, k: int) -> Ranking:
        listed = best_candidates(self.first, max(k, self.n), np.array([query]))
        head = rerank(self.second, listed.ids[:, : self.n], np.array([query]))
        ids = np.concatenate([head.ids, listed.ids[:, self.n :]], axis=1)[:, :k]
        scores = np.concatenate([head.scores, listed.scores[:, self.n :]], axis=1)[:, :k]
        return Ranking(ids, scores)

    def ranks(self, query: int, candidates: np.ndarray) -> np.ndarray:
        passed = self.top(query, self.n).ids[0]
        rank = _ranks(self.first, query, candidates)
        place = {int(candidate): position + 1 for position, candidate in enumerate(passed)}
        return np.array([place.get(int(c), int(r)) for c, r in zip(candidates, rank, strict=True)], dtype=np.int64)

    def similarities(self, query: int, candidates: np.ndarray) -> np.ndarray:
        asked = np.full(len(candidates), query)
        passed = _ranks(self.first, query, candidates) <= self.n
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


@dataclass(frozen=True)
class SideBySide:
    """The lists of one query before and after. Columns: rank, candidate, score, target (relevant?), other_rank (in the
    other list), moved: places gained from before to after, also positive in the list before where it will rise.

    targets: all relevant candidates of the pool, best first in the list before, wherever they stand: candidate, rank_before,
    rank_after, score_before, score_after.
    """

    query: int
    before: pd.DataFrame
    after: pd.DataFrame
    targets: pd.DataFrame


def side_by_side(before: Lists, after: Lists, query: int, k: int, qrels: sp.csr_array) -> SideBySide:
    """The k best candidates of one query before and after an intervention, where each stands in the other list, and where
    its targets stand in both."""
    relevant = qrels.indices[qrels.indptr[query] : qrels.indptr[query + 1]].astype(np.int64)
    rankings = [lists.top(query, k) for lists in (before, after)]
    ids = [ranking.ids[0] for ranking in rankings]
    # Ranks of what the other list shows and of the targets, in one go.
    ranks = [
        lists.ranks(query, np.concatenate([shown, relevant])) for lists, shown in ((before, ids[1]), (after, ids[0]))
    ]
    targets = pd.DataFrame(
        {
            "candidate": relevant,
            "rank_before": ranks[0][len(ids[1]) :],
            "rank_after": ranks[1][len(ids[0]) :],
            "score_before": before.similarities(query, relevant),
            "score_after": after.similarities(query, relevant),
        }
    ).sort_values("rank_before", kind="stable", ignore_index=True)
    tables = []
    for ranking, shown, other_rank, sign in (
        (rankings[0], ids[0], ranks[1][: len(ids[0])], 1),
        (rankings[1], ids[1], ranks[0][: len(ids[1])], -1),
    ):
        rank = np.arange(1, len(shown) + 1)
        tables.append(
            pd.DataFrame(
                {
                    "rank": rank,
                    "candidate": shown,
                    "score": ranking.scores[0],
                    "target": np.isin(shown, relevant),
                    "other_rank": other_rank,
                    "moved": sign * (rank - other_rank),
                }
            )
        )
    return SideBySide(query, tables[0], tables[1], targets)


def _ranks(scores: Scores, query: int, candidates: np.ndarray) -> np.ndarray:
    chosen = np.unique(candidates)
    wanted = sp.csr_array((np.ones(len(chosen)), (np.zeros(len(chosen), int), chosen)), shape=(1, scores.n_candidates))
    found = target_ranks(QuerySubset(scores, np.array([query])), wanted, exact_to=scores.n_candidates)
    return found.rank[np.searchsorted(found.candidate, candidates)]
