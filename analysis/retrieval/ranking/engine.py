"""The fast core of the retrieval lab: one product of all queries with all candidates, then low-rank updates of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from analysis.retrieval.ranking.common_direction import Deflated
from analysis.retrieval.ranking.low_rank import CentredScores, ProjectedScores, Projection, nested_tiles
from analysis.retrieval.ranking.ranks import RankCounter, TargetRanks, canonical_qrels
from analysis.retrieval.ranking.rows import RowSource
from analysis.retrieval.ranking.similarities import RowScores
from analysis.retrieval.ranking.transforms import Means
from analysis.retrieval.search import Ranking, best_candidates


class LabEngine:
    """Ranks and lists of one task while a subspace is being removed.

    queries (Q, D), candidates (C, D): unit rows, e.g. `queries` and `candidates` of the fitted base; qrels (Q, C).
    Holds their similarities, 4 Q C bytes, from the first use on. A projection holds 4 (Q + C) m bytes more. Results
    equal those of a full computation: what float32 cannot decide is settled in float64 (see `similarities`).
    """

    def __init__(self, queries: np.ndarray, candidates: RowSource, qrels: sp.csr_array, *, device: str = "cpu") -> None:
        self.rows = RowScores(queries, candidates, device=device)
        self.qrels = canonical_qrels(qrels)
        self._deflated = Deflated(self.rows)
        self._base = self.projection(np.empty((0, self.rows.queries.width)))

    def projection(self, basis: np.ndarray) -> Projection:
        """For every r up to the rank of `basis` (m, D), orthonormal rows, the most important first."""
        return Projection(self._deflated, basis)

    def scores(self, projection: Projection | None = None, r: int | None = None) -> ProjectedScores:
        """What is left after removing the first r directions (None: all) of a projection (None: nothing removed)."""
        chosen = projection or self._base
        return ProjectedScores(chosen, chosen.rank if r is None else r)

    def centred(self, queries: Means, candidates: Means) -> CentredScores:
        """What is left after means are subtracted."""
        return CentredScores(self._deflated, queries, candidates)

    def ranks(
        self, projection: Projection | None = None, r: int | None = None, *, exact_to: int | None = None
    ) -> TargetRanks:
        """Rank of every relevant candidate for every query."""
        return self.rank_curve(projection or self._base, [r], exact_to=exact_to)[0]

    def rank_curve(
        self, projection: Projection, rs: Sequence[int | None], *, exact_to: int | None = None
    ) -> list[TargetRanks]:
        """`ranks` for several r, in the order of `rs`, for about the cost of the largest. Queries that lose their direction
        stand behind every candidate."""
        wanted = [projection.rank if r is None else min(r, projection.rank) for r in rs]
        ascending = sorted(set(wanted))
        scores = [ProjectedScores(projection, r) for r in ascending]
        counters = [RankCounter(score, self.qrels, exact_to=exact_to) for score in scores]
        for tile, index in nested_tiles(scores) if scores else ():
            counters[index].add(tile)
        found = (counter.ranks().losing(score.void_queries) for counter, score in zip(counters, scores, strict=True))
        ranks = dict(zip(ascending, found, strict=True))
        return [ranks[r] for r in wanted]

    def ranking(
        self, queries: Sequence[int] | np.ndarray, k: int, projection: Projection | None = None, r: int | None = None
    ) -> Ranking:
        """The k best candidates of some queries."""
        return best_candidates(self.scores(projection, r), k, np.asarray(queries, np.int64))
