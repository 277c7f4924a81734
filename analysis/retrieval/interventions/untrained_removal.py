"""Removal by an untrained SAE: the top concepts of the SAE that training started from, projected away. A control."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.concepts.scores import CONTROL_REMOVALS, SCORES
from analysis.retrieval.interventions import concept_sets as sets
from analysis.retrieval.interventions.context import BlockContext, Context
from analysis.retrieval.interventions.removal import Removal, RemovesSpan
from analysis.retrieval.interventions.settings import Setting, choice, whole
from analysis.retrieval.interventions.step import Examples, Offer, Step
from analysis.retrieval.ranking.transforms import Transform

if TYPE_CHECKING:
    from analysis.retrieval.task import RetrievalSpace


@dataclass(frozen=True)
class UntrainedRemoval(RemovesSpan):
    """`Removal` of as many concepts of an SAE with the same K, top_k and start that saw no training.

    What it gains needs no learnt concept: atoms that start at samples lie along the directions that all samples share.
    share, base: how many concepts, counted in the trained SAE; by `score` in the untrained one. r as in `Removal`.
    """

    name = "untrained"
    title = "Untrained SAE"
    help = "The same removal by the SAE that training started from: as many concepts, nothing learnt. A control."

    score: str = choice(
        "attribution", {name: SCORES[name].label for name in CONTROL_REMOVALS}, label="Concepts by", what="score",
        positional=True,
    )  # fmt: skip
    share: float = sets.share_setting()
    r: int | None = whole(None, label="r", what="r", optional=True, axis="rank r of the space", width=200)
    base: str = sets.base_setting()

    @classmethod
    def like(cls, step: Step) -> UntrainedRemoval:
        """The control of a step that takes concepts; hand-picked ones and other scores go by attribution."""
        score = getattr(step, "score", cls.score)
        return cls(
            score if score in CONTROL_REMOVALS else cls.score,
            getattr(step, "share", cls.share),
            getattr(step, "r", None),
            getattr(step, "base", cls.base),
        )

    @property
    def label(self) -> str:
        live = " of live" if self.base == "live" else ""
        space = "" if self.r is None else f", r = {self.r}"
        return f"untrained SAE, by {SCORES[self.score].label}, top {100 * self.share:g} %{live}{space}"

    def fit(self, context: Context | BlockContext) -> tuple[Transform, Transform]:
        changed: Any = replace(context, space=context.space.untrained)
        return self._removal(context.space).fit(changed)

    def basis(self, context: Context) -> np.ndarray:
        return self._removal(context.space).basis(replace(context, space=context.space.untrained))

    def _removal(self, space: RetrievalSpace) -> Removal:
        """The removal in the untrained SAE that takes as many concepts as `share` and `base` mean in the trained one."""
        energy = space.score("energy")
        return Removal(self.score, share=min(1.0, sets.counted(self, energy) / len(energy)), r=self.r)

    # --- offered on pages -----------------------------------------------------------------------------------------
    def shown(self, offer: Offer) -> dict[str, Setting]:
        """r runs to what as many concepts of the trained SAE span."""
        shown = Removal(share=self.share, r=self.r, base=self.base).shown(offer)
        return {
            name: shown.get(name, setting)
            for name, setting in super().shown(offer).items()
            if name in ("score", *shown)
        }

    def changed(self, name: str, value: object, offer: Offer) -> UntrainedRemoval:
        if name == "r" and isinstance(value, int):
            value = Removal(share=self.share, base=self.base).changed(name, value, offer).r
        return super().changed(name, value, offer)

    def curve_settings(self) -> tuple[str, ...]:
        return ("r", "share")

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        return {
            "Removal by an untrained SAE": [(replace(cls.like(template), score=score),) for score in CONTROL_REMOVALS]
        }
