"""Recall@k from ranked lists or from target ranks, per query and over all queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.ranks import TargetRanks, canonical_qrels, relevant

DEFINITIONS = ("hit", "fraction")


def recall_at_k(
    ranking_ids: np.ndarray, qrels: sp.csr_array, ks: Sequence[int] = (1, 5, 10), *, definition: str = "hit"
) -> dict[int, float]:
    """Mean over all queries of `hits_of_lists`: {k: share in [0, 1]}; NaN when there are no queries.

    A query whose targets are all missing from the pool counts as a miss; `unanswerable` counts those. Source:
    definition "hit" as in the paper, UniIR and CLIP; "fraction" as in mteb.
    """
    hits = hits_of_lists(ranking_ids, qrels, ks, definition=definition)
    return dict(zip(ks, mean_recall(hits), strict=True))


def mean_recall(hits: np.ndarray) -> list[float]:
    """Column means of per-query hits (Q, len(ks)); NaN without queries."""
    return [float(value) for value in (hits.mean(axis=0) if len(hits) else np.full(hits.shape[1], np.nan))]


def hits_of_lists(
    ranking_ids: np.ndarray,
    qrels: sp.csr_array,
    ks: Sequence[int],
    *,
    definition: str = "hit",
    n_relevant: np.ndarray | None = None,
) -> np.ndarray:
    """(Q, len(ks)) float64 per-query recall from lists of candidate positions (Q, width), best first.

    "hit": 1 when any relevant candidate is among the first k. "fraction": share of the query's relevant candidates
    among the first k; n_relevant (Q,) counts them where some are missing from the pool (default: those in qrels).
    RetrievalError when a list is shorter than k although the pool is not, or shapes disagree.
    """
    qrels = canonical_qrels(qrels)
    n_queries, n_candidates = qrels.shape
    ranking_ids = np.asarray(ranking_ids)
    if ranking_ids.ndim != 2 or len(ranking_ids) != n_queries:
        raise RetrievalError(f"Lists have shape {ranking_ids.shape}, qrels {qrels.shape}; expected one list a query.")
    _check(ks, definition)
    width = ranking_ids.shape[1]
    if max(ks) > width < n_candidates:
        raise RetrievalError(f"Lists are {width} long; expected at least {max(ks)} entries for recall@{max(ks)}.")
    found = relevant(qrels, np.arange(n_queries)[:, None], ranking_ids)
    counts = np.stack([found[:, :k].sum(axis=1) for k in ks], axis=1)
    return _per_query(counts, np.diff(qrels.indptr), definition, n_relevant)


def hits_of_ranks(
    ranks: TargetRanks, ks: Sequence[int], *, definition: str = "hit", n_relevant: np.ndarray | None = None
) -> np.ndarray:
    """As `hits_of_lists`, from the ranks of the targets."""
    _check(ks, definition)
    counts = np.stack([np.bincount(ranks.query[ranks.rank <= k], minlength=ranks.n_queries) for k in ks], axis=1)
    return _per_query(counts, np.bincount(ranks.query, minlength=ranks.n_queries), definition, n_relevant)


def unanswerable(qrels: sp.csr_array) -> int:
    """How many queries have no relevant candidate in the pool: certain misses, to be stated beside every recall."""
    return int((np.diff(canonical_qrels(qrels).indptr) == 0).sum())


def _per_query(counts: np.ndarray, in_pool: np.ndarray, definition: str, n_relevant: np.ndarray | None) -> np.ndarray:
    if definition == "hit":
        return (counts > 0).astype(np.float64)
    total = in_pool if n_relevant is None else np.asarray(n_relevant)
    return counts / np.maximum(total, 1)[:, None]


def _check(ks: Sequence[int], definition: str) -> None:
    if definition not in DEFINITIONS:
        raise RetrievalError(f"Recall definition {definition!r} is unknown; expected one of {', '.join(DEFINITIONS)}.")
    if not len(ks) or min(ks) < 1:
        raise RetrievalError(f"Recall was asked for k = {list(ks)}; expected one or more cut-offs k >= 1.")
