"""Keep only bimodal concepts: what fires in one modality alone is taken out of every embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.settings import number
from analysis.retrieval.interventions.step import Examples, Offer, Step, WeighsConcepts

if TYPE_CHECKING:
    from analysis.retrieval.task import RetrievalSpace


@dataclass(frozen=True)
class KeepBimodal(WeighsConcepts):
    """x' = x - sum of z_i D_i over the concepts whose modality score (1 = text, 0 = image) lies below `low` or above
    `high`. What the SAE does not explain stays. Source: IsoEnergy (arXiv 2602.06218), which reports that the modality gap
    collapses and retrieval does not suffer."""

    name = "bimodal"
    title = "Keep bimodal concepts"
    help = "Take out of every embedding what concepts of one modality alone put there (IsoEnergy)."

    low: float = number(
        0.05, low=0, high=1, label="from modality score", what="lower end", written=True,
        values=(0.0, 0.01, 0.05, 0.1, 0.2, 0.35), axis="modality score below which concepts go",
    )  # fmt: skip
    high: float = number(
        0.95, low=0, high=1, label="to", what="upper end", written=True,
        values=(0.65, 0.8, 0.9, 0.95, 0.99, 1.0), axis="modality score above which concepts go",
    )  # fmt: skip

    def check(self) -> None:
        if self.low >= self.high:
            raise RetrievalError(f"Bimodal concepts run from {self.low:g} to {self.high:g}; expected low below high.")

    @property
    def label(self) -> str:
        return f"only concepts of modality {self.low:g} to {self.high:g}"

    def factors(self, space: RetrievalSpace) -> np.ndarray:
        modality = np.asarray(space.score("modality_score"), np.float64)
        return np.where(
            (modality < self.low) | (modality > self.high), 0.0, 1.0
        )  # NaN: never active, nothing to take out

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        return {"Keep bimodal concepts": [(cls(),), (cls(0.35, 0.65),)]}
