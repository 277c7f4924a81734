"""All candidates in the order of their similarity to one query, before and after, with the movement between."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.retrieval.pipeline import Fitted
from analysis.retrieval.scoring import RowScores, Scores
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
    """Every candidate by its dot product with the query (D,), unit rows as `Fitted.query` and `Fitted.candidates` are."""
    return ranked_list(RowScores(np.asarray(query).reshape(1, -1), candidates), 0, candidates.size)


def ranked_list(scores: Scores, query: int, n_numbers: int) -> RankedList:
    """All candidates of one query (position) of any scores, ties to the lower position.

    n_numbers: size of the candidates' matrix. Up to 2^25 every similarity is computed in float64; above that the first
    200 places are exact and the rest is ordered by float32 similarities.
    """
    which = np.array([query])
    if n_numbers <= _EXACT:
        similarity = scores.block(which, 0, scores.n_candidates)[0]
        return RankedList(np.lexsort((np.arange(len(similarity)), -similarity)), similarity)
    similarity = np.empty(scores.n_candidates)
    for tile in scores.tiles(which):
        row = tile.values[0].astype(np.float64)
        if tile.query_norm is not None and tile.candidate_norm is not None:
            row /= tile.query_norm[0] * tile.candidate_norm
        similarity[tile.start : tile.start + len(row)] = row
    head = best_candidates(scores, min(_HEAD, len(similarity)), which)
    similarity[head.ids[0]] = head.scores[0]
    rest = np.setdiff1d(np.arange(len(similarity)), head.ids[0])
    return RankedList(np.concatenate([head.ids[0], rest[np.lexsort((rest, -similarity[rest]))]]), similarity)


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
