"""Principal components: the leading directions of all embeddings are projected away. A control: no concepts involved."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.retrieval.interventions.context import BlockContext, Context, mean_of
from analysis.retrieval.interventions.settings import flag, whole
from analysis.retrieval.interventions.step import Examples, MapsRows, Offer, Step
from analysis.retrieval.ranking.transforms import Transform, WithoutSubspace, leading_directions

_MOST_KEPT = 32  # components that one projection serves


@dataclass(frozen=True)
class PrincipalComponents(MapsRows):
    """Project away the n leading principal components of queries and candidates together, centred or not."""

    name = "pca"
    title = "Principal components"
    help = "Project away the leading principal components. A control: no concepts involved."
    rank_setting = "n"

    n: int = whole(
        2, low=1, label="Components out", what="number of components", written=True,
        values=(1, 2, 3, 5, 8, 12, 16, 24, 32), axis="number of components",
    )  # fmt: skip
    centred: bool = flag(False, label="Centred")

    @property
    def label(self) -> str:
        return f"{self.n} {'centred' if self.centred else 'uncentred'} principal component{'s' * (self.n > 1)} out"

    def fit(self, context: Context) -> tuple[Transform, Transform]:
        projector = WithoutSubspace(self.basis(context))
        return projector, projector

    def fit_moments(self, context: BlockContext) -> tuple[Transform, Transform]:
        about = context.mean if self.centred else np.zeros(len(context.mean))
        projector = WithoutSubspace(leading_directions(context.about(about), self.n))
        return projector, projector

    @property
    def projects(self) -> bool:
        return True

    def basis(self, context: Context) -> np.ndarray:
        """(n, D) leading eigenvectors of the second moments, or of the covariance, of the rows of both sides together."""
        parts = [context.queries.live, context.candidates.live]
        about = mean_of(parts) if self.centred else np.zeros(parts[0].shape[1])
        return leading_directions(context.about(about), self.n)

    def widest(self, width: int) -> PrincipalComponents:
        return self if self.n >= width else replace(self, n=min(max(self.n, _MOST_KEPT), width - 1))

    def rank_in(self, rank: int) -> int:
        return min(self.n, rank)

    @property
    def uses_queries(self) -> bool:
        return True

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        return {"Principal components": [*((cls(n),) for n in (1, 2, 4, 8)), (cls(2, True),)]}
