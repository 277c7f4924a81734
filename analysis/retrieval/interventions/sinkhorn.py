"""Sinkhorn: bank queries and candidates share their mass evenly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.retrieval.interventions.hubs import Columns, HubCorrection, bank_setting, soft_maximum
from analysis.retrieval.interventions.settings import number, whole


@dataclass(frozen=True)
class Sinkhorn(HubCorrection):
    """b_c is the dual potential of the candidate in the entropic transport between bank and candidates, both with uniform
    mass: with K = exp(beta s), the potentials f of the bank and g of the candidates are alternated,
    g_c = -log sum_b exp(beta s_bc + f_b), f_b = -log sum_c exp(beta s_bc + g_c), and b_c = -g_c / beta. One round with f = 0
    is the inverted softmax. Source: DBSN (arXiv 2508.02538)."""

    name = "sinkhorn"
    title = "Sinkhorn"
    help = "Give every candidate the same share of the bank queries, and every bank query the same share of the candidates."

    beta: float = number(
        20.0, low=0.01, high=10_000, label="beta", what="beta", written=True, values=(1.0, 5.0, 10.0, 20.0, 50.0, 100.0),
        axis="beta of Sinkhorn",
    )  # fmt: skip
    rounds: int = whole(
        10, low=1, high=200, label="Rounds", what="rounds", values=(1, 2, 5, 10, 20), axis="rounds of Sinkhorn"
    )
    bank: str = bank_setting()

    @property
    def label(self) -> str:
        rounds = "" if self.rounds == 10 else f", {self.rounds} rounds"
        return self.banked(f"Sinkhorn, beta = {self.beta:g}{rounds}")

    def bias(self, columns: Columns, bank: int) -> np.ndarray:
        """Every round passes over the similarities twice; nothing of size B x C is held here."""
        potential = np.zeros(bank)
        bias = np.concatenate([soft_maximum(block, self.beta) for _, block in columns()])
        for _ in range(self.rounds - 1):
            top, total = np.full(bank, -np.inf), np.zeros(bank)
            for start, block in columns():
                exponent = self.beta * (block.astype(np.float64) - bias[start : start + block.shape[1]])
                largest = np.maximum(top, exponent.max(axis=1))
                total = total * np.exp(top - largest) + np.exp(exponent - largest[:, None]).sum(axis=1)
                top = largest
            potential = -(top + np.log(total))
            bias = np.concatenate([soft_maximum(block, self.beta, potential) for _, block in columns()])
        return bias - bias.mean()  # a common constant moves nothing; without it the numbers stay near the similarities
