"""Concept edit: single concepts' part of every embedding is scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.settings import MOST, as_text, check_number, check_whole, scales
from analysis.retrieval.interventions.step import Examples, Offer, Step, WeighsConcepts

if TYPE_CHECKING:
    from analysis.retrieval.task import RetrievalSpace

LARGEST = 1000.0  # of a factor
MOST_CONCEPTS = 1000


@dataclass(frozen=True)
class Edit(WeighsConcepts):
    """Scale some concepts' part of every embedding: h + sum_i (scale_i - 1) z_i D_i."""

    name = "edit"
    title = "Concept edits"
    help = "Scale single concepts' part of every embedding: 0 silences a concept, 2 doubles it."

    scales: tuple[tuple[int, float], ...] = scales(
        help="Search by number or name, or type concept=factor, e.g. 12=0, 99=2. Only the concepts' own part z D of every "
        "embedding changes; the rest of their direction stays."
    )

    def check(self) -> None:
        if not self.scales or len({concept for concept, _ in self.scales}) != len(self.scales):
            raise RetrievalError(f"Concepts to scale are {self.scales}; expected one or more, each once.")
        if len(self.scales) > MOST_CONCEPTS:
            raise RetrievalError(f"{len(self.scales):,} concepts are scaled; expected at most {MOST_CONCEPTS:,}.")
        for concept, scale in self.scales:
            check_number(f"scale of concept {concept}", scale, -LARGEST, LARGEST)
            check_whole("concept", concept, 0, MOST)

    @property
    def label(self) -> str:
        return "concepts scaled: " + ", ".join(f"{concept} × {scale:g}" for concept, scale in self.scales)

    def written(self) -> list[str]:
        return [f"{concept}={as_text(scale)}" for concept, scale in self.scales]

    @classmethod
    def read(cls, words: Sequence[str]) -> Edit:
        return cls(tuple(_scale(word) for word in words))

    def factors(self, space: RetrievalSpace) -> np.ndarray:
        weight = np.ones(len(space.dictionary))
        for concept, scale in self.scales:
            if concept >= len(weight):
                raise RetrievalError(f"Concept {concept} does not exist; expected ids from 0 to {len(weight) - 1}.")
            weight[concept] = scale
        return weight

    @classmethod
    def start(cls, offer: Offer) -> Edit:
        return cls(((offer.strongest("energy") or 0, 0.0),))

    def changed(self, name: str, value: object, offer: Offer) -> Edit:
        if not value:
            raise RetrievalError("No concept is named; switch Concept edits off to scale none.")
        return Edit(tuple(value))  # type: ignore[arg-type]

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        loudest = offer.strongest("attribution")
        return {} if loudest is None else {"Concept edits": [(cls(((loudest, scale),)),) for scale in (0.0, 0.5, 2.0)]}


def _scale(word: str) -> tuple[int, float]:
    try:
        concept, scale = word.split("=")
        return int(concept), float(scale)
    except ValueError as error:
        raise RetrievalError(f"{word!r} is no scaled concept; expected concept=scale, e.g. edit:12=0,99=2.") from error
