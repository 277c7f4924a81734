"""Rerank: another model takes the top n, this one orders them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from analysis.retrieval.interventions.fusion import HYBRID, Fusion
from analysis.retrieval.interventions.settings import partner, whole
from analysis.retrieval.interventions.step import Examples, JoinsModels, Offer, Step
from analysis.retrieval.ranking.two_models import two_stage_lists, two_stage_ranks

if TYPE_CHECKING:
    from analysis.retrieval.ranking.lists import Lists
    from analysis.retrieval.ranking.ranks import TargetRanks
    from analysis.retrieval.ranking.similarities import Scores


@dataclass(frozen=True)
class Rerank(JoinsModels):
    """Hybrid in two stages: another backbone's store takes the top n, this one orders them (article, "model combination
    strategy")."""

    name = "rerank"
    title = "re-rank its top n"
    family = HYBRID

    n: int = whole(
        50, low=1, label="n of the first stage", what="n of the first stage", written=True, width=200,
        values=(2, 5, 10, 20, 50, 100, 200, 500, 1000), axis="n of the first stage",
    )  # fmt: skip
    first: str = partner()

    @property
    def label(self) -> str:
        return f"re-ranks the top {self.n}{f' of {self.first}' if self.first else ''}"

    def alone(self) -> Step:
        return Fusion(0.0, self.first)

    def ranks(self, first: Scores, second: Scores, qrels: sp.csr_array) -> TargetRanks:
        return two_stage_ranks(first, second, qrels, [self.n])[0]

    def ranks_along(
        self, setting: str, values: Sequence[float], first: Scores, second: Scores, qrels: sp.csr_array
    ) -> list[TargetRanks]:
        return two_stage_ranks(first, second, qrels, [int(value) for value in values])

    def lists(self, first: Scores, second: Scores) -> Lists:
        from analysis.retrieval.ranking.lists import TwoStageLists

        return TwoStageLists(first, second, self.n)

    def hubs(
        self, first: Scores, second: Scores, qrels: sp.csr_array, depth: int, pairs: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return two_stage_lists(first, second, self.n, depth), np.empty(0), np.empty(0)

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        return {HYBRID.title: [(cls(n, offer.partners[0]),) for n in (10, 50, 200)]} if offer.partners else {}
