"""One task in memory while somebody moves sliders: what is expensive is kept, every number is that of `evaluate`.

Kept: the similarities of the base, the projections of the last removals for every r, and the last fitted space of an
intervention that is no projection. The Retrieval lab works on one Lab per store and task.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.bootstrap import bootstrap_interval
from analysis.retrieval.evaluation.diagnostics import Diagnostics, diagnose, diagnose_hybrid
from analysis.retrieval.evaluation.evaluate import first_stage, lab_engine, ranks_under
from analysis.retrieval.evaluation.movement import FusedLists, Lists, ScoreLists, TwoStageLists
from analysis.retrieval.interventions.fitting import Fitted, fit
from analysis.retrieval.interventions.intervention import BASE, Intervention
from analysis.retrieval.interventions.linear_steps import principal_basis, removal_basis
from analysis.retrieval.interventions.steps import PrincipalComponents, Removal, Rerank, Step
from analysis.retrieval.ranking.engine import LabEngine
from analysis.retrieval.ranking.low_rank import Projection
from analysis.retrieval.ranking.ranks import TargetRanks, target_ranks
from analysis.retrieval.ranking.similarities import Scores
from analysis.retrieval.recall import hits_of_ranks
from analysis.retrieval.task import RetrievalSpace

PROJECTIONS = 12  # kept: ten seeds of a random control and the removal they stand beside
FITS = 1  # kept at full size; the base is kept by the engine
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Measured:
    """Ranks of all targets under one intervention, one entry a random seed. void: most queries without a direction.
    n_relevant (Q,): targets in the pool and out of it, what recall by "fraction" divides by; default those in the pool."""

    intervention: Intervention
    ranks: tuple[TargetRanks, ...]
    void: int = 0
    n_relevant: np.ndarray | None = None


def together(intervention: Intervention, seeds: Sequence[Measured]) -> Measured:
    """An intervention with several random seeds, from its seeds measured one by one."""
    ranks = tuple(ranks for seed in seeds for ranks in seed.ranks)
    return Measured(intervention, ranks, max(seed.void for seed in seeds), seeds[0].n_relevant)


class Lab:
    """One task of one store. Thread-safe: one computation at a time."""

    def __init__(self, space: RetrievalSpace, partner: Callable[[str], RetrievalSpace] | None = None) -> None:
        """partner: gives the space of another backbone by the name that a hybrid step carries."""
        self.space = space
        self._partner = partner
        self._base: Fitted | None = None
        self._engine: LabEngine | None = None
        self._projections: OrderedDict[str, Projection] = OrderedDict()
        self._fits: OrderedDict[str, Fitted] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def engine(self) -> LabEngine:
        with self._lock:
            if self._engine is None:
                self._engine = lab_engine(self.space, base=self.base)
            return self._engine

    @property
    def base(self) -> Fitted:
        with self._lock:
            if self._base is None:
                self._base = fit(BASE, self.space)
            return self._base

    def measure(self, intervention: Intervention) -> Measured:
        """Ranks of every relevant candidate for every query, for each seed of the intervention."""
        with self._lock:
            found = [self._ranks(single) for single in intervention.seeds()]
        return Measured(
            intervention, tuple(ranks for ranks, _ in found), max(void for _, void in found), self.space.n_relevant
        )

    def lists(self, intervention: Intervention) -> Lists:
        """The ordered candidates of any query. Of several random seeds the first."""
        intervention = intervention.seeds()[0]
        with self._lock:
            scores = self.scores(intervention)
            hybrid = intervention.hybrid
            if hybrid is None:
                return ScoreLists(scores)
            stage = first_stage(self.space, self.partner(hybrid.first))
            if isinstance(hybrid, Rerank):
                return TwoStageLists(stage, scores, hybrid.n)
            return FusedLists(stage, scores, hybrid.weight)

    def scores(self, intervention: Intervention) -> Scores:
        """Similarities of all pairs, a hybrid's other stage left out."""
        with self._lock:
            single = _only_projection(intervention)
            if not intervention.without_hybrid().steps:
                return self.engine.scores()
            if single is not None and intervention.hybrid is None:
                projection, r = self.projection(single)
                return self.engine.scores(projection, r)
            return self.fitted(intervention.without_hybrid()).scores()

    def projection(self, step: Step) -> tuple[Projection, int]:
        """(projection that serves every r of this removal or of these components, the r of the step)."""
        with self._lock:
            if isinstance(step, PrincipalComponents):
                width = self.base.queries.shape[1]
                most = step if step.n >= width else replace(step, n=min(max(step.n, 32), width - 1))
                key = Intervention((most,)).spec
                make = lambda: principal_basis(most, [self.base.queries, self.base.candidates])  # noqa: E731
                projection = self._held(self._projections, key, lambda: self.engine.projection(make()), PROJECTIONS)
                return projection, min(step.n, projection.rank)
            if not isinstance(step, Removal):
                raise RetrievalError(f"{step.name!r} is no projection; expected a removal or principal components.")
            most, whole = self.space.dictionary.shape[1] - 1, replace(step, r=None)
            key = Intervention((whole,)).spec
            make = lambda: removal_basis(replace(step, r=most), self.space)  # noqa: E731
            projection = self._held(self._projections, key, lambda: self.engine.projection(make()), PROJECTIONS)
            if projection.rank == most and (step.r is None or step.r > most):
                removal_basis(step, self.space)  # refuses all dimensions: the projection has been kept from them
            return projection, projection.rank if step.r is None else min(step.r, projection.rank)

    def fitted(self, intervention: Intervention) -> Fitted:
        """Both sides transformed."""
        intervention = intervention.seeds()[0]
        with self._lock:
            if not intervention.steps:
                return self.base
            return self._held(
                self._fits, intervention.spec, lambda: fit(intervention, self.space, base=self.base), FITS
            )

    def diagnose(self, intervention: Intervention) -> Diagnostics:
        """Shape, hubs and margins of the embeddings under an intervention; of a hybrid hubs and margins of its lists. Of
        several random seeds the first."""
        intervention = intervention.seeds()[0]
        hybrid = intervention.hybrid
        if hybrid is None:
            fitted = self.fitted(intervention)
            return diagnose(fitted.queries, fitted.candidates, self.space.qrels)
        with self._lock:
            stage = first_stage(self.space, self.partner(hybrid.first))
            return diagnose_hybrid(stage, self.scores(intervention), hybrid, self.space.qrels)

    def _ranks(self, intervention: Intervention) -> tuple[TargetRanks, int]:
        single = _only_projection(intervention)
        if single is not None:
            projection, r = self.projection(single)
            void = self.engine.scores(projection, r).void_queries
            return self.engine.ranks(projection, r).losing(void), int(void.sum())
        hybrid = intervention.hybrid
        if hybrid is not None or not intervention.steps:
            first = None if hybrid is None else self.partner(hybrid.first)
            ranks, empty = ranks_under(self.space, intervention, first=first, engine=self.engine)
            return ranks, int(empty.sum())
        fitted = self.fitted(intervention)
        ranks = target_ranks(fitted.scores(), self.space.qrels)
        return ranks.losing(fitted.void_queries), int(fitted.void_queries.sum())

    def partner(self, name: str) -> RetrievalSpace:
        """The space of the other backbone of a hybrid."""
        if self._partner is None or not name:
            raise RetrievalError("A hybrid needs a second store of the same data and task; choose one.")
        return self._partner(name)

    def _held(self, shelf: OrderedDict[str, Kept], key: str, make: Callable[[], Kept], most: int) -> Kept:
        if key not in shelf:
            while len(shelf) >= most:
                shelf.popitem(last=False)
            shelf[key] = make()
        shelf.move_to_end(key)
        return shelf[key]


def recall_change(beside: Measured, method: Measured, k: int, definition: str) -> pd.Series:
    """The row of `recall_frame` of one method at one k, compared with another instead of the base."""
    return recall_frame(beside, [method], ks=[k], definition=definition).iloc[0]


def recall_frame(
    base: Measured, methods: Sequence[Measured], *, ks: Sequence[int] = (1, 5, 10), definition: str = "hit"
) -> pd.DataFrame:
    """One row a method and k, from ranks that are known: the numbers of `evaluate` in long form.

    Columns: method, spec, k, recall, low, high (95 % bootstrap interval over queries), difference, difference_low,
    difference_high (to the base, paired), band_low, band_high (least and largest random seed, NaN without), void. Shares
    in [0, 1].
    """
    unchanged = _hits(base, ks, definition).mean(axis=0)
    per_seed = [_hits(method, ks, definition) for method in methods]
    if not per_seed:
        return pd.DataFrame(columns=_COLUMNS)
    hits = np.stack([seeds.mean(axis=0) for seeds in per_seed], axis=1)  # (Q, methods, ks)
    recall, change = (bootstrap_interval(values) for values in (hits, hits - unchanged[:, None, :]))
    rows = []
    for m, (method, seeds) in enumerate(zip(methods, per_seed, strict=True)):
        band = seeds.mean(axis=1) if len(seeds) > 1 else np.full((1, len(ks)), np.nan)
        for i, k in enumerate(ks):
            numbers = [part[m, i] for found in (recall, change) for part in (found.value, found.low, found.high)]
            rows.append(
                [method.intervention.label, method.intervention.spec, k, *numbers, band[:, i].min(), band[:, i].max(),
                 method.void]
            )  # fmt: skip
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    "method", "spec", "k", "recall", "low", "high", "difference", "difference_low", "difference_high",
    "band_low", "band_high", "void",
]  # fmt: skip


def _hits(measured: Measured, ks: Sequence[int], definition: str) -> np.ndarray:
    """(seeds, Q, ks) per-query recall."""
    return np.stack(
        [hits_of_ranks(ranks, ks, definition=definition, n_relevant=measured.n_relevant) for ranks in measured.ranks]
    )


def _only_projection(intervention: Intervention) -> Any:
    """The step of an intervention that does nothing but project plain embeddings, else None."""
    if len(intervention.steps) == 1 and isinstance(intervention.steps[0], Removal | PrincipalComponents):
        return intervention.steps[0]
    return None
