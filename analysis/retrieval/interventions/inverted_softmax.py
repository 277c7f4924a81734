"""Inverted softmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.retrieval.interventions.hubs import HubCorrection, bank_setting, soft_maximum
from analysis.retrieval.interventions.settings import number


@dataclass(frozen=True)
class InvertedSoftmax(HubCorrection):
    """b_c = logsumexp_bank(beta s(bank, c)) / beta: the softmax over queries instead of over candidates. Source: Smith et al.
    (ICLR 2017)."""

    name = "inverted_softmax"
    title = "inverted softmax"
    help = "Normalise over queries instead of candidates: what every bank query likes counts for little."

    beta: float = number(
        20.0, low=0.01, high=10_000, label="beta", what="beta", written=True, values=(1.0, 5.0, 10.0, 20.0, 50.0, 100.0),
        axis="beta of the inverted softmax",
    )  # fmt: skip
    bank: str = bank_setting()

    @property
    def label(self) -> str:
        return self.banked(f"inverted softmax, beta = {self.beta:g}")

    def of_candidates(self, similarities: np.ndarray) -> np.ndarray:
        return soft_maximum(similarities, self.beta)
