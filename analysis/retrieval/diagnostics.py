"""Why retrieval works or fails: the shape of the embeddings, the hubs among the candidates, the margin of the targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.ranks import TargetRanks, canonical_qrels, relevant
from analysis.retrieval.rows import unit_rows
from analysis.retrieval.scoring import RowScores, Scores
from analysis.retrieval.search import best_candidates

HUB_DEPTH = 10  # a candidate occurs when it is among the first ten of a query


@dataclass(frozen=True)
class Diagnostics:
    """One row of the diagnostics table.

    modality_gap: distance of the mean query from the mean candidate (per modality where the sides are two modalities).
    matched_cosine, random_cosine: mean cosine of query and target, and of random query-candidate pairs. effective_rank:
    of queries and candidates together. hubness: skewness of how often a candidate is among the first ten (0: evenly).
    worst_hub_share: share of queries that have the worst hub among their first ten. margin: median over queries of best
    target minus hardest non-target (negative: the wrong one wins).
    """

    modality_gap: float
    matched_cosine: float
    random_cosine: float
    effective_rank: float
    hubness: float
    worst_hub_share: float
    margin: float


def diagnose(
    queries: np.ndarray, candidates: np.ndarray, qrels: sp.csr_array, *, seed: int = 0, device: str = "cpu"
) -> Diagnostics:
    """Diagnostics of unit rows (Q, D), (C, D), e.g. of a fitted intervention; NaN where there is nothing to measure."""
    scores = RowScores(queries, candidates, device=device)
    matched, random = pair_cosines(scores, qrels, seed=seed)
    ranking = best_candidates(scores, HUB_DEPTH)
    found = hubs(ranking.ids, scores.n_candidates, n=1)
    return Diagnostics(
        modality_gap(queries, candidates),
        float(matched.mean()) if len(matched) else float("nan"),
        float(random.mean()) if len(random) else float("nan"),
        effective_rank(np.concatenate([queries, candidates])),
        hubness(ranking.ids, scores.n_candidates),
        float(found["share"].iloc[0]) if len(found) else float("nan"),
        float(np.nanmedian(margins(scores, qrels).margin)) if qrels.nnz else float("nan"),
    )


def modality_gap(first: np.ndarray, second: np.ndarray) -> float:
    """|mean(first) - mean(second)| of unit rows (n, D), (m, D): 0 to 2; NaN when one is empty."""
    if not len(first) or not len(second):
        return float("nan")
    means = (unit_rows(rows)[0].mean(axis=0, dtype=np.float64) for rows in (first, second))
    return float(np.linalg.norm(np.subtract(*means)))


def pair_cosines(
    scores: Scores, qrels: sp.csr_array, *, n_random: int = 10_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(cosines of all relevant pairs, cosines of random pairs that are not relevant)."""
    qrels = canonical_qrels(qrels)
    query = np.repeat(np.arange(scores.n_queries), np.diff(qrels.indptr))
    matched = scores.pairs(query, qrels.indices.astype(np.int64))
    if not scores.n_queries:
        return matched, np.empty(0)
    generator = np.random.default_rng(seed)
    q = generator.integers(0, scores.n_queries, n_random)
    c = generator.integers(0, scores.n_candidates, n_random)
    other = ~relevant(qrels, q, c)
    return matched, scores.pairs(q[other], c[other])


def effective_rank(x: np.ndarray, *, centred: bool = False) -> float:
    """exp of the entropy of the singular values of the rows (N, D), scaled to sum 1: between 1 and min(N, D).

    Rows are brought to length 1; uncentred by default, because a direction that all rows share is what makes similarities
    alike. Source: Roy & Vetterli 2007. NaN without rows.
    """
    if not len(x):
        return float("nan")
    rows = unit_rows(x, dtype=np.float64 if x.size <= 1 << 25 else np.float32)[0]
    if centred:
        rows = rows - rows.mean(axis=0)
    gram = rows.T @ rows if rows.shape[1] <= rows.shape[0] else rows @ rows.T
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram.astype(np.float64)), 0))
    singular = singular[singular > 1e-7 * singular[-1]]  # the rest is rounding
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def hubness(ranking_ids: np.ndarray, n_candidates: int) -> float:
    """Skewness of the k-occurrence: how often each candidate stands in the lists (Q, k). Source: Radovanovic et al.
    2010. 0 when all occur equally often, NaN without queries."""
    count = np.bincount(np.asarray(ranking_ids).ravel(), minlength=n_candidates).astype(np.float64)
    if not len(ranking_ids):
        return float("nan")
    spread = count.std()
    return float((((count - count.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0


def hubs(ranking_ids: np.ndarray, n_candidates: int, *, n: int = 10) -> pd.DataFrame:
    """The n candidates in most lists (Q, k): columns candidate, count, share (of all queries), most first."""
    count = np.bincount(np.asarray(ranking_ids).ravel(), minlength=n_candidates)
    worst = np.lexsort((np.arange(n_candidates), -count))[:n]
    worst = worst[count[worst] > 0]
    share = count[worst] / max(len(ranking_ids), 1)
    return pd.DataFrame({"candidate": worst, "count": count[worst], "share": share})


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


def near_misses(ranks: TargetRanks, k: int) -> np.ndarray:
    """Queries whose best target stands just behind the first k: k < rank <= 3 k, closest first."""
    if k < 1:
        raise RetrievalError(f"Near misses were asked for k = {k}; expected k >= 1.")
    best = ranks.best
    chosen = np.flatnonzero((best > k) & (best <= 3 * k))
    return chosen[np.argsort(best[chosen], kind="stable")]
