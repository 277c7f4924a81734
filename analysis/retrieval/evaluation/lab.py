"""One task under any intervention: ranks, lists, diagnostics. Everything that evaluates goes through a Lab.

A task that fits into memory is held whole, and what is expensive is kept: the similarities of the base, the projections of
the last removals and the ranks at every r that was asked for, and the last fitted intervention that is no update of those
similarities. A larger task is measured in blocks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.diagnostics import Diagnostics, diagnose, diagnose_hybrid
from analysis.retrieval.interventions import BASE, Intervention, MapsRows, Step
from analysis.retrieval.interventions.context import Context
from analysis.retrieval.interventions.fitting import Fitted, base_sides, centring_means, fit, fit_blocks, guarded
from analysis.retrieval.ranking.blocks import fits_in_memory
from analysis.retrieval.ranking.corrected import CorrectedScores, measure_bias
from analysis.retrieval.ranking.engine import LabEngine
from analysis.retrieval.ranking.lists import Lists, ScoreLists
from analysis.retrieval.ranking.low_rank import CentredScores, Projection
from analysis.retrieval.ranking.passes import Runner
from analysis.retrieval.ranking.ranks import RankCounter, RankPass, Splittable, TargetRanks, target_ranks
from analysis.retrieval.ranking.similarities import Scores
from analysis.retrieval.recall import hits_of_ranks
from analysis.retrieval.task import RetrievalSpace

# Kept: ten seeds of a random control, the untrained SAE, the removal they stand beside, components; at most so many bytes.
PROJECTIONS, PROJECTED = 13, 5 << 25
FITS = 1  # kept at full size; the base is kept by the engine
CENTRED = 3  # kept: some columns a row each
RANKED = 512  # ranks of removals that are kept
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Measured:
    """Ranks of all targets under one intervention, one entry a random seed. void: most queries without a direction.
    n_relevant (Q,): targets in the pool and out of it, what recall by "fraction" divides by; default those in the pool."""

    intervention: Intervention
    ranks: tuple[TargetRanks, ...]
    void: int = 0
    n_relevant: np.ndarray | None = None

    def hits(self, ks: Sequence[int], definition: str = "hit") -> np.ndarray:
        """(seeds, Q, ks) per-query recall."""
        return np.stack(
            [hits_of_ranks(ranks, ks, definition=definition, n_relevant=self.n_relevant) for ranks in self.ranks]
        )


def together(intervention: Intervention, seeds: Sequence[Measured]) -> Measured:
    """An intervention with several random seeds, from its seeds measured one by one."""
    ranks = tuple(ranks for seed in seeds for ranks in seed.ranks)
    return Measured(intervention, ranks, max(seed.void for seed in seeds), seeds[0].n_relevant)


class Lab:
    """One task of one store. Thread-safe: one computation at a time."""

    def __init__(
        self,
        space: RetrievalSpace,
        partner: Callable[[str], RetrievalSpace | None] | None = None,
        *,
        device: str = "cpu",
        memory: int | None = None,
        runner: Runner | None = None,
    ) -> None:
        """partner: gives the space of another backbone by the name that a hybrid step carries. memory: bytes that may be
        taken; default half of what is free. runner: of the passes over a task that is measured in blocks."""
        self.space, self.device = space, device
        self._runner = runner or Runner()
        self.in_blocks = not fits_in_memory(space, memory=memory)
        self._partner = partner
        self._stages: OrderedDict[str, Scores] = OrderedDict()
        self._projections: OrderedDict[MapsRows, Projection] = OrderedDict()
        self._rank_of: dict[MapsRows, int] = {}  # of each projection that was ever fitted
        self._ranked: OrderedDict[tuple[MapsRows | None, int], TargetRanks] = OrderedDict()
        self._centred: OrderedDict[MapsRows, CentredScores] = OrderedDict()
        self._fits: OrderedDict[Intervention, Fitted] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def engine(self) -> LabEngine:
        """Similarities of the base, ready for low-rank updates. RetrievalError where the task does not fit into memory."""
        with self._lock:
            return self._engine

    @cached_property
    def _engine(self) -> LabEngine:
        return LabEngine(self.base.queries, self.base.candidates, self.space.qrels, device=self.device)

    @property
    def base(self) -> Fitted:
        with self._lock:
            return self._base

    @cached_property
    def _base(self) -> Fitted:
        if self.in_blocks:
            raise RetrievalError(
                f"{self.space.task or 'The task'} has {self.space.n_candidates:,} candidates, more than fit into the free "
                "memory at once; expected a question that can be answered in blocks, such as recall or one query's list, or a "
                "machine with more memory."
            )
        return fit(BASE, self.space)

    # --- what is asked --------------------------------------------------------------------------------------------
    def measure(self, intervention: Intervention) -> Measured:
        """Ranks of every relevant candidate for every query, for each seed of the intervention."""
        with self._lock:
            found = [self._ranks(single) for single in intervention.seeds()]
        return Measured(
            intervention, tuple(ranks for ranks, _ in found), max(void for _, void in found), self.space.n_relevant
        )

    def ranks_along(
        self,
        intervention: Intervention,
        step: Step,
        setting: str,
        values: Sequence[float],
        *,
        measure: Callable[[Intervention], Measured] | None = None,
    ) -> list[TargetRanks]:
        """Ranks while one setting of one of its steps moves. What a family of points shares is computed once. measure: how a
        point is measured that shares nothing, where somebody keeps it; the lab is free meanwhile, since somebody else may be
        measuring that point in it."""
        hybrid, projection = intervention.hybrid, intervention.nested(setting)
        with self._lock:
            if hybrid is not None and hybrid is step:
                scores, void = self._scores_and_void(intervention.seeds()[0].without_hybrid())
                along = hybrid.ranks_along(setting, values, self.first_stage(hybrid.first), scores, self.space.qrels)
                return [ranks.losing(void) for ranks in along]
            if projection is not None and not self.in_blocks:  # also where not all can be removed
                return self._ranks_without(projection.at(setting, 1) or projection, values)
        moved = (intervention.replaced(step, step.at(setting, value)) for value in values)
        one = measure or self.measure
        return [one(single.seeds()[0]).ranks[0] for single in moved]

    def lists(self, intervention: Intervention) -> Lists:
        """The ordered candidates of any query. Of several random seeds the first."""
        intervention = intervention.seeds()[0]
        with self._lock:
            scores = self.scores(intervention)
            hybrid = intervention.hybrid
            return ScoreLists(scores) if hybrid is None else hybrid.lists(self.first_stage(hybrid.first), scores)

    def scores(self, intervention: Intervention) -> Scores:
        """Similarities of all pairs, a hybrid's other stage left out."""
        intervention = intervention.seeds()[0].without_hybrid()
        with self._lock:
            if self.in_blocks:
                in_blocks, _ = self._scores_in_blocks(intervention)
                return in_blocks
            single = intervention.single_projection
            if not intervention.steps:
                return self.engine.scores()
            if single is not None:
                projection, r = self.projection(single)
                return self.engine.scores(projection, r)
            centring = intervention.single_centring
            if centring is not None:
                return self._centred_at(centring)
            return self.fitted(intervention).scores(device=self.device)

    def projection(self, step: MapsRows) -> tuple[Projection, int]:
        """(projection that serves every narrower step of this kind, how many of its directions this step removes)."""
        with self._lock:
            width = self.base.queries.shape[1]
            variants = BASE.pool.queries, BASE.pool.candidates
            context = Context.plain(self.space, *base_sides(self.base), variants)
            widest = step.widest(width)
            held = self._projections
            projection = self._held(
                held, widest, lambda: self.engine.projection(guarded(step, widest.basis, context)), PROJECTIONS
            )
            self._rank_of[widest] = projection.rank
            while len(held) > 1 and sum(one.nbytes for one in held.values()) > PROJECTED:
                held.popitem(last=False)
            if projection.rank == width - 1 and step.rank_in(width) > projection.rank:
                step.basis(context)  # refuses all dimensions: the projection has been kept from them
            return projection, step.rank_in(projection.rank)

    def rank(self, step: MapsRows) -> int:
        """How many directions the projection of `projection` has. Once fitted, that is known after it has been let go."""
        with self._lock:
            known = self._rank_of.get(step.widest(self.base.queries.shape[1]))
            return self.projection(step)[0].rank if known is None else known

    def fitted(self, intervention: Intervention) -> Fitted:
        """Both sides transformed."""
        intervention = intervention.seeds()[0].without_hybrid()
        with self._lock:
            if not intervention.steps:
                return self.base
            return self._held(self._fits, intervention, lambda: fit(intervention, self.space, base=self.base), FITS)

    def diagnose(self, intervention: Intervention) -> Diagnostics:
        """Shape, hubs and margins of the embeddings under an intervention; of a hybrid hubs and margins of its lists. Of
        several random seeds the first."""
        intervention = intervention.seeds()[0]
        hybrid = intervention.hybrid
        with self._lock:
            if hybrid is not None:
                stage = self.first_stage(hybrid.first)
                return diagnose_hybrid(stage, self.scores(intervention), hybrid, self.space.qrels)
            fitted = self.fitted(intervention)
            scores = None if fitted.bias is None else fitted.scores(device=self.device)
        return diagnose(fitted.queries, fitted.candidates, self.space.qrels, scores=scores, device=self.device)

    def first_stage(self, name: str) -> Scores:
        """Base scores of the other backbone of a hybrid. RetrievalError unless it holds the same samples in the same order."""
        with self._lock:
            return self._held(self._stages, name, lambda: self._stage(self.partner(name)), 1)

    def partner(self, name: str) -> RetrievalSpace:
        """The space of the other backbone of a hybrid."""
        found = None if self._partner is None else self._partner(name)
        if found is None:
            raise RetrievalError(
                "A hybrid needs a second store; expected one of another backbone on the same task and data."
            )
        return found

    # --- how it is computed ---------------------------------------------------------------------------------------
    def _ranks(self, single: Intervention) -> tuple[TargetRanks, int]:
        """(ranks of all targets, how many queries have no direction: those rank behind every candidate)."""
        qrels = self.space.qrels
        if self.in_blocks:
            rows, void = self._scores_in_blocks(single)
            counting = RankPass(rows, RankCounter(rows, qrels), f"ranks of {single.spec}", single.label)
            return counting.ranks(self._runner.run(counting)).losing(void), int(void.sum())
        step, hybrid = single.single_projection, single.hybrid
        if step is not None:
            projection, r = self.projection(step)
            void = self.engine.scores(projection, r).void_queries
            return self._ranks_without(step, [r])[0], int(void.sum())
        if not single.steps:
            return self._base_ranks(), int(self.engine.scores().void_queries.sum())
        scores, void = self._scores_and_void(single.without_hybrid())
        if hybrid is None:
            ranks = target_ranks(scores, qrels)
        else:
            ranks = hybrid.ranks(self.first_stage(hybrid.first), scores, qrels)
        return ranks.losing(void), int(void.sum())

    def _scores_and_void(self, single: Intervention) -> tuple[Scores, np.ndarray]:
        """Similarities of one without a hybrid, and (Q,) which queries have no direction."""
        if self.in_blocks:
            return self._scores_in_blocks(single)
        centring = single.single_centring
        if centring is not None:
            centred = self._centred_at(centring)
            return centred, centred.void_queries
        return self.scores(single), self.fitted(single).void_queries

    def _ranks_without(self, step: MapsRows, rs: Sequence[float]) -> list[TargetRanks]:
        """Ranks with the first r directions of a step's projection removed, for several r. Each is kept, because table,
        curve and control ask for the same; all that are missing are counted in one go."""
        widest = step.widest(self.base.queries.shape[1])
        rank = self.rank(step)
        wanted = [min(int(r), rank) for r in rs]
        missing = sorted({r for r in wanted if r and (widest, r) not in self._ranked})
        counted = self.engine.rank_curve(self.projection(step)[0], missing) if missing else []
        found = dict(zip(missing, counted, strict=True))
        ranks = [found[r] if r in found else self._ranked[widest, r] if r else self._base_ranks() for r in wanted]
        for r in missing:
            self._held(self._ranked, (widest, r), partial(found.__getitem__, r), RANKED)
        return ranks

    def _base_ranks(self) -> TargetRanks:
        return self._held(self._ranked, (None, 0), self.engine.ranks, RANKED)

    def _centred_at(self, step: MapsRows) -> CentredScores:
        return self._held(
            self._centred, step, lambda: self.engine.centred(*centring_means(step, self.space, self.base)), CENTRED
        )

    def _scores_in_blocks(self, intervention: Intervention) -> tuple[Splittable, np.ndarray]:
        cosines, void = fit_blocks(intervention, self.space, self._runner)
        step = intervention.correction
        if step is None:
            return cosines, void
        bias = guarded(step, measure_bias, step, cosines)
        return CorrectedScores(cosines, bias, bias.group), void

    def _stage(self, other: RetrievalSpace) -> Scores:
        for mine, theirs, what in (
            (self.space.query_names, other.query_names, "queries"),
            (self.space.candidate_names, other.candidate_names, "candidates"),
        ):
            if mine is not None and theirs is not None and not np.array_equal(mine, theirs):
                raise RetrievalError(
                    f"{other.label or 'The other store'} has other {what} than {self.space.label or 'this one'}; "
                    "expected the same task of the same data set."
                )
        return fit(BASE, other).scores(device=self.device)

    def _held(self, shelf: OrderedDict, key: object, make: Callable[[], Kept], most: int) -> Kept:
        if key not in shelf:
            while len(shelf) >= most:
                shelf.popitem(last=False)
            shelf[key] = make()
        shelf.move_to_end(key)
        return shelf[key]
