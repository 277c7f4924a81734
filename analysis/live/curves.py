"""Recall along one setting of an intervention, with what belongs beside it: its controls and an r chosen elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.live.lab import Lab
from analysis.retrieval.interventions import Intervention
from analysis.retrieval.steps import UNRANKED, Fusion, PrincipalComponents, ReAlign, Removal, Rerank, Step
from analysis.retrieval.sweeps import (
    RankChoice,
    RecallOptions,
    alpha_curve,
    choose_rank,
    hybrid_curve,
    random_band,
    rank_curve,
    share_curve,
)

KINDS = ("r", "share", "alpha", "n", "weight")
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
ALPHAS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
NS = (2, 5, 10, 20, 50, 100, 200, 500, 1000)
WEIGHTS = tuple(round(0.1 * i, 1) for i in range(11))
SEEDS = 10


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


def behind(kind: str, intervention: Intervention) -> Intervention:
    """The part of an intervention that its curve depends on: equal for all settings that lie on one curve."""
    removal, realign = (_step(intervention, step, None) for step in (Removal, ReAlign))
    if kind == "r":
        return Intervention((replace(removal, r=None),) if removal else ())
    if kind == "share":
        free = removal is not None and removal.score != "concepts"
        return Intervention((replace(removal, r=None, share=Removal.share),) if free else ())
    if kind == "alpha":
        return Intervention((replace(realign, alpha=ReAlign.alpha),) if realign else ())
    steps: list[Step] = []
    for step in intervention.steps:
        if isinstance(step, Rerank):
            step = replace(step, n=Rerank.n)
        elif isinstance(step, Fusion):
            step = replace(step, weight=Fusion.weight)
        steps.append(step)
    return Intervention(tuple(steps))


def curves(
    lab: Lab, kind: str, intervention: Intervention, *, ks: Sequence[int] = (1, 5, 10), definition: str = "hit"
) -> Curves:
    """The curves of one setting.

    "r": the removal of the intervention (default: attribution, 1 %) against r, with the same number of principal
    components, and for each k the r that half of the queries choose, reported on the other half. "share": the same
    against the share of concepts; `control_band` belongs beside both. "alpha": ReAlign against its shrinkage. "n", "weight":
    a hybrid against the size of its first stage, or the weight of this model. Removal and ReAlign are measured alone,
    without the other steps; a hybrid with all of them.
    """
    options = RecallOptions(ks=tuple(ks), definition=definition).within(lab.space)
    if kind == "r":
        return _over_r(lab, intervention, options)
    if kind == "share":
        removal = _removal(intervention, kind)
        table = share_curve(lab.engine, lab.space, removal, SHARES, options)
        return Curves(kind, {Intervention((removal,)).label: table}, removal.share)
    if kind == "alpha":
        realign = _step(intervention, ReAlign, ReAlign())
        table = alpha_curve(lab.space, ALPHAS, options, eps=realign.eps, whose=realign.statistics)
        return Curves(kind, {"ReAlign": table}, now=realign.alpha)
    hybrid = intervention.hybrid
    first = lab.partner(hybrid.first if hybrid else "")
    if kind == "n":
        ns = sorted({min(n, lab.space.n_candidates) for n in NS})
        table = hybrid_curve(lab.space, first, ns=ns, intervention=intervention, options=options)
        return Curves(kind, {"re-ranked": table}, now=hybrid.n if isinstance(hybrid, Rerank) else None)
    table = hybrid_curve(lab.space, first, weights=WEIGHTS, intervention=intervention, options=options)
    return Curves("weight", {"fused": table}, now=hybrid.weight if isinstance(hybrid, Fusion) else None)


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
    projection, _ = lab.projection(removal)
    if removal.score == "concepts":  # as many random concepts as were picked by hand
        n_concepts = lab.space.dictionary.shape[0]
        removal = replace(removal, score="attribution", concepts=(), share=len(removal.concepts) / n_concepts)
    return random_band(lab.engine, lab.space, removal, rs=_ranks(projection.rank), seeds=SEEDS, options=options)


def _over_r(lab: Lab, intervention: Intervention, options: RecallOptions) -> Curves:
    removal = _removal(intervention, "r")
    projection, r = lab.projection(removal)
    rs = _ranks(projection.rank)
    table = rank_curve(lab.engine, projection, rs, options)
    components, _ = lab.projection(PrincipalComponents(min(max(rs[-1], 1), 32)))
    pca = rank_curve(lab.engine, components, [n for n in rs if n <= components.rank], options)
    named = {Intervention((replace(removal, r=None),)).label: table, "principal components, as many": pca}
    choice = {
        k: choose_rank(lab.engine, projection, rs, k=k, definition=options.definition, n_relevant=lab.space.n_relevant)
        for k in options.ks
    }
    return Curves("r", named, r, choice)


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


def _step(intervention: Intervention, kind: type, default: Any) -> Any:
    return next((step for step in intervention.steps if isinstance(step, kind)), default)
