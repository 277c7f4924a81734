"""Recall along a slider: r, the share of concepts, alpha, n of a hybrid; with intervals, controls, and an honest r.

Every curve is a table with the columns x, k, recall, low, high (95 % bootstrap interval over queries), and difference,
difference_low, difference_high to the base (paired; NaN where a sweep has no base). All shares in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.bootstrap import RESAMPLES, Interval, bootstrap_interval
from analysis.retrieval.evaluation.evaluate import KS, first_stage
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.interventions.intervention import BASE, Intervention
from analysis.retrieval.interventions.linear_steps import Side, plain_context, removal_basis, whitening_statistics
from analysis.retrieval.interventions.steps import Pool, Removal
from analysis.retrieval.ranking.engine import LabEngine
from analysis.retrieval.ranking.low_rank import Projection
from analysis.retrieval.ranking.ranks import TargetRanks, target_ranks
from analysis.retrieval.ranking.two_models import fused_ranks, two_stage_ranks
from analysis.retrieval.ranking.whitened import WhitenedRows, WhitenedScores
from analysis.retrieval.realign import EPS
from analysis.retrieval.recall import hits_of_ranks
from analysis.retrieval.task import RetrievalSpace


@dataclass(frozen=True)
class RecallOptions:
    """How every curve counts: cut-offs, definition of recall, bootstrap.

    n_relevant (Q,): relevant candidates in the pool and out of it, what "fraction" divides by; default those in the pool.
    Curves that are given a space take the space's.
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


def curve_table(
    x: Sequence[float], ranks: Sequence[TargetRanks], options: RecallOptions = RecallOptions(), *, base: TargetRanks
) -> pd.DataFrame:
    """The table of any curve: ranks under each of its settings, and under none of them."""
    table = _grid(x, options.ks)
    if not len(x):
        return table.assign(**dict.fromkeys(_NUMBERS, np.empty(0)))
    hits = np.stack([options.hits(part) for part in ranks], axis=1)  # (Q, x, ks)
    for prefix, values in (("", hits), ("difference", hits - options.hits(base)[:, None, :])):
        interval = bootstrap_interval(values, resamples=options.n_boot, seed=options.seed)
        names = ("difference", "difference_low", "difference_high") if prefix else ("recall", "low", "high")
        for name, column in zip(names, (interval.value, interval.low, interval.high), strict=True):
            table[name] = column.ravel()
    return table


def rank_curve(
    engine: LabEngine, projection: Projection, rs: Sequence[int], options: RecallOptions = RecallOptions()
) -> pd.DataFrame:
    """Recall against the number r of removed directions."""
    return curve_table(rs, engine.rank_curve(projection, list(rs)), options, base=engine.ranks())


def share_curve(
    engine: LabEngine,
    space: RetrievalSpace,
    removal: Removal,
    shares: Sequence[float],
    options: RecallOptions = RecallOptions(),
) -> pd.DataFrame:
    """Recall against the share of removed concepts, everything else as in `removal`."""
    bases = (removal_basis(replace(removal, share=share), space) for share in shares)
    ranks = [engine.ranks(engine.projection(basis)) for basis in bases]
    return curve_table(shares, ranks, options.within(space), base=engine.ranks())


def random_band(
    engine: LabEngine,
    space: RetrievalSpace,
    removal: Removal,
    *,
    rs: Sequence[int] | None = None,
    shares: Sequence[float] | None = None,
    seeds: int = 10,
    options: RecallOptions = RecallOptions(),
) -> pd.DataFrame:
    """The control of one of the two curves above: as many random live concepts. Columns x, k, recall (mean of the
    seeds), band_low, band_high (least and largest seed)."""
    if (rs is None) == (shares is None):
        raise RetrievalError("A control band needs either values of r or shares; expected exactly one of the two.")
    recall = []
    for seed in range(seeds):
        drawn = replace(removal, score="random", concepts=(), seed=removal.seed + seed, seeds=1)
        if rs is not None:
            projection = engine.projection(removal_basis(replace(drawn, r=max(rs, default=0)), space))
            ranks = engine.rank_curve(projection, list(rs))
        else:
            bases = (removal_basis(replace(drawn, share=share), space) for share in shares or ())
            ranks = [engine.ranks(engine.projection(basis)) for basis in bases]
        recall.append([options.within(space).hits(part).mean(axis=0) for part in ranks])
    values = np.array(recall)  # (seeds, x, ks)
    table = _grid(list(rs if rs is not None else shares or ()), options.ks)
    for name, column in (("recall", values.mean(0)), ("band_low", values.min(0)), ("band_high", values.max(0))):
        table[name] = column.ravel()
    return table


def alpha_curve(
    space: RetrievalSpace,
    alphas: Sequence[float],
    options: RecallOptions = RecallOptions(),
    *,
    eps: float = EPS,
    whose: str = "own",
    device: str = "cpu",
) -> pd.DataFrame:
    """Recall of ReAlign against its shrinkage alpha; the eigenvectors are computed once. whose: as in `steps.ReAlign`."""
    base = fit(BASE, space)
    whole = (Side(base.queries, base.void_queries), Side(base.candidates, base.void_candidates))
    fitted = whitening_statistics(whose, plain_context(space, *whole, Pool(), stored_first=whose == "support"))
    ranks = []
    for alpha in alphas:
        for_queries, for_candidates = (statistics.whitening(alpha, eps) for statistics in fitted)
        queries, candidates = whole[0].through(for_queries), WhitenedRows(whole[1], for_candidates)
        found = target_ranks(WhitenedScores(queries.rows, candidates, device=device), space.qrels)
        ranks.append(found.losing(queries.void))
    plain = target_ranks(base.scores(device=device), space.qrels)
    return curve_table(alphas, ranks, options.within(space), base=plain)


def hybrid_curve(
    space: RetrievalSpace,
    first: RetrievalSpace,
    *,
    ns: Sequence[int] | None = None,
    weights: Sequence[float] | None = None,
    intervention: Intervention = BASE,
    options: RecallOptions = RecallOptions(),
    device: str = "cpu",
) -> pd.DataFrame:
    """Recall of a hybrid against n of its first stage, or against the weight of this model in the fusion. The base is
    this model alone, under the same intervention."""
    if (ns is None) == (weights is None):
        raise RetrievalError("A hybrid curve needs either values of n or weights; expected exactly one of the two.")
    fitted = fit(intervention.without_hybrid(), space)
    second = fitted.scores(device=device)
    stage = first_stage(space, first, device=device)
    if ns is not None:
        ranks = two_stage_ranks(stage, second, space.qrels, ns)
    else:
        ranks = fused_ranks(stage, second, space.qrels, weights or ())
    return curve_table(
        list(ns if ns is not None else weights or ()),
        ranks,
        options.within(space),
        base=target_ranks(second, space.qrels),
    )


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


def _grid(x: Sequence[float], ks: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame({"x": np.repeat(np.asarray(x), len(ks)), "k": np.tile(np.asarray(ks), len(x))})
