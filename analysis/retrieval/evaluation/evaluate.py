"""Recall of interventions in one long table with intervals and paired differences: what the lab, commands and stores show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.retrieval.evaluation.bootstrap import RESAMPLES, with_difference
from analysis.retrieval.evaluation.lab import Lab, Measured
from analysis.retrieval.interventions import BASE, Intervention
from analysis.retrieval.recall import unanswerable
from analysis.retrieval.task import RetrievalSpace

KS = (1, 5, 10)
COLUMNS = [
    "method", "spec", "k", "recall", "low", "high", "difference", "difference_low", "difference_high",
    "band_low", "band_high", "void",
]  # fmt: skip


def evaluate(
    space: RetrievalSpace,
    interventions: Sequence[Intervention],
    *,
    ks: Sequence[int] = KS,
    definition: str = "hit",
    n_boot: int = RESAMPLES,
    seed: int = 0,
    first: RetrievalSpace | None = None,
    lab: Lab | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """`recall_frame` of interventions on a task, beside its base. attrs: queries, candidates, unanswerable (queries without a
    target in the pool: misses), missing_targets, definition.

    first: the space of the other backbone, for hybrids. lab: of this space, where one is at hand; it changes no number.
    Deterministic for a seed.
    """
    lab = lab or Lab(space, None if first is None else lambda _: first, device=device)
    methods = [lab.measure(intervention) for intervention in interventions]
    table = recall_frame(lab.measure(BASE), methods, ks=ks, definition=definition, n_boot=n_boot, seed=seed)
    table.attrs.update(
        queries=space.n_queries,
        candidates=space.n_candidates,
        unanswerable=unanswerable(space.qrels),
        missing_targets=space.missing_targets,
        definition=definition,
    )
    return table


def recall_frame(
    base: Measured,
    methods: Sequence[Measured],
    *,
    ks: Sequence[int] = KS,
    definition: str = "hit",
    n_boot: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a method and k, in the order given.

    Columns: method (label), spec, k; recall, low, high (95 % bootstrap interval over queries); difference, difference_low,
    difference_high (to the base, paired); band_low, band_high (least and largest random seed, whose mean recall is; NaN
    without seeds); void (queries without a direction afterwards: misses). Shares in [0, 1].
    """
    unchanged = base.hits(ks, definition).mean(axis=0)
    per_seed = [method.hits(ks, definition) for method in methods]
    if not per_seed:
        return pd.DataFrame(columns=COLUMNS)
    hits = np.stack([seeds.mean(axis=0) for seeds in per_seed], axis=1)  # (Q, methods, ks)
    recall, change = with_difference(hits, unchanged, resamples=n_boot, seed=seed)
    rows = []
    for m, (method, seeds) in enumerate(zip(methods, per_seed, strict=True)):
        repeated = len(seeds) > 1 and seeds.shape[1]
        band = seeds.mean(axis=1) if repeated else np.full((1, len(ks)), np.nan)
        for i, k in enumerate(ks):
            numbers = [part[m, i] for found in (recall, change) for part in (found.value, found.low, found.high)]
            of = method.intervention
            rows.append([of.label, of.spec, k, *numbers, band[:, i].min(), band[:, i].max(), method.void])
    return pd.DataFrame(rows, columns=COLUMNS)


def recall_change(beside: Measured, method: Measured, k: int, definition: str) -> pd.Series:
    """The row of `recall_frame` of one method at one k, compared with another instead of the base."""
    return recall_frame(beside, [method], ks=[k], definition=definition).iloc[0]
