"""Centring: the mean is subtracted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.context import BlockContext, Context, mean_of
from analysis.retrieval.interventions.settings import choice
from analysis.retrieval.interventions.step import Examples, MapsRows, Offer, Step
from analysis.retrieval.ranking.transforms import CentredAt, Transform, centred_by

_WORDS = {"side": "per side", "modality": "per modality", "joint": "jointly"}


@dataclass(frozen=True)
class Centring(MapsRows):
    """Subtract the mean: of queries and of candidates ("side"), of each "modality" over both sides, or the "joint" one.
    Side and modality are the same where queries are of one modality and candidates of another. Per modality it is GR-CLIP's
    and I0T's correction (arXiv 2507.19054; ACL 2025)."""

    name = "centring"
    title = "Centring"
    help = "Subtract the mean. A control: the simplest correction there is. Per modality: GR-CLIP, I0T."

    means: str = choice(
        "side", {"side": "each side", "modality": "each modality", "joint": "both sides together"}, label="Mean of",
        what="means", positional=True, width=220,
    )  # fmt: skip

    @property
    def label(self) -> str:
        return f"mean-centred {_WORDS[self.means]}"

    def fit(self, context: Context) -> tuple[Transform, Transform]:
        if self.means == "joint":
            together = mean_of([context.queries.live, context.candidates.live])
            return CentredAt(together), CentredAt(together)
        if self.means == "modality":
            return _by_modality(context)
        return CentredAt(context.query_mean()), CentredAt(mean_of([context.candidates.live]))

    def fit_moments(self, context: BlockContext) -> tuple[Transform, Transform]:
        if self._one_mean(context):
            return CentredAt(context.mean), CentredAt(context.mean)
        return CentredAt(context.queries.mean), CentredAt(context.candidates.mean)

    def _one_mean(self, context: BlockContext) -> bool:
        """Whether both sides are centred at one mean. RetrievalError where a side mixes modalities, whose means differ."""
        if self.means != "modality":
            return self.means == "joint"
        kinds = [np.unique(context.space.modalities(side)) for side in ("queries", "candidates")]
        if max(len(kind) for kind in kinds) > 1:
            raise RetrievalError(
                f"{self.label!r} of a pool that mixes modalities needs all {context.space.n_candidates:,} candidates in "
                "memory, more than is free; expected a pool of one modality: use the task's own pool or a machine with more "
                "memory."
            )
        return bool(kinds[0][0] == kinds[1][0])

    @property
    def centres(self) -> bool:
        return True

    @property
    def uses_queries(self) -> bool:
        return True

    @property
    def centres_queries(self) -> bool:
        return True

    @classmethod
    def examples(cls, offer: Offer, template: Step) -> Examples:
        return {"Mean-centring": [(cls(means),) for means in ("side", "modality", "joint")]}


def _by_modality(context: Context) -> tuple[Transform, Transform]:
    sides = {"queries": context.queries, "candidates": context.candidates}
    modalities = {side: context.space.modalities(side) for side in sides}
    means = {
        modality: mean_of([part.rows[(modalities[side] == modality) & ~part.void] for side, part in sides.items()])
        for modality in np.unique(np.concatenate(list(modalities.values())))
    }
    of_queries, of_candidates = (centred_by(modalities[side], means, side) for side in ("queries", "candidates"))
    return of_queries, of_candidates
