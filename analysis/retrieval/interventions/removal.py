"""Removal: the space that concepts span is projected away (paper eq. 8 to 10)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from analysis.retrieval.interventions import concept_sets as sets
from analysis.retrieval.interventions.context import BlockContext, Context
from analysis.retrieval.interventions.settings import Setting, whole
from analysis.retrieval.interventions.step import Examples, MapsRows, Offer, Step
from analysis.retrieval.ranking.transforms import Transform, WithoutSubspace
from analysis.retrieval.removal import check_basis, concept_subspace

if TYPE_CHECKING:
    from analysis.retrieval.task import RetrievalSpace


class RemovesSpan(MapsRows):
    """A step that projects away the space that some concepts span, whichever SAE they are of. Its class has r and share."""

    rank_setting = "r"
    looks_at_rows = False

    r: int | None

    def fit_moments(self, context: BlockContext) -> tuple[Transform, Transform]:
        return self.fit(context)  # type: ignore[arg-type]  # no row is looked at

    @property
    def projects(self) -> bool:
        return True

    def widest(self, width: int) -> Self:
        return replace(self, r=width - 1)  # type: ignore[type-var]

    def rank_in(self, rank: int) -> int:
        return rank if self.r is None else min(self.r, rank)

    def at(self, setting: str, value: float | None) -> Self | None:
        """No direction removed is no removal; along the share all directions of each space are removed."""
        if setting == "r" and value == 0:
            return None
        moved = super().at(setting, value)
        return replace(moved, r=None) if setting == "share" and moved is not None else moved  # type: ignore[type-var]


@dataclass(frozen=True)
class Removal(sets.TakesConcepts, RemovesSpan):
    """Project away the space of the top `share` of concepts by `score`.

    base: the share is of "all" concepts or of the "live" ones. r: leading dimensions of that space (None: all).
    score "concepts" means the ids in `concepts`; "random" draws as many live concepts, `seeds` times from `seed` on.
    """

    name = "removal"
    title = "Removal"
    help = "Project away the space that the top concepts span (Eq. 8-10)."

    score: str = sets.score_setting()
    concepts: tuple[int, ...] = sets.concepts_setting()
    share: float = sets.share_setting()
    r: int | None = whole(
        None, label="r", what="r", optional=True, axis="rank r of the space", width=200,
        help="Leading directions of the space that these concepts span (Eq. 9). The paper does not say which r it uses: the "
        "curve shows all of them.",
    )  # fmt: skip
    base: str = sets.base_setting()
    seed: int = sets.seed_setting()
    seeds: int = sets.seeds_setting()

    def template(self) -> Removal:
        return replace(self, score="attribution", concepts=(), seed=0, seeds=1)

    @property
    def label(self) -> str:
        space = "" if self.r is None else f", r = {self.r}"
        amount = self.amount(space)
        if self.picked:
            return f"removal of {amount}"
        return amount if self.score == "random" else f"removal {amount}"

    def fit(self, context: Context | BlockContext) -> tuple[Transform, Transform]:
        projector = WithoutSubspace(self._basis(context.space))
        return projector, projector

    def basis(self, context: Context) -> np.ndarray:
        return self._basis(context.space)

    def _basis(self, space: RetrievalSpace) -> np.ndarray:
        basis = concept_subspace(space.dictionary, self.ids(space), self.r)
        check_basis(basis, space.dictionary.shape[1])
        return basis

    def removed_concepts(self, space: RetrievalSpace) -> frozenset[int]:
        return frozenset(int(i) for i in self.repeats()[0].ids(space))

    # --- offered on pages -----------------------------------------------------------------------------------------
    def dimensions(self, offer: Offer) -> int:
        """Of the space that the concepts span: as many as the concepts, at most the width of the embeddings."""
        if self.picked:
            count = len(set(self.concepts))
        else:
            count = sets.counted(self, offer.score("energy"))
        return min(count, offer.width)

    def shown(self, offer: Offer) -> dict[str, Setting]:
        """r runs to the dimensions that these concepts span. All of the embeddings' dimensions cannot be removed: then
        the end is one less, unless that is what was asked for."""
        shown = dict(super().shown(offer))
        whole_space = self.dimensions(offer)
        most = whole_space - 1 if whole_space == offer.width and self.r is not None else whole_space
        if most > 1:
            shown["r"] = replace(shown["r"], label=f"r, of {whole_space} dimensions", low=1, high=most)
        else:
            del shown["r"]
        return shown

    def changed(self, name: str, value: object, offer: Offer) -> Removal:
        if name == "r" and isinstance(value, int) and value >= self.dimensions(offer):
            return replace(self, r=None)
        return super().changed(name, value, offer)

    def fitted_to(self, offer: Offer) -> tuple[Removal, str]:
        spanned = self.dimensions(offer)
        if self.r is None or self.r <= spanned:
            return self, ""
        return replace(self, r=None), (
            f"The method asks for r = {self.r:,}, and its concepts span {spanned:,} dimensions: all of them are removed."
        )

    def curve_settings(self) -> tuple[str, ...]:
        return ("r",) if self.picked else ("r", "share") if self.curve_values("share") else ("r",)

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        removal = template if isinstance(template, Removal) else cls()
        loudest = [offer.strongest(name) for name in ("attribution", "energy")]
        picked = [cls("concepts", concepts=(concept,)) for concept in dict.fromkeys(loudest) if concept is not None]
        return {
            "Removal by every score": [*((step,) for step in removal.by_every_score()), (removal.control(10),)],
            "Concepts picked by hand": [(step,) for step in picked],
        }
