"""Concept space: codes are compared instead of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.retrieval.interventions.settings import choice
from analysis.retrieval.interventions.step import Examples, Offer, Step, WeighsConcepts

if TYPE_CHECKING:
    from analysis.retrieval.task import RetrievalSpace


@dataclass(frozen=True)
class ConceptSpace(WeighsConcepts):
    """Compare codes instead of embeddings: cosine through D D^T, concepts weighted by log(N/df) or not at all."""

    name = "codes"
    title = "Concept space"
    help = "Compare sparse codes instead of embeddings."
    alone = True

    weights: str = choice(
        "idf", {"idf": "rare concepts weighted", "equal": "all alike"}, label="Weights", what="concept weights",
        positional=True, width=220,
    )  # fmt: skip

    @property
    def label(self) -> str:
        return "concept space" + (", rare concepts weighted" if self.weights == "idf" else "")

    def factors(self, space: RetrievalSpace) -> np.ndarray:
        return space.rarity(self.weights)

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        return {"Concept space": [(cls("idf"),), (cls("equal"),)]}
