"""Recall along one setting of an intervention, with what belongs beside it: its controls and an r chosen elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.retrieval.evaluation.controls import first_stage_alone
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.sweeps import (
    RankChoice,
    RecallOptions,
    alpha_curve,
    choose_rank,
    curve_table,
    hybrid_curve,
    random_band,
    rank_curve,
    share_curve,
)
from analysis.retrieval.interventions.intervention import BASE, Intervention
from analysis.retrieval.interventions.steps import (
    UNRANKED,
    Centring,
    Fusion,
    PrincipalComponents,
    ReAlign,
    Removal,
    Rerank,
    Step,
)
from analysis.retrieval.ranking.ranks import TargetRanks
from analysis.retrieval.task import RetrievalSpace

KINDS = ("r", "share", "alpha", "n", "weight")
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
ALPHAS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
NS = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
WEIGHTS = tuple(round(0.1 * i, 1) for i in range(11))
SEEDS = 10
WHOLE = "with the other steps"
WHOLE_PAIRS = 20_000_000  # query-candidate pairs up to which a whole intervention is fitted for every point of a curve
_VARIED = {"r": Removal, "share": Removal, "alpha": ReAlign}


@dataclass(frozen=True)
class Curves:
    """curves: name -> table of a sweep (x, k, recall, low, high ...); now: where the intervention itself stands; choice:
    k -> the r that one half of the queries choose, only for r."""

    kind: str
    curves: dict[str, pd.DataFrame]
    now: float | None = None
    choice: dict[int, RankChoice] = field(default_factory=dict)


def kinds_for(intervention: Intervention) -> list[str]:
    """Which settings the steps of an intervention have, the most telling first."""
    found: list[str] = []
    for step in intervention.steps:
        if isinstance(step, Removal):
            found += ["r"] if step.score == "concepts" else ["r", "share"]
        elif isinstance(step, ReAlign):
            found.append("alpha")
        elif isinstance(step, Rerank):
            found.append("n")
        elif isinstance(step, Fusion):
            found.append("weight")
    return found


def behind(kind: str, intervention: Intervention, space: RetrievalSpace) -> Intervention:
    """The part of an intervention that its curve depends on: equal for all settings that lie on one curve."""
    if kind not in _VARIED or has_whole(kind, intervention, space):
        return at(kind, intervention, None)
    step = _varied(kind, intervention)
    return at(kind, Intervention(() if step is None else (step,)), None)


def has_whole(kind: str, intervention: Intervention, space: RetrievalSpace) -> bool:
    """Whether a curve over a setting of one step is drawn with the other steps as well: where there are any, and the task
    is small enough to fit every point anew."""
    few = space.n_queries * space.n_candidates <= WHOLE_PAIRS
    return few and _varied(kind, intervention) is not None and len(intervention.steps) > 1


def at(kind: str, intervention: Intervention, x: float | None) -> Intervention:
    """The same intervention at another place of a curve; None: at the setting's default. r = 0 removes nothing."""
    varied, steps = _varied(kind, intervention), list[Step]()
    for step in intervention.steps:
        if isinstance(step, Rerank) and kind == "n":
            step = replace(step, n=Rerank.n if x is None else int(x))
        elif isinstance(step, Fusion) and kind == "weight":
            step = replace(step, weight=Fusion.weight if x is None else x)
        elif step is varied:
            if kind == "r" and x == 0:
                continue
            if isinstance(step, ReAlign):
                step = replace(step, alpha=ReAlign.alpha if x is None else x)
            elif kind == "r":
                step = replace(step, r=None if x is None else int(x))
            else:
                step = replace(step, r=None, share=Removal.share if x is None else x)
        steps.append(step)
    return Intervention(tuple(steps))


def curves(
    lab: Lab, kind: str, intervention: Intervention, *, ks: Sequence[int] = (1, 5, 10), definition: str = "hit"
) -> Curves:
    """The curves of one setting.

    "r": the removal of the intervention (default: attribution, 1 %) against r, with the same number of principal
    components, and for each k the r that half of the queries choose, reported on the other half. "share": the same
    against the share of concepts; `control_band` belongs beside both. "alpha": ReAlign against its shrinkage. "n", "weight":
    a hybrid against the size of its first stage, or the weight of this model.

    Removal and ReAlign stand alone in the first line, and WHOLE is the line of the whole intervention while that setting
    moves, where `has_whole`; r is then chosen for the whole. A hybrid is measured with all its steps.
    """
    options = RecallOptions(ks=tuple(ks), definition=definition).within(lab.space)
    if kind == "r":
        return _over_r(lab, intervention, options)
    if kind == "share":
        removal = _removal(intervention, kind)
        table = share_curve(lab.engine, lab.space, removal, SHARES, options)
        named = {Intervention((removal,)).label: table, **_whole(lab, kind, intervention, SHARES, options)}
        return Curves(kind, named, removal.share)
    if kind == "alpha":
        realign = _step(intervention, ReAlign, ReAlign())
        table = alpha_curve(lab.space, ALPHAS, options, eps=realign.eps, whose=realign.statistics)
        named = {"ReAlign": table, **_whole(lab, kind, intervention, ALPHAS, options)}
        return Curves(kind, named, now=realign.alpha)
    hybrid = intervention.hybrid
    first = lab.partner(hybrid.first if hybrid else "")
    if kind == "n":
        ns = sorted({min(n, lab.space.n_candidates) for n in NS})
        table = hybrid_curve(lab.space, first, ns=ns, intervention=intervention, options=options)
        return Curves(kind, {"re-ranked": table}, now=hybrid.n if isinstance(hybrid, Rerank) else None)
    table = hybrid_curve(lab.space, first, weights=WEIGHTS, intervention=intervention, options=options)
    return Curves("weight", {"fused": table}, now=hybrid.weight if isinstance(hybrid, Fusion) else None)


def levels(kind: str, intervention: Intervention) -> tuple[Intervention, ...]:
    """What stands beside a curve as a level line, because the setting does not change it: the base; ReAlign, and over alpha
    mean-centring, the simplest correction there is; of a hybrid its two models."""
    hybrid = intervention.hybrid
    if kind in ("n", "weight") and hybrid is not None:
        first = first_stage_alone(intervention)
        return tuple(dict.fromkeys((BASE, intervention.without_hybrid(), *([first] if first else []))))
    centring = (Intervention((Centring("side"),)),) if kind == "alpha" else ()
    return (BASE, *centring, Intervention((ReAlign(),)))


def control_band(
    lab: Lab, kind: str, intervention: Intervention, *, ks: Sequence[int] = (1, 5, 10), definition: str = "hit"
) -> pd.DataFrame | None:
    """The control of the curve over "r" or "share": as many random live concepts, ten seeds. Columns x, k, recall (mean
    of the seeds), band_low, band_high. None for a setting without such a control."""
    if kind not in ("r", "share"):
        return None
    options = RecallOptions(ks=tuple(ks), definition=definition).within(lab.space)
    removal = _removal(intervention, kind)
    if kind == "share":
        return random_band(lab.engine, lab.space, removal, shares=SHARES, seeds=SEEDS, options=options)
    projection, _ = lab.projection(replace(removal, r=0))
    if removal.score == "concepts":  # as many random concepts as were picked by hand
        n_concepts = lab.space.dictionary.shape[0]
        removal = replace(removal, score="attribution", concepts=(), share=len(removal.concepts) / n_concepts)
    return random_band(lab.engine, lab.space, removal, rs=_ranks(projection.rank), seeds=SEEDS, options=options)


def _over_r(lab: Lab, intervention: Intervention, options: RecallOptions) -> Curves:
    removal = _removal(intervention, "r")
    projection, _ = lab.projection(replace(removal, r=0))  # the curve runs over r, also where not all can be removed
    r = projection.rank if removal.r is None else min(removal.r, projection.rank)
    rs = _ranks(projection.rank)
    base, ranks = lab.engine.ranks(), lab.engine.rank_curve(projection, rs)
    components, _ = lab.projection(PrincipalComponents(min(max(rs[-1], 1), 32)))
    named = {
        Intervention((replace(removal, r=None),)).label: curve_table(rs, ranks, options, base=base),
        "principal components, as many": rank_curve(
            lab.engine, components, [n for n in rs if n <= components.rank], options
        ),
    }
    if has_whole("r", intervention, lab.space):
        ranks = _ranks_of_whole(lab, "r", intervention, rs)
        named[WHOLE] = curve_table(rs, ranks, options, base=base)
    return Curves("r", named, r, {k: choose_rank(rs, ranks, base, k=k, options=options) for k in options.ks})


def _whole(
    lab: Lab, kind: str, intervention: Intervention, xs: Sequence[float], options: RecallOptions
) -> dict[str, pd.DataFrame]:
    if not has_whole(kind, intervention, lab.space):
        return {}
    ranks = _ranks_of_whole(lab, kind, intervention, xs)
    return {WHOLE: curve_table(xs, ranks, options, base=lab.engine.ranks())}


def _ranks_of_whole(lab: Lab, kind: str, intervention: Intervention, xs: Sequence[float]) -> list[TargetRanks]:
    return [lab.measure(at(kind, intervention, x)).ranks[0] for x in xs]


def _removal(intervention: Intervention, kind: str) -> Removal:
    """The removal that a curve is about; shares make no sense of hand-picked concepts, nor seeds of a curve."""
    removal = replace(_step(intervention, Removal, Removal()), seed=0, seeds=1)
    if kind == "share" and removal.score in UNRANKED:
        return replace(removal, score="attribution", concepts=())
    return removal


def _ranks(most: int) -> list[int]:
    """0, 1, 2, 4 and so on by factors of 1.7, and the whole space."""
    count = int(np.log(max(most, 4) / 4) / np.log(1.7)) + 1
    steps = np.geomspace(4, max(most, 4), max(2, count)).round().astype(int)
    return sorted({0, *(r for r in (1, 2, *steps.tolist(), most) if r <= most)})


def _varied(kind: str, intervention: Intervention) -> Any:
    """The step whose setting a curve is about, None without one. No share says how many hand-picked concepts to take."""
    step = _step(intervention, _VARIED.get(kind, ()), None)
    return None if kind == "share" and getattr(step, "score", "") in UNRANKED else step


def _step(intervention: Intervention, kind: Any, default: Any) -> Any:
    return next((step for step in intervention.steps if isinstance(step, kind)), default)
