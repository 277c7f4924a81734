"""Recall along one setting of an intervention, with what belongs beside it: its controls and an r chosen elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.live.lab import Lab
from analysis.retrieval.interventions import Intervention
from analysis.retrieval.steps import Fusion, PrincipalComponents, ReAlign, Removal, Rerank, Step
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
    """curves: name -> table of a sweep (x, k, recall, low, high ...); bands: name -> table of a control (x, k, recall,
    band_low, band_high); now: where the intervention itself stands; choice: only for r."""

    kind: str
    curves: dict[str, pd.DataFrame]
    bands: dict[str, pd.DataFrame] = field(default_factory=dict)
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

    "r": the removal of the intervention (default: attribution, 1 %) against r, with as many random concepts (ten seeds)
    and the same number of principal components, and for each k the r that half of the queries choose, reported on the
    other half. "share": the same against the share of concepts. "alpha": ReAlign against its shrinkage. "n", "weight":
    a hybrid against the size of its first stage, or the weight of this model. Removal and ReAlign are measured alone,
    without the other steps; a hybrid with all of them.
    """
    options = RecallOptions(ks=tuple(ks), definition=definition)
    if kind == "r":
        return _over_r(lab, _step(intervention, Removal, Removal()), options)
    if kind == "share":
        removal = replace(_step(intervention, Removal, Removal()), seed=0, seeds=1)
        if removal.score in ("concepts", "random"):
            removal = replace(removal, score="attribution", concepts=())
        table = share_curve(lab.engine, lab.space, removal, SHARES, options)
        band = random_band(lab.engine, lab.space, removal, shares=SHARES, seeds=SEEDS, options=options)
        return Curves(
            kind, {Intervention((removal,)).label: table}, {f"random concepts, {SEEDS} seeds": band}, removal.share
        )
    if kind == "alpha":
        realign = _step(intervention, ReAlign, ReAlign())
        table = alpha_curve(lab.space, ALPHAS, options, eps=realign.eps)
        return Curves(kind, {"ReAlign": table}, now=realign.alpha)
    hybrid = intervention.hybrid
    first = lab.partner(hybrid.first if hybrid else "")
    if kind == "n":
        ns = sorted({min(n, lab.space.n_candidates) for n in NS})
        table = hybrid_curve(lab.space, first, ns=ns, intervention=intervention, options=options)
        return Curves(kind, {"re-ranked": table}, now=hybrid.n if isinstance(hybrid, Rerank) else None)
    table = hybrid_curve(lab.space, first, weights=WEIGHTS, intervention=intervention, options=options)
    return Curves("weight", {"fused": table}, now=hybrid.weight if isinstance(hybrid, Fusion) else None)


def _over_r(lab: Lab, removal: Removal, options: RecallOptions) -> Curves:
    whole = replace(removal, seed=removal.seed, seeds=1)
    projection, r = lab.projection(whole)
    rs = _ranks(projection.rank)
    table = rank_curve(lab.engine, projection, rs, options)
    drawn = replace(whole, score="attribution", concepts=()) if whole.score == "concepts" else whole
    if whole.score == "concepts":  # as many random concepts as were picked by hand
        drawn = replace(drawn, share=len(whole.concepts) / lab.space.dictionary.shape[0])
    bands = {
        f"random concepts, {SEEDS} seeds": random_band(
            lab.engine, lab.space, drawn, rs=rs, seeds=SEEDS, options=options
        )
    }
    components, _ = lab.projection(PrincipalComponents(min(max(rs[-1], 1), 32)))
    pca = rank_curve(lab.engine, components, [n for n in rs if n <= components.rank], options)
    named = {Intervention((replace(whole, r=None),)).label: table, "principal components, as many": pca}
    choice = {k: choose_rank(lab.engine, projection, rs, k=k, definition=options.definition) for k in options.ks}
    return Curves("r", named, bands, r, choice)


def _ranks(most: int) -> list[int]:
    """0 and every r up to 8, then about eight values a factor of ten."""
    steps = np.unique(np.geomspace(8, max(most, 8), 16).round().astype(int))
    return sorted({0, *range(1, min(most, 8) + 1), *(int(step) for step in steps if step <= most), most})


def _step(intervention: Intervention, kind: type, default: Any) -> Any:
    return next((step for step in intervention.steps if isinstance(step, kind)), default)
