"""What hub corrections share: a hub is a candidate that many queries find similar, so its similarity to a bank of queries is
subtracted from its similarity to every query. For a fixed query only the candidate's bias matters, which is why six
published methods are one step: rank by s(q, c) - b_c."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.retrieval.interventions.settings import choice
from analysis.retrieval.interventions.step import CorrectsSimilarities, Examples, Family, Offer, Step

HUBS = Family(
    "hubs",
    "Hub correction",
    "Subtract from every similarity how similar the candidate is to a bank of queries: hubs lose their head start.",
)
BANKS = {
    "half": "the other half of the queries",
    "queries": "the test queries themselves (leakage)",
}
Columns = Callable[[], Iterator[tuple[int, np.ndarray]]]


def bank_setting() -> Any:
    """Which queries a bias is measured on. "half": each half of the queries is corrected by the other, so that no query has a
    part in its own correction. "queries": all of them, its own included, which flatters the number; every label says so. An
    uploaded query is corrected by all stored queries, of which it is none."""
    return choice("half", BANKS, label="Bank of queries", what="bank", width=240)


@dataclass(frozen=True)
class HubCorrection(CorrectsSimilarities):
    """A hub correction with a bank. Subclasses give the bias of some candidates from their similarities to the bank."""

    family = HUBS

    def of_candidates(self, similarities: np.ndarray) -> np.ndarray:
        """(c,) float64 bias of c candidates, from their similarities (B, c) float32 to the B bank queries."""
        raise NotImplementedError

    def bias(self, columns: Columns, bank: int) -> np.ndarray:
        return np.concatenate([self.of_candidates(block) for _, block in columns()])

    def banked(self, label: str) -> str:
        """A label that says when the bank is the test queries."""
        return f"{label}, leakage: bank = the test queries" if self.bank == "queries" else label

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        """Alone, and behind what hub corrections are confused with: is a part of their gain the removal of hubs?"""
        from analysis.retrieval.interventions.centring import Centring
        from analysis.retrieval.interventions.realign import ReAlign

        return {
            HUBS.title: [(cls(),)],
            f"{HUBS.title} after centring": [(Centring("side"), cls())],
            f"{HUBS.title} after ReAlign": [(ReAlign(), cls())],
        }


def largest_mean(similarities: np.ndarray, k: int) -> np.ndarray:
    """(c,) float64 mean of the k largest values of each column of (B, c); of all where there are fewer."""
    n = len(similarities)
    if k < n:
        similarities = np.partition(similarities, n - k, axis=0)[n - k :]
    return similarities.mean(axis=0, dtype=np.float64)


def soft_maximum(similarities: np.ndarray, beta: float, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """(c,) float64 log(sum_b exp(beta s_bc + shift_b)) / beta of each column of (B, c)."""
    scaled = beta * similarities.astype(np.float64)
    scaled += np.asarray(shift)[..., None] if np.ndim(shift) else shift
    top = scaled.max(axis=0)
    return (top + np.log(np.exp(scaled - top).sum(axis=0))) / beta
