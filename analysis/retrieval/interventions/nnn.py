"""NNN: nearest neighbour normalization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.retrieval.interventions.hubs import HubCorrection, bank_setting, largest_mean
from analysis.retrieval.interventions.settings import number, whole


@dataclass(frozen=True)
class NNN(HubCorrection):
    """b_c = alpha * mean of the k largest s(bank, c). Source: Chowdhury et al. (arXiv 2410.24114), alpha .75 and k 128."""

    name = "nnn"
    title = "NNN"
    help = (
        "Nearest neighbour normalization: a candidate loses a share of its mean similarity to its nearest bank queries."
    )

    alpha: float = number(
        0.75, low=0, high=2, label="alpha", what="alpha", written=True, values=(0.0, 0.25, 0.5, 0.75, 1.0, 1.5),
        axis="alpha of NNN",
    )  # fmt: skip
    k: int = whole(
        128, low=1, label="Nearest bank queries k", what="k", written=True, values=(1, 4, 16, 64, 128, 256),
        axis="nearest bank queries k",
    )  # fmt: skip
    bank: str = bank_setting()

    @property
    def label(self) -> str:
        return self.banked(f"NNN, alpha = {self.alpha:g}, k = {self.k}")

    def of_candidates(self, similarities: np.ndarray) -> np.ndarray:
        return self.alpha * largest_mean(similarities, self.k)
