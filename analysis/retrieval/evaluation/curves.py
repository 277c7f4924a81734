"""Recall along one setting of an intervention, with what belongs beside it: its controls, and a place chosen elsewhere.

Every curve is a table with the columns x, k, recall, low, high (95 % bootstrap interval over queries), and difference,
difference_low, difference_high to the base (paired). All shares in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.bootstrap import RESAMPLES, Interval, bootstrap_interval, with_difference
from analysis.retrieval.evaluation.controls import LARGE, first_stage_alone, seeds_for
from analysis.retrieval.evaluation.evaluate import KS
from analysis.retrieval.evaluation.lab import Lab, Measured
from analysis.retrieval.interventions import (
    BASE,
    Intervention,
    PrincipalComponents,
    ReAlign,
    Removal,
    Step,
    family_of,
)
from analysis.retrieval.interventions.settings import settings_of
from analysis.retrieval.ranking.ranks import TargetRanks
from analysis.retrieval.recall import hits_of_ranks
from analysis.retrieval.task import RetrievalSpace

WHOLE = "with the other steps"
OFFERED: tuple[Step, ...] = (Removal(), ReAlign())  # whose curves are offered beside any method


@dataclass(frozen=True)
class RecallOptions:
    """How every curve counts: cut-offs, definition of recall, bootstrap.

    n_relevant (Q,): relevant candidates in the pool and out of it, what "fraction" divides by; default those in the pool.
    """

    ks: Sequence[int] = KS
    definition: str = "hit"
    n_boot: int = RESAMPLES
    seed: int = 0
    n_relevant: np.ndarray | None = None

    def within(self, space: RetrievalSpace) -> RecallOptions:
        return self if self.n_relevant is not None else replace(self, n_relevant=space.n_relevant)

    def hits(self, ranks: TargetRanks) -> np.ndarray:
        return hits_of_ranks(ranks, self.ks, definition=self.definition, n_relevant=self.n_relevant)


@dataclass(frozen=True)
class Curves:
    """curves: name -> table of a curve; now: where the intervention itself stands; choice: k -> the place that one half of
    the queries choose, only for the number of directions; axis: title of the x axis."""

    setting: str
    curves: dict[str, pd.DataFrame]
    now: float | None = None
    choice: dict[int, RankChoice] = field(default_factory=dict)
    axis: str = ""


def settings_for(intervention: Intervention) -> list[str]:
    """Which settings its steps have a curve over, the most telling first, and then those offered beside any method."""
    found = [name for step in (*intervention.steps, *OFFERED) for name in step.curve_settings()]
    return list(dict.fromkeys(found))


def all_settings() -> list[str]:
    """Every setting of any kind of step that a curve can be over."""
    from analysis.retrieval.interventions import KINDS

    found = ["r", "share", *(n for kind in KINDS.values() for n, s in settings_of(kind).items() if s.values)]
    return list(dict.fromkeys(found))


def axis_of(setting: str, intervention: Intervention) -> str:
    """Title of a curve's axis."""
    declared = settings_of(type(step_of(setting, intervention)))[setting]
    return declared.axis or declared.label


def step_of(setting: str, intervention: Intervention) -> Step:
    """The step that a curve is about: of the intervention, else one that is offered beside any method. RetrievalError where
    no step has such a setting."""
    for step in (*intervention.steps, *OFFERED):
        if setting in step.curve_settings():
            return step
    raise RetrievalError(
        f"No step of {intervention.label!r} has a setting {setting!r} to draw a curve over; expected one of "
        f"{', '.join(settings_for(intervention))}."
    )


def has_whole(setting: str, intervention: Intervention, space: RetrievalSpace) -> bool:
    """Whether a curve over a setting of one step is drawn with the other steps as well: where there are any, and the task
    is small enough to fit every point anew."""
    few = space.n_pairs <= LARGE
    step = step_of(setting, intervention)
    return few and step in intervention.steps and len(intervention.steps) > 1 and step.acts != "lists"


def is_slow(setting: str, intervention: Intervention, pairs: int) -> bool:
    """Whether a curve takes a minute: on a large task, where every point is a measurement of its own."""
    step = step_of(setting, intervention).repeats()[0]
    return pairs > LARGE and Intervention((step,)).nested(setting) is None


def behind(setting: str, intervention: Intervention, space: RetrievalSpace) -> Intervention:
    """The part of an intervention that its curve depends on: equal for all that lie on one curve."""
    step = step_of(setting, intervention)
    if step.acts == "lists" or has_whole(setting, intervention, space):
        moved = step.at(setting, None)
        return intervention.replaced(step, moved) if step in intervention.steps else Intervention((moved or step,))
    return Intervention((step.repeats()[0].at(setting, None) or step,))


def curves(
    lab: Lab,
    setting: str,
    intervention: Intervention,
    *,
    ks: Sequence[int] = KS,
    definition: str = "hit",
    measure: Callable[[Intervention], Measured] | None = None,
) -> Curves:
    """The curves of one setting of one step.

    The step stands alone in the first line, and WHOLE is the line of the whole intervention while that setting moves, where
    `has_whole`; a hybrid is measured with all its steps. Over a number of removed directions the same number of principal
    components stands beside, and for each k the number that half of the queries choose, reported on the other half.
    `control_band` belongs beside it. measure: as in `Lab.ranks_along`.
    """
    options = RecallOptions(ks=tuple(ks), definition=definition).within(lab.space)
    step = step_of(setting, intervention)
    own = step in intervention.steps
    single = step.repeats()[0]
    alone = intervention if step.acts == "lists" else Intervention((single,))
    directions = alone.nested(setting) is not None
    values = places(lab, single, setting)
    base = lab.measure(BASE if step.acts != "lists" else intervention.without_hybrid()).ranks[0]
    ranks = lab.ranks_along(alone, step if step.acts == "lists" else single, setting, values, measure=measure)
    named = {_name(single, setting, directions): curve_table(values, ranks, options, base=base)}
    if directions and setting == "r" and not lab.in_blocks:
        most = min(max(int(values[-1]), 1), 32)
        xs = [n for n in values if n <= most]
        components = PrincipalComponents(most)
        found = lab.ranks_along(Intervention((components,)), components, "n", xs)
        named["principal components, as many"] = curve_table(xs, found, options, base=base)
    if has_whole(setting, intervention, lab.space):
        ranks = lab.ranks_along(intervention, step, setting, values, measure=measure)
        named[WHOLE] = curve_table(values, ranks, options, base=base)
    now = getattr(step, setting) if own or step.acts != "lists" else None
    choice = {}
    if directions:
        chosen = [int(value) for value in values]
        now = now if now is not None else float(values[-1])
        choice = {k: choose_rank(chosen, ranks, base, k=k, options=options) for k in options.ks}
    return Curves(setting, named, None if now is None else float(now), choice, axis_of(setting, intervention))


def levels(setting: str, intervention: Intervention) -> tuple[Intervention, ...]:
    """What stands beside a curve as a level line, because the setting does not change it: the base, what is simpler than the
    step, and ReAlign; of a hybrid its two models."""
    step = step_of(setting, intervention)
    first = first_stage_alone(intervention)
    if step.acts == "lists" and first is not None:
        return tuple(dict.fromkeys((BASE, intervention.without_hybrid(), first)))
    return (BASE, *(Intervention((other,)) for other in step.simpler()), Intervention((ReAlign(),)))


def control_band(
    lab: Lab,
    setting: str,
    intervention: Intervention,
    *,
    ks: Sequence[int] = KS,
    definition: str = "hit",
    along: Callable[[Step, tuple[float, ...]], np.ndarray] | None = None,
) -> pd.DataFrame | None:
    """The control of a curve over a set of concepts: as many random live concepts, `seeds_for` the task.

    Columns x, k, recall (mean of the seeds), band_low, band_high; attrs: seeds. None for a step without such a control.
    along: `recall_along` of one seed at the places given, where somebody keeps it."""
    step = step_of(setting, intervention)
    if step.control(1) is None:
        return None
    control = step.sized(len(lab.space.dictionary)).control(seeds_for(lab.space.n_pairs))
    assert control is not None
    every = places(lab, step.repeats()[0], setting)
    values = tuple(sorted({every[0], *every[::-2]}))  # a band is smooth: half of the places, the ends among them
    one = along or (lambda drawn, values: recall_along(lab, drawn, setting, values, ks=ks, definition=definition))
    found = np.stack([one(drawn, values) for drawn in control.repeats()])  # (seeds, x, ks)
    table = _grid(values, ks)
    table.attrs["seeds"] = len(found)
    for name, column in (("recall", found.mean(0)), ("band_low", found.min(0)), ("band_high", found.max(0))):
        table[name] = column.ravel()
    return table


def recall_along(
    lab: Lab, step: Step, setting: str, values: Sequence[float], *, ks: Sequence[int], definition: str
) -> np.ndarray:
    """(x, ks) recall of one step by itself while a setting moves."""
    options = RecallOptions(ks=tuple(ks), definition=definition).within(lab.space)
    ranks = lab.ranks_along(Intervention((step,)), step, setting, values)
    return np.array([options.hits(part).mean(axis=0) for part in ranks])


def places(lab: Lab, step: Step, setting: str) -> list[float]:
    """Where a curve is measured: the values that the setting declares as far as they make sense here, or, over the number of
    directions of a subspace, 0, 1, 2, 4 and so on by factors of 1.7 (3 on a large task), and the whole space."""
    declared = step.curve_values(setting)
    if declared:
        most = lab.space.n_candidates if step.acts == "lists" and setting == "n" else np.inf
        if step.rank_setting == setting and not lab.in_blocks:  # all directions cannot be removed
            most = lab.base.queries.shape[1] - 1
        return sorted({min(value, most) for value in declared})
    projection = Intervention((step,)).nested(setting)
    if projection is None:
        raise RetrievalError(
            f"{step.label!r} says no places for a curve over {setting!r}; expected `values` of that setting, or a step that "
            "projects and counts its directions by it."
        )
    large = lab.space.n_pairs > LARGE
    factor = 3.0 if large else 1.7  # every place is a counting of all pairs
    return [float(r) for r in _directions(lab.rank(projection.at(setting, 1) or projection), factor)]


def curve_table(
    x: Sequence[float], ranks: Sequence[TargetRanks], options: RecallOptions = RecallOptions(), *, base: TargetRanks
) -> pd.DataFrame:
    """The table of any curve: ranks under each of its settings, and under none of them."""
    table = _grid(x, options.ks)
    if not len(x):
        return table.assign(**dict.fromkeys(_NUMBERS, np.empty(0)))
    hits = np.stack([options.hits(part) for part in ranks], axis=1)  # (Q, x, ks)
    found = with_difference(hits, options.hits(base), resamples=options.n_boot, seed=options.seed)
    numbers = (part for interval in found for part in (interval.value, interval.low, interval.high))
    for name, column in zip(_NUMBERS, numbers, strict=True):
        table[name] = column.ravel()
    return table


@dataclass(frozen=True)
class RankChoice:
    """An r that was not chosen on the queries it is reported for.

    chosen_on: recall@k of each of `rs` on the half that chose; r: the best of them (ties: the smaller); where_chosen,
    base_where_chosen: recall@k with interval on that half, with r removed and with nothing removed. reported, base,
    difference: the same on the other half, and paired. What the first half gains more than the second is the choice's luck.
    """

    k: int
    rs: tuple[int, ...]
    chosen_on: np.ndarray
    r: int
    where_chosen: Interval
    base_where_chosen: Interval
    reported: Interval
    base: Interval
    difference: Interval
    n_chosen_on: int
    n_reported: int


def choose_rank(
    rs: Sequence[int],
    curve: Sequence[TargetRanks],
    base: TargetRanks,
    *,
    k: int = 1,
    options: RecallOptions = RecallOptions(),
) -> RankChoice:
    """Choose r on a random half of the queries and report it on the other half. curve: the ranks with each of `rs`; base:
    with nothing removed. options: its seed also draws the halves. RetrievalError below two queries."""
    n = base.n_queries
    if n < 2 or not len(rs):
        raise RetrievalError(
            f"Choosing r among {len(rs)} values on {n} queries is not possible; expected one or more values and two or "
            "more queries."
        )
    order = np.random.default_rng(options.seed).permutation(n)
    choosing, reporting = order[: n // 2], order[n // 2 :]
    at_k = replace(options, ks=(k,))
    hits = np.stack([at_k.hits(ranks)[:, 0] for ranks in curve], axis=1)
    plain = at_k.hits(base)[:, 0]
    recall = hits[choosing].mean(axis=0)
    best = min(range(len(rs)), key=lambda index: (-recall[index], rs[index]))
    values = np.stack([hits[:, best], plain, hits[:, best] - plain], axis=1)
    here, there = (
        [Interval(found.value[i], found.low[i], found.high[i]) for i in range(3)]
        for found in (
            bootstrap_interval(values[half], resamples=options.n_boot, seed=options.seed)
            for half in (choosing, reporting)
        )
    )
    return RankChoice(
        k,
        tuple(rs),
        recall,
        int(rs[best]),
        here[0],
        here[1],
        there[0],
        there[1],
        there[2],
        len(choosing),
        len(reporting),
    )


_NUMBERS = ("recall", "low", "high", "difference", "difference_low", "difference_high")


def _name(step: Step, setting: str, directions: bool) -> str:
    """What the line of a step alone is called."""
    shown = step.at(setting, None) if directions else step
    takes = step.control(1) is not None or getattr(step, "score", "") == "random"
    return Intervention((shown,)).label if takes and shown is not None else family_of(step).title


def _directions(most: int, factor: float) -> list[int]:
    count = int(np.log(max(most, 4) / 4) / np.log(factor)) + 1
    steps = np.geomspace(4, max(most, 4), max(2, count)).round().astype(int)
    return sorted({0, *(r for r in (1, 2, *steps.tolist(), most) if r <= most)})


def _grid(x: Sequence[float], ks: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame({"x": np.repeat(np.asarray(x), len(ks)), "k": np.tile(np.asarray(ks), len(x))})
