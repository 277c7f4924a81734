"""Fusion: similarities of two models are added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from analysis.retrieval.interventions.settings import number, partner
from analysis.retrieval.interventions.step import Examples, Family, JoinsModels, Offer, Step
from analysis.retrieval.ranking.two_models import best_of_rows, fused_groups, fused_ranks

if TYPE_CHECKING:
    from analysis.retrieval.ranking.lists import Lists
    from analysis.retrieval.ranking.ranks import TargetRanks
    from analysis.retrieval.ranking.similarities import Scores

HYBRID = Family(
    "hybrid", "Hybrid", "Let another model take the top n and this one order them, or add both similarities."
)


@dataclass(frozen=True)
class Fusion(JoinsModels):
    """Weighted sum of z-scored similarities: weight * this store + (1 - weight) * the other. Weight 0 is the other alone."""

    name = "fusion"
    title = "add similarities"
    family = HYBRID

    weight: float = number(
        0.5, low=0, high=1, label="Weight of this model", what="weight", written=True, width=200,
        values=tuple(round(0.1 * i, 1) for i in range(11)), axis="weight of this model",
    )  # fmt: skip
    first: str = partner()

    @property
    def label(self) -> str:
        if self.weight == 0:
            return f"{self.first or 'the other model'} alone"
        return f"fused{f' with {self.first}' if self.first else ''}, weight {self.weight:g}"

    def alone(self) -> Step:
        return Fusion(0.0, self.first)

    def ranks(self, first: Scores, second: Scores, qrels: sp.csr_array) -> TargetRanks:
        return fused_ranks(first, second, qrels, [self.weight])[0]

    def ranks_along(
        self, setting: str, values: Sequence[float], first: Scores, second: Scores, qrels: sp.csr_array
    ) -> list[TargetRanks]:
        return fused_ranks(first, second, qrels, values)

    def lists(self, first: Scores, second: Scores) -> Lists:
        from analysis.retrieval.ranking.lists import FusedLists

        return FusedLists(first, second, self.weight)

    def hubs(
        self, first: Scores, second: Scores, qrels: sp.csr_array, depth: int, pairs: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lists, margin, spread = [np.empty((0, min(depth, first.n_candidates)), np.int64)], [np.empty(0)], [np.empty(0)]
        for queries, rows in fused_groups(first, second, self.weight):
            lists.append(best_of_rows(rows, depth))
            target = qrels[queries].toarray() > 0
            best, hardest = (np.where(some, rows, -np.inf).max(axis=1, initial=-np.inf) for some in (target, ~target))
            known = np.isfinite(best) & np.isfinite(hardest)
            margin.append(best[known] - hardest[known])
            here = (pairs[0] >= queries[0]) & (pairs[0] <= queries[-1])
            spread.append(rows[pairs[0][here] - queries[0], pairs[1][here]])
        return np.concatenate(lists), np.concatenate(margin), np.concatenate(spread)

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        """The other model alone first, without which a hybrid's recall says little."""
        weights = (0.0, 0.25, 0.5, 0.75)
        return {HYBRID.title: [(cls(w, offer.partners[0]),) for w in weights]} if offer.partners else {}
