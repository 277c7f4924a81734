"""Why retrieval works or fails: the shape of the embeddings, the hubs among the candidates, the margin of the targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.retrieval.evaluation.bootstrap import Interval, bootstrap_interval
from analysis.retrieval.interventions.step import JoinsModels
from analysis.retrieval.ranking.ranks import canonical_qrels, relevant
from analysis.retrieval.ranking.rows import unit_rows
from analysis.retrieval.ranking.similarities import RowScores, Scores
from analysis.retrieval.search import best_candidates

HUB_DEPTH = 10  # a candidate occurs when it is among the first ten of a query


@dataclass(frozen=True)
class Diagnostics:
    """Diagnostics of one state of the embeddings of a task.

    modality_gap: distance of the mean query from the mean candidate (per modality where the sides are two modalities).
    matched_cosine, random_cosine: mean cosine of query and target, and of random pairs that are not relevant.
    spectrum (D,): share of the energy per direction, largest first, both sides weighing the same; effective_rank: how
    many directions that is. occurrences (C,): in how many lists of ten each candidate stands; hubness: their skewness (0:
    evenly); worst_hub_share: share of queries that have the worst hub among their first ten. margin: median over queries
    of best target minus hardest non-target (negative: the wrong one wins). random_spread: standard deviation over the
    random pairs, the unit in which two spaces can be compared. A hybrid has no embeddings of its own: what is about them
    is NaN, its spectrum is empty, and its margin and spread are those of the fused score (re-ranking has no one score).
    """

    modality_gap: float
    matched_cosine: float
    random_cosine: float
    spectrum: np.ndarray
    effective_rank: float
    occurrences: np.ndarray
    hubness: float
    worst_hub_share: float
    margin: float
    random_spread: float = float("nan")

    @property
    def margin_in_spreads(self) -> float:
        """The margin in standard deviations of the scores of random pairs."""
        return self.margin / self.random_spread if self.random_spread > 0 else float("nan")

    @property
    def distance_in_spreads(self) -> float:
        """Distance of matched from random cosines in the same unit."""
        distance = self.matched_cosine - self.random_cosine
        return distance / self.random_spread if self.random_spread > 0 else float("nan")


def diagnose(
    queries: np.ndarray,
    candidates: np.ndarray,
    qrels: sp.csr_array,
    *,
    scores: Scores | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Diagnostics:
    """Diagnostics of unit rows (Q, D), (C, D), e.g. of a fitted intervention; NaN where there is nothing to measure.
    scores: what the lists are ordered by, for hubs and margins, where that is not the cosine."""
    cosines = RowScores(queries, candidates, device=device)
    scores = cosines if scores is None else scores
    matched, random = pair_cosines(cosines, qrels, seed=seed)
    occurrences = count_occurrences(best_candidates(scores, HUB_DEPTH).ids, scores.n_candidates)
    shares = spectrum(queries, candidates)
    return Diagnostics(
        modality_gap(queries, candidates),
        _mean(matched),
        _mean(random),
        shares,
        effective_rank(shares),
        *_hubness(occurrences, len(queries)),
        _median(margins(scores, qrels).margin),
        float(random.std()) if len(random) else float("nan"),
    )


def diagnose_hybrid(
    first: Scores, second: Scores, hybrid: JoinsModels, qrels: sp.csr_array, *, seed: int = 0
) -> Diagnostics:
    """Diagnostics of the lists that a hybrid gives: hubs, and where one score orders everything its margin."""
    undefined = float("nan")
    qrels = canonical_qrels(qrels)
    lists, margin, spread = hybrid.hubs(first, second, qrels, HUB_DEPTH, _random_pairs(qrels, seed=seed))
    return Diagnostics(
        undefined,
        undefined,
        undefined,
        np.empty(0),
        undefined,
        *_hubness(count_occurrences(lists, first.n_candidates), first.n_queries),
        _median(margin),
        float(spread.std()) if len(spread) else undefined,
    )


def modality_gap(first: np.ndarray, second: np.ndarray) -> float:
    """|mean(first) - mean(second)| of unit rows (n, D), (m, D): 0 to 2; NaN when one is empty."""
    if not len(first) or not len(second):
        return float("nan")
    means = (unit_rows(rows)[0].mean(axis=0, dtype=np.float64) for rows in (first, second))
    return float(np.linalg.norm(np.subtract(*means)))


@dataclass(frozen=True)
class PairGap:
    """How far apart pictures and captions lie in a space, on some of its pairs.

    gap: distance of the mean picture from the mean caption; within: the larger distance of two random halves of one
    modality, what the gap would be without one. matched: mean cosine of picture and caption of a pair with its interval over
    pairs; unmatched: of a picture and the caption of another; spread: standard deviation of the unmatched cosines.
    """

    pairs: int
    gap: float
    within: float
    matched: Interval
    unmatched: float
    spread: float

    @property
    def distance(self) -> float:
        """Matched minus unmatched in spreads: two spaces can be compared by it, by their cosines not."""
        return float(self.matched.value - self.unmatched) / self.spread if self.spread > 0 else float("nan")


def pair_gap(images: np.ndarray, texts: np.ndarray, *, seed: int = 0) -> PairGap:
    """Gap and cosines of pairs: images and texts (n, D), row i of both is pair i. NaN for fewer than two pairs."""
    if len(images) < 2:
        nothing = float("nan")
        return PairGap(len(images), nothing, nothing, bootstrap_interval(np.empty(0)), nothing, nothing)
    images, texts = unit_rows(images)[0], unit_rows(texts)[0]
    order = np.random.default_rng(seed).permutation(len(images))
    halves = order[::2], order[1::2]
    unmatched = np.einsum("nd,nd->n", images[order], texts[np.roll(order, 1)])
    return PairGap(
        len(images),
        modality_gap(images, texts),
        max(modality_gap(*(side[half] for half in halves)) for side in (images, texts)),
        bootstrap_interval(np.einsum("nd,nd->n", images, texts), seed=seed),
        float(unmatched.mean()),
        float(unmatched.std()),
    )


def pair_cosines(
    scores: Scores, qrels: sp.csr_array, *, n_random: int = 10_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(cosines of all relevant pairs, cosines of random pairs that are not relevant)."""
    qrels = canonical_qrels(qrels)
    query = np.repeat(np.arange(scores.n_queries), np.diff(qrels.indptr))
    matched = scores.pairs(query, qrels.indices.astype(np.int64))
    return matched, scores.pairs(*_random_pairs(qrels, n_random, seed=seed))


def _random_pairs(qrels: sp.csr_array, n: int = 10_000, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(queries, candidates) of n drawn pairs, those that are relevant left out."""
    if not all(qrels.shape):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    generator = np.random.default_rng(seed)
    queries, candidates = (generator.integers(0, size, n) for size in qrels.shape)
    other = ~relevant(qrels, queries, candidates)
    return queries[other], candidates[other]


def spectrum(*sides: np.ndarray) -> np.ndarray:
    """(D,) shares of the energy of unit rows per direction: eigenvalues of the mean of X^T X / n over the sides, largest
    first, summing to 1. Uncentred, because a direction that all rows share is what makes similarities alike."""
    width = sides[0].shape[1]
    moments = np.zeros((width, width))
    for side in sides:
        for start in range(0, len(side), 4096):
            rows = unit_rows(side[start : start + 4096])[0]
            moments += (rows.T @ rows) / len(side)
    values = np.maximum(np.linalg.eigvalsh(moments)[::-1], 0)
    return values / max(values.sum(), 1e-300)


def effective_rank(shares: np.ndarray) -> float:
    """exp of the entropy of a spectrum: 1 when one direction holds everything, D when all hold the same; NaN without
    energy. Source: Roy & Vetterli 2007, on shares of energy."""
    held = shares[shares > 0]
    return float(np.exp(-(held * np.log(held)).sum())) if len(held) else float("nan")


def count_occurrences(ranking_ids: np.ndarray, n_candidates: int) -> np.ndarray:
    """(C,) in how many of the lists (Q, k) each candidate stands."""
    return np.bincount(np.asarray(ranking_ids).ravel(), minlength=n_candidates)


def hubness(occurrences: np.ndarray) -> float:
    """Skewness of the k-occurrence (C,): 0 when every candidate stands in the same number of lists, large when a few
    stand in most. Source: Radovanovic et al. 2010."""
    spread = occurrences.std() if len(occurrences) else 0.0
    return float((((occurrences - occurrences.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0


def hubs(occurrences: np.ndarray, n_queries: int, *, n: int = 10) -> pd.DataFrame:
    """The n candidates in most lists: columns candidate, count, share (of all queries), most first."""
    worst = np.lexsort((np.arange(len(occurrences)), -occurrences))[:n]
    worst = worst[occurrences[worst] > 0]
    share = occurrences[worst] / max(n_queries, 1)
    return pd.DataFrame({"candidate": worst, "count": occurrences[worst], "share": share})


@dataclass(frozen=True)
class Margins:
    """Per query, (Q,): its best target, its hardest non-target (positions, -1: none), and the difference of their
    similarities, NaN where one is missing; negative where the wrong one wins."""

    target: np.ndarray
    rival: np.ndarray
    margin: np.ndarray


def margins(scores: Scores, qrels: sp.csr_array) -> Margins:
    """Best target against hardest non-target of every query."""
    qrels = canonical_qrels(qrels)
    n_queries, n_candidates = qrels.shape
    counts = np.diff(qrels.indptr)
    query = np.repeat(np.arange(n_queries), counts)
    similarity = scores.pairs(query, qrels.indices.astype(np.int64))
    order = np.lexsort((qrels.indices, -similarity, query))
    answered, place = np.unique(query[order], return_index=True)
    target, best = np.full(n_queries, -1, np.int64), np.full(n_queries, np.nan)
    target[answered], best[answered] = qrels.indices[order][place], similarity[order][place]
    rival, hardest = np.full(n_queries, -1, np.int64), np.full(n_queries, np.nan)
    if n_queries:
        ids = best_candidates(scores, min(int(counts.max()) + 1, n_candidates)).ids
        wrong = ~relevant(qrels, np.arange(n_queries)[:, None], ids)
        having = np.flatnonzero(wrong.any(axis=1))
        rival[having] = ids[having, wrong[having].argmax(axis=1)]
        hardest[having] = scores.pairs(having, rival[having])
    return Margins(target, rival, best - hardest)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _hubness(occurrences: np.ndarray, n_queries: int) -> tuple[np.ndarray, float, float]:
    """(occurrences, their skewness, share of the lists that hold the worst hub)."""
    worst = float(occurrences.max(initial=0) / n_queries) if n_queries else float("nan")
    return occurrences, hubness(occurrences), worst
