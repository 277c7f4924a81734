"""All-but-the-top: each side without its mean and its leading principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.retrieval.interventions.context import BlockContext, Context, mean_of
from analysis.retrieval.interventions.settings import whole
from analysis.retrieval.interventions.step import Examples, MapsRows, Offer, Step
from analysis.retrieval.ranking.transforms import Affine, Transform, leading_directions


@dataclass(frozen=True)
class AllButTheTop(MapsRows):
    """x -> (x - m)(I - V V^T), with m the mean of the side and V the n leading eigenvectors of its covariance. Source: Mu and
    Viswanath, "All-but-the-Top" (ICLR 2018), which takes about D/100 components."""

    name = "all_but_the_top"
    title = "All-but-the-top"
    help = "Subtract each side's mean and project away its leading principal components (Mu and Viswanath 2018)."
    rank_setting = "n"

    n: int = whole(
        4, low=1, high=100_000, label="Components a side", what="number of components", written=True,
        values=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32), axis="number of components a side",
    )  # fmt: skip

    @property
    def label(self) -> str:
        return f"all but the top {self.n}"

    def fit(self, context: Context) -> tuple[Transform, Transform]:
        return self._without_top(context.queries.live), self._without_top(context.candidates.live)

    def fit_moments(self, context: BlockContext) -> tuple[Transform, Transform]:
        sides = (context.queries, context.candidates)
        of_queries, of_candidates = (Affine.without(leading_directions(s.about(s.mean), self.n), s.mean) for s in sides)
        return of_queries, of_candidates

    def _without_top(self, rows: np.ndarray) -> Transform:
        mean = mean_of([rows])
        scatter = np.zeros((rows.shape[1], rows.shape[1]))
        for start in range(0, len(rows), 4096):
            block = rows[start : start + 4096] - mean
            scatter += block.T @ block
        return Affine.without(leading_directions(scatter, self.n), mean)

    @property
    def uses_queries(self) -> bool:
        return True

    @property
    def centres_queries(self) -> bool:
        return True

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        return {"All-but-the-top": [(cls(n),) for n in (2, 4, 8)]}
