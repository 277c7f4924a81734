"""All candidates in the order of their similarity to one query, before and after, with the movement between."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.retrieval.pipeline import Fitted
from analysis.retrieval.scoring import RowScores
from analysis.retrieval.search import best_candidates

_EXACT = 1 << 25  # numbers up to which every similarity is computed in float64
_HEAD = 200  # places of a larger list that are settled in float64; further down ties may stand in another order


@dataclass(frozen=True)
class RankedList:
    """order (C,): candidate positions, best first; similarity (C,): of each candidate, by position."""

    order: np.ndarray
    similarity: np.ndarray

    @cached_property
    def rank(self) -> np.ndarray:
        """(C,) place of each candidate, 1 = best."""
        rank = np.empty(len(self.order), np.int64)
        rank[self.order] = np.arange(1, len(self.order) + 1)
        return rank


@dataclass(frozen=True)
class Place:
    """One row of a list: a candidate, its rank and similarity here, its rank in the other list, whether it is a target."""

    rank: int
    candidate: int
    similarity: float
    other_rank: int
    is_target: bool = False


@dataclass(frozen=True)
class Comparison:
    """The lists of one query before and after. targets: candidate positions that are relevant (none for an upload)."""

    before: RankedList
    after: RankedList
    targets: tuple[int, ...] = ()

    def places(self, side: str, k: int = 10) -> list[Place]:
        """The first k rows of the "before" or "after" list."""
        own, other = (self.before, self.after) if side == "before" else (self.after, self.before)
        return [
            Place(
                rank, int(candidate), float(own.similarity[candidate]), int(other.rank[candidate]),
                int(candidate) in self.targets,
            )
            for rank, candidate in enumerate(own.order[:k], start=1)
        ]  # fmt: skip

    def best_target(self) -> tuple[int, int, int] | None:
        """(candidate, rank before, rank after) of the target that stands highest after, None without targets."""
        if not self.targets:
            return None
        best = min(self.targets, key=lambda candidate: (int(self.after.rank[candidate]), candidate))
        return best, int(self.before.rank[best]), int(self.after.rank[best])


def rank_candidates(query: np.ndarray, candidates: np.ndarray) -> RankedList:
    """Every candidate by its dot product with the query, ties to the lower position.

    query (D,) and candidates (C, D) are unit rows (`Fitted.query`, `Fitted.candidates`). Up to 2^25 numbers exact in
    float64; above that the first 200 places are exact and the rest is ordered by float32 products.
    """
    rows = np.asarray(query).reshape(1, -1)
    if candidates.size <= _EXACT:
        similarity = RowScores(rows, candidates).block(np.array([0]), 0, len(candidates))[0]
        return RankedList(np.lexsort((np.arange(len(similarity)), -similarity)), similarity)
    similarity = (np.asarray(candidates, np.float32) @ rows[0].astype(np.float32)).astype(np.float64)
    head = best_candidates(RowScores(rows, candidates), min(_HEAD, len(candidates)))
    similarity[head.ids[0]] = head.scores[0]
    in_head = np.zeros(len(similarity), bool)
    in_head[head.ids[0]] = True
    rest = np.flatnonzero(~in_head)
    rest = rest[np.lexsort((rest, -similarity[rest]))]
    return RankedList(np.concatenate([head.ids[0], rest]), similarity)


def compare(
    base: Fitted, changed: Fitted, h_before: np.ndarray, h_after: np.ndarray, targets: tuple[int, ...] = ()
) -> Comparison:
    """The ranking of `h_before` in the base space beside that of `h_after` in the changed one.

    base, changed: `pipeline.fit` of no intervention and of one; h_before, h_after: un-normalised embeddings (D,) of the
    query, without and with its mask. RetrievalError when an intervention leaves nothing of the query.
    """
    return Comparison(
        rank_candidates(base.query(h_before), base.candidates),
        rank_candidates(changed.query(h_after), changed.candidates),
        targets,
    )
