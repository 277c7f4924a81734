"""Relevance judgements: from tables of names and scores to a sparse (Q, C) matrix of positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.errors import DataError


@dataclass(frozen=True)
class Qrels:
    """matrix (Q, C) float32, non-zero = relevant, with what could not be placed.

    missing_by_query (Q,): relevant candidates that are named but in no pool; n_relevant (Q,): relevant candidates in
    and out of the pool. unknown_queries: judgements whose query is not among the queries.
    """

    matrix: sp.csr_array
    n_relevant: np.ndarray
    missing_by_query: np.ndarray
    first_missing: str
    unknown_queries: int

    @property
    def missing_targets(self) -> int:
        return int(self.missing_by_query.sum())

    @property
    def unanswerable_queries(self) -> int:
        """Queries without any relevant candidate in the pool: they count as misses."""
        return int((np.diff(self.matrix.indptr) == 0).sum())


def build_qrels(
    query_ids: Sequence[str],
    candidate_ids: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    queries: Sequence[str],
    candidates: Sequence[str],
) -> Qrels:
    """Join judgements (query_ids[i], candidate_ids[i], scores[i] > 0 = relevant; default all 1) to positions.

    queries, candidates: the names in the order of their embeddings, each once (DataError otherwise). Repeated
    judgements count once, with their largest score. One hash lookup a judgement instead of one table scan a query.
    """
    query_index, candidate_index = _index(queries, "query"), _index(candidates, "candidate")
    score = np.ones(len(query_ids), np.float32) if scores is None else np.asarray(scores, np.float32)
    if not len(query_ids) == len(candidate_ids) == len(score):
        raise DataError(
            f"qrels name {len(query_ids)} queries, {len(candidate_ids)} candidates and {len(score)} scores; "
            "expected three columns of one length."
        )
    query = query_index.get_indexer(pd.Index(query_ids, dtype=object))
    candidate = candidate_index.get_indexer(pd.Index(candidate_ids, dtype=object))
    known = (score > 0) & (query >= 0)
    lost = known & (candidate < 0)
    missing = pd.DataFrame({"query": query[lost], "name": np.asarray(candidate_ids, object)[lost]}).drop_duplicates()
    found = np.flatnonzero(known & (candidate >= 0))
    shape = (len(queries), len(candidates))
    place = query[found] * np.int64(shape[1]) + candidate[found]
    order = np.argsort(place, kind="stable")
    place, score_found = place[order], score[found][order]
    first = np.flatnonzero(np.diff(place, prepend=-1))  # repeated judgements stand together
    best = np.maximum.reduceat(score_found, first) if len(first) else np.empty(0, np.float32)
    matrix = sp.csr_array((best, np.divmod(place[first], max(shape[1], 1))), shape=shape)
    missing_by_query = np.bincount(missing["query"], minlength=shape[0])
    return Qrels(
        matrix,
        np.diff(matrix.indptr) + missing_by_query,
        missing_by_query,
        str(missing["name"].iloc[0]) if len(missing) else "",
        int(((score > 0) & (query < 0)).sum()),
    )


def _index(names: Sequence[str], what: str) -> pd.Index:
    index = pd.Index(names, dtype=object)  # pandas' own strings are converted back and forth at every lookup
    if not index.is_unique:
        repeated = index[index.duplicated()][0]
        raise DataError(f"The {what} id {repeated!r} stands twice in its list; expected every id once.")
    return index
