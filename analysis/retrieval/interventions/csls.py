"""CSLS: cross-domain similarity local scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.retrieval.interventions.hubs import HubCorrection, bank_setting, largest_mean
from analysis.retrieval.interventions.settings import whole


@dataclass(frozen=True)
class CSLS(HubCorrection):
    """b_c = r_c / 2, r_c being the mean of the k largest s(bank, c): CSLS(q, c) = 2 s(q, c) - r_q - r_c, in which the query's
    own term moves nothing in its list. Source: Conneau et al. (ICLR 2018), k 10."""

    name = "csls"
    title = "CSLS"
    help = (
        "Cross-domain similarity local scaling: half of a candidate's mean similarity to its nearest bank queries goes."
    )

    k: int = whole(
        10, low=1, label="Nearest bank queries k", what="k", written=True, values=(1, 2, 5, 10, 20, 50, 128),
        axis="nearest bank queries k",
    )  # fmt: skip
    bank: str = bank_setting()

    @property
    def label(self) -> str:
        return self.banked(f"CSLS, k = {self.k}")

    def of_candidates(self, similarities: np.ndarray) -> np.ndarray:
        return 0.5 * largest_mean(similarities, self.k)
