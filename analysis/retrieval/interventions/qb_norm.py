"""QB-Norm: querybank normalisation with the dynamic inverted softmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.retrieval.interventions.hubs import HubCorrection, bank_setting, soft_maximum
from analysis.retrieval.interventions.settings import number


@dataclass(frozen=True)
class QBNorm(HubCorrection):
    """The inverted softmax, for those queries alone whose first candidate is the first of some bank query, that is, a
    possible hub. Source: Bogolin et al. (CVPR 2022), dynamic inverted softmax with k 1 and beta 20."""

    name = "qb_norm"
    title = "QB-Norm"
    help = "The inverted softmax, only for queries whose first candidate is also the first of a bank query."
    only_hubs = True

    beta: float = number(
        20.0, low=0.01, high=10_000, label="beta", what="beta", written=True, values=(1.0, 5.0, 10.0, 20.0, 50.0, 100.0),
        axis="beta of QB-Norm",
    )  # fmt: skip
    bank: str = bank_setting()

    @property
    def label(self) -> str:
        return self.banked(f"QB-Norm, beta = {self.beta:g}")

    def of_candidates(self, similarities: np.ndarray) -> np.ndarray:
        return soft_maximum(similarities, self.beta)
