"""Recall of any list of interventions with intervals and paired differences: the table of the lab and of the command."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.bootstrap import RESAMPLES, bootstrap_interval
from analysis.retrieval.evaluation.movement import FusedLists, Lists, ScoreLists, TwoStageLists
from analysis.retrieval.interventions.fitting import Fitted, fit, projection_basis
from analysis.retrieval.interventions.intervention import BASE, Intervention
from analysis.retrieval.interventions.steps import Rerank
from analysis.retrieval.ranking.blocks import block_ranks, is_large
from analysis.retrieval.ranking.engine import LabEngine
from analysis.retrieval.ranking.ranks import TargetRanks, target_ranks
from analysis.retrieval.ranking.similarities import Scores
from analysis.retrieval.ranking.two_models import fused_ranks, two_stage_ranks
from analysis.retrieval.recall import hits_of_ranks, unanswerable
from analysis.retrieval.task import RetrievalSpace

KS = (1, 5, 10)


def evaluate(
    space: RetrievalSpace,
    interventions: Sequence[Intervention],
    *,
    ks: Sequence[int] = KS,
    definition: str = "hit",
    n_boot: int = RESAMPLES,
    seed: int = 0,
    first: RetrievalSpace | None = None,
    engine: LabEngine | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """One row an intervention, in the order given.

    Columns: method (label), spec, and for each k: R@k, R@k_low, R@k_high (95 % bootstrap interval over queries),
    diff@k, diff@k_low, diff@k_high (paired difference to the base), band@k_low, band@k_high (least and largest of an
    intervention's random seeds, NaN without seeds; R@k is then their mean); void_queries (without a direction
    afterwards: misses). All shares in [0, 1]. attrs: queries, candidates, unanswerable (queries without a target in the
    pool: misses), missing_targets, definition.

    first: the space of the other backbone, for hybrids. engine: of the fitted base of this space; makes plain removals
    fast and changes no number. Deterministic for a seed.
    """
    base = _hits(space, BASE, ks, definition, engine=engine, device=device)[0].mean(axis=0)
    rows, hits = [], []
    for intervention in interventions:
        per_seed, void = _hits(space, intervention, ks, definition, first=first, engine=engine, device=device)
        hits.append(per_seed.mean(axis=0))
        band = per_seed.mean(axis=1) if len(per_seed) > 1 and space.n_queries else np.full((1, len(ks)), np.nan)
        row = {"method": intervention.label, "spec": intervention.spec, "void_queries": void}
        for index, k in enumerate(ks):
            row[f"band@{k}_low"], row[f"band@{k}_high"] = band[:, index].min(), band[:, index].max()
        rows.append(row)
    table = pd.DataFrame(rows, columns=_columns(ks))
    if hits:
        together = np.stack(hits, axis=1)  # (Q, methods, ks): one set of resamples for all
        for name, values in (("R", together), ("diff", together - base[:, None, :])):
            interval = bootstrap_interval(values, resamples=n_boot, seed=seed)
            for index, k in enumerate(ks):
                table[f"{name}@{k}"] = interval.value[:, index]
                table[f"{name}@{k}_low"], table[f"{name}@{k}_high"] = interval.low[:, index], interval.high[:, index]
    table.attrs.update(
        queries=space.n_queries,
        candidates=space.n_candidates,
        unanswerable=unanswerable(space.qrels),
        missing_targets=space.missing_targets,
        definition=definition,
    )
    return table


def long_form(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `evaluate` with one row per method and k: columns method, spec, k, recall, low, high, difference,
    difference_low, difference_high, band_low, band_high."""
    ks = [int(name[2:]) for name in table.columns if name.startswith("R@") and name[2:].isdigit()]
    names = {
        **{f"R@{{k}}{end}": new for end, new in (("", "recall"), ("_low", "low"), ("_high", "high"))},
        **{f"diff@{{k}}{end}": f"difference{end}" for end in ("", "_low", "_high")},
        **{f"band@{{k}}{end}": f"band{end}" for end in ("_low", "_high")},
    }
    parts = [
        table[["method", "spec"]].assign(k=k, **{new: table[old.format(k=k)] for old, new in names.items()}) for k in ks
    ]
    rows = pd.concat(parts or [table[["method", "spec"]]]).sort_index(kind="stable").reset_index(drop=True)
    rows.attrs.update(table.attrs)
    return rows


def ranks_under(
    space: RetrievalSpace,
    intervention: Intervention,
    *,
    first: RetrievalSpace | None = None,
    engine: LabEngine | None = None,
    device: str = "cpu",
) -> tuple[TargetRanks, np.ndarray]:
    """(ranks of all targets, which queries have no direction (Q,): those rank behind every candidate).

    Of an intervention with several random seeds the first is taken.
    """
    intervention = intervention.seeds()[0]
    if engine is None and is_large(space):
        return block_ranks(space, intervention, device=device)
    if engine is not None and not intervention.steps:
        return engine.ranks(), np.zeros(space.n_queries, bool)
    basis = projection_basis(intervention, space) if engine is not None else None
    if engine is not None and basis is not None:
        projection = engine.projection(basis)
        void = engine.scores(projection).void_queries
        return engine.ranks(projection).losing(void), void
    fitted = fit(intervention, space)
    scores = fitted.scores(device=device)
    hybrid = intervention.hybrid
    if hybrid is None:
        ranks = target_ranks(scores, space.qrels)
    elif isinstance(hybrid, Rerank):
        ranks = two_stage_ranks(first_stage(space, first, device=device), scores, space.qrels, [hybrid.n])[0]
    else:
        ranks = fused_ranks(first_stage(space, first, device=device), scores, space.qrels, [hybrid.weight])[0]
    return ranks.losing(fitted.void_queries), fitted.void_queries


def lists_under(
    space: RetrievalSpace,
    intervention: Intervention,
    *,
    first: RetrievalSpace | None = None,
    engine: LabEngine | None = None,
    device: str = "cpu",
) -> Lists:
    """The candidates of single queries as an intervention orders them: the lists behind `ranks_under`."""
    intervention = intervention.seeds()[0]
    if engine is not None and not intervention.steps:
        return ScoreLists(engine.scores())
    basis = projection_basis(intervention, space) if engine is not None else None
    if engine is not None and basis is not None:
        return ScoreLists(engine.scores(engine.projection(basis)))
    fitted = fit(intervention, space)
    scores = fitted.scores(device=device)
    hybrid = intervention.hybrid
    if hybrid is None:
        return ScoreLists(scores)
    stage = first_stage(space, first, device=device)
    return (
        TwoStageLists(stage, scores, hybrid.n)
        if isinstance(hybrid, Rerank)
        else FusedLists(stage, scores, hybrid.weight)
    )


def first_stage(space: RetrievalSpace, first: RetrievalSpace | None, *, device: str = "cpu") -> Scores:
    """Base scores of the other backbone of a hybrid. RetrievalError unless it holds the same samples in the same order."""
    if first is None:
        raise RetrievalError("A hybrid needs a second store; expected one of another backbone on the same task.")
    for mine, other, what in (
        (space.query_names, first.query_names, "queries"),
        (space.candidate_names, first.candidate_names, "candidates"),
    ):
        if mine is not None and other is not None and not np.array_equal(mine, other):
            raise RetrievalError(
                f"{first.label or 'The other store'} has other {what} than {space.label or 'this one'}; "
                "expected the same task of the same data set."
            )
    return fit(BASE, first).scores(device=device)


def lab_engine(space: RetrievalSpace, *, base: Fitted | None = None, device: str = "cpu") -> LabEngine:
    """The slider engine of a space: its base rows and qrels."""
    base = base or fit(BASE, space)
    return LabEngine(base.queries, base.candidates, space.qrels, device=device)


def engine_that_fits(space: RetrievalSpace, *, device: str = "cpu") -> LabEngine | None:
    """The slider engine, or None for a task larger than memory, which `evaluate` then takes in blocks."""
    return None if is_large(space) else lab_engine(space, device=device)


def _hits(
    space: RetrievalSpace,
    intervention: Intervention,
    ks: Sequence[int],
    definition: str,
    *,
    first: RetrievalSpace | None = None,
    engine: LabEngine | None = None,
    device: str = "cpu",
) -> tuple[np.ndarray, int]:
    """((seeds, Q, ks) per-query recall, most void queries of a seed)."""
    hits, void = [], 0
    for single in intervention.seeds():
        ranks, empty = ranks_under(space, single, first=first, engine=engine, device=device)
        hits.append(hits_of_ranks(ranks, ks, definition=definition, n_relevant=space.n_relevant))
        void = max(void, int(empty.sum()))
    return np.stack(hits), void


def _columns(ks: Sequence[int]) -> list[str]:
    numbers = [f"{name}@{k}{end}" for k in ks for name in ("R", "diff") for end in ("", "_low", "_high")]
    return ["method", "spec", *numbers, *(f"band@{k}_{end}" for k in ks for end in ("low", "high")), "void_queries"]
