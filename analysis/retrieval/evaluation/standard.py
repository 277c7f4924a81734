"""The methods that every store is measured with when it is built: base, removal beside its controls, ReAlign, masks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.controls import random_control
from analysis.retrieval.evaluation.evaluate import KS, engine_that_fits, evaluate
from analysis.retrieval.evaluation.sweeps import choose_rank
from analysis.retrieval.interventions.fitting import projection_basis
from analysis.retrieval.interventions.intervention import BASE, Intervention
from analysis.retrieval.interventions.steps import Centring, Pool, PrincipalComponents, ReAlign, Removal
from analysis.retrieval.ranking.engine import LabEngine
from analysis.retrieval.task import RetrievalSpace

POOLS = {"last": "last token", "mean_no_image": "w/o image", "mean_no_prompt": "w/o prompt"}


def standard_methods(space: RetrievalSpace) -> dict[str, Intervention]:
    """Short name -> intervention, base first. Removal uses all directions of the top 1 % (paper) by attribution."""
    removal = Removal()
    methods = {
        "base": BASE,
        "removal": Intervention((removal,)),
        "random control": random_control(removal),
        "PCA (2)": Intervention((PrincipalComponents(2),)),
        "centring": Intervention((Centring("side"),)),
        "ReAlign": Intervention((ReAlign(),)),
    }
    for variant, name in POOLS.items():
        if variant in space.queries and variant in space.candidates:
            methods[name] = Intervention((Pool(variant, variant),))
    return methods


def standard_results(space: RetrievalSpace, *, device: str = "cpu") -> pd.DataFrame:
    """Recall of the standard methods in long form, one row per method and k.

    Columns: method, spec, task, k, recall, low, high (95 % bootstrap interval), delta, delta_low, delta_high (paired, to
    the base), band_low, band_high (least and largest of the random seeds, NaN elsewhere), queries. The method "removal,
    chosen r" reports the r that one half of the queries chose on the other half, which `queries` then counts, against
    the base on that half. A method that has no answer here (whitening one query, removal without concept scores, choosing r
    on a task larger than memory) has no rows. device: where products are computed; it changes no rank.
    """
    engine = engine_that_fits(space, device=device)
    rows: list[dict[str, object]] = []
    for name, intervention in standard_methods(space).items():
        try:
            table = evaluate(space, [intervention], ks=KS, engine=engine, device=device)
        except RetrievalError:
            if name == "base":
                raise
            continue  # documented above: too few samples or dimensions for this method
        found = table.iloc[0]
        rows += [
            {
                "method": name,
                "spec": intervention.spec,
                "task": space.task,
                "k": k,
                "recall": found[f"R@{k}"],
                "low": found[f"R@{k}_low"],
                "high": found[f"R@{k}_high"],
                "delta": found[f"diff@{k}"],
                "delta_low": found[f"diff@{k}_low"],
                "delta_high": found[f"diff@{k}_high"],
                "band_low": found[f"band@{k}_low"],
                "band_high": found[f"band@{k}_high"],
                "queries": space.n_queries,
            }
            for k in KS
        ]
    rows += chosen_rank(space, engine) if engine is not None else []
    return pd.DataFrame(rows)


def chosen_rank(space: RetrievalSpace, engine: LabEngine, *, ks: Sequence[int] = KS) -> list[dict[str, object]]:
    """Rows as in `standard_results` of the removal whose r one half of the queries chose, reported on the other half."""
    try:
        basis = projection_basis(Intervention((Removal(),)), space)
    except RetrievalError:  # no concept has an attribution: the data hold no image-text pairs
        return []
    if basis is None or space.n_queries < 2 or not len(basis):
        return []
    projection = engine.projection(basis)
    rs = sorted({r for r in (1, 2, 4, 8, 16, 32, 64, 128, 256) if r < len(basis)} | {len(basis)})
    curve, base = engine.rank_curve(projection, rs), engine.ranks()
    rows: list[dict[str, object]] = []
    for k in ks:
        choice = choose_rank(rs, curve, base, k=k)
        spec = Intervention((Removal(r=choice.r),)).spec
        rows.append(
            {
                "method": "removal, chosen r",
                "spec": spec,
                "task": space.task,
                "k": k,
                "recall": choice.reported.value,
                "low": choice.reported.low,
                "high": choice.reported.high,
                "delta": choice.difference.value,
                "delta_low": choice.difference.low,
                "delta_high": choice.difference.high,
                "band_low": float("nan"),
                "band_high": float("nan"),
                "queries": choice.n_reported,
            }
        )
    return rows
