"""The methods that every store is measured with when it is built: base, removal beside its controls, ReAlign, masks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.controls import SEEDS
from analysis.retrieval.evaluation.curves import choose_rank
from analysis.retrieval.evaluation.evaluate import COLUMNS, KS, recall_frame
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import (
    BASE,
    Centring,
    Intervention,
    Pool,
    PrincipalComponents,
    ReAlign,
    Removal,
    UntrainedRemoval,
)
from analysis.retrieval.task import RetrievalSpace

MASKS = {"last": "last token", "mean_no_image": "w/o image", "mean_no_prompt": "w/o prompt"}
CHOSEN = "removal, chosen r"


def standard_methods(space: RetrievalSpace) -> dict[str, Intervention]:
    """Short name -> intervention, base first. Removal uses all directions of the top 1 % (paper) by attribution."""
    removal = Removal()
    methods = {
        "base": BASE,
        "removal": Intervention((removal,)),
        "random control": Intervention((removal.control(SEEDS),)),
        "untrained SAE": Intervention((UntrainedRemoval.like(removal),)),
        "PCA (2)": Intervention((PrincipalComponents(2),)),
        "centring": Intervention((Centring("side"),)),
        "ReAlign": Intervention((ReAlign(),)),
    }
    for variant, name in MASKS.items():
        if variant in space.queries and variant in space.candidates:
            methods[name] = Intervention((Pool(variant, variant),))
    return methods


def standard_results(space: RetrievalSpace, *, device: str = "cpu") -> pd.DataFrame:
    """Recall of the standard methods in long form, one row per method and k.

    Columns: those of `recall_frame` with the short name as method, task, and queries. The method "removal, chosen r"
    reports the r that one half of the queries chose on the other half, which `queries` then counts, against the base on
    that half. A method that has no answer here (whitening one query, removal without concept scores, its control without an
    untrained SAE, choosing r on a task larger than memory) has no rows. device: where products are computed; it changes no
    rank.
    """
    lab = Lab(space, device=device)
    base = lab.measure(BASE)
    parts = []
    for name, intervention in standard_methods(space).items():
        try:
            measured = lab.measure(intervention)
        except RetrievalError:
            continue  # documented above: too few samples or dimensions for this method
        parts.append(recall_frame(base, [measured], ks=KS).assign(method=name, queries=space.n_queries))
    parts.append(chosen_rank(lab))
    columns = [*COLUMNS[:2], "task", *COLUMNS[2:-1], "queries"]
    return pd.concat([part.assign(task=space.task) for part in parts if len(part)], ignore_index=True)[columns]


def chosen_rank(lab: Lab, *, ks: Sequence[int] = KS) -> pd.DataFrame:
    """Rows as in `standard_results` of the removal whose r one half of the queries chose, reported on the other half; none
    where no concept has an attribution (data without image-text pairs), for a single query, and on a task in blocks."""
    removal = Removal()
    if lab.space.n_queries < 2 or lab.in_blocks:
        return pd.DataFrame()
    try:
        projection, most = lab.projection(removal)
    except RetrievalError:
        return pd.DataFrame()
    if not most:
        return pd.DataFrame()
    rs = sorted({r for r in (1, 2, 4, 8, 16, 32, 64, 128, 256) if r < most} | {most})
    curve, base = lab.engine.rank_curve(projection, rs), lab.measure(BASE).ranks[0]
    rows: list[dict[str, object]] = []
    for k in ks:
        choice = choose_rank(rs, curve, base, k=k)
        row: dict[str, object] = {"method": CHOSEN, "spec": Intervention((Removal(r=choice.r),)).spec, "k": k}
        row |= {"recall": choice.reported.value, "low": choice.reported.low, "high": choice.reported.high}
        for name, value in (
            ("", choice.difference.value),
            ("_low", choice.difference.low),
            ("_high", choice.difference.high),
        ):
            row[f"difference{name}"] = value
        rows.append(row | {"band_low": float("nan"), "band_high": float("nan"), "queries": choice.n_reported})
    return pd.DataFrame(rows)
