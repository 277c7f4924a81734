"""SAE edit: the part that chosen concepts give to every embedding is taken out, x - sum_i z_i D_i."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.retrieval.interventions import concept_sets as sets
from analysis.retrieval.interventions.step import Examples, Offer, Step, WeighsConcepts

if TYPE_CHECKING:
    from analysis.retrieval.task import RetrievalSpace


@dataclass(frozen=True)
class SaeEdit(sets.TakesConcepts, WeighsConcepts):
    """Set the activations of a set of concepts to 0 and rebuild: x' = x - sum over the set of z_i D_i.

    Beside `Removal` of the same set: only what these concepts themselves put there goes; what others put along their
    directions stays, and a sample on which none of them fires does not move. Source: LangSAE editing (arXiv 2601.04768).
    """

    name = "sae_edit"
    title = "SAE edit"
    help = "Take out of every embedding what the top concepts themselves put there: x minus the sum of their z D."

    score: str = sets.score_setting()
    concepts: tuple[int, ...] = sets.concepts_setting()
    share: float = sets.share_setting()
    base: str = sets.base_setting()
    seed: int = sets.seed_setting()
    seeds: int = sets.seeds_setting()

    @property
    def label(self) -> str:
        if self.picked:
            return f"SAE edit of {self.amount()}"
        return f"SAE edit{': ' if self.score == 'random' else ' '}{self.amount()}"

    def factors(self, space: RetrievalSpace) -> np.ndarray:
        weight = np.ones(len(space.dictionary))
        weight[self.ids(space)] = 0
        return weight

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        edit = cls(share=getattr(template, "share", cls.share), base=getattr(template, "base", cls.base))
        return {"SAE edit by every score": [*((step,) for step in edit.by_every_score()), (edit.control(10),)]}
