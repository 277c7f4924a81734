"""Which candidates a task is searched in: its own, or those of all tasks of the store together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from analysis.retrieval.interventions.steps import one_of

POOLS = ("local", "global")  # as M-BEIR calls them


def task_in_pool(store: Any, task: str, pool: str = "local") -> Any:
    """A task of an open store (analysis.store.read.Task) with its candidates from a pool.

    "local": the task's own candidates, as stored. "global": those, in their order, and behind them every candidate of the
    store's other tasks that is not among them; it holds all modalities that the store retrieves. Relevance is unchanged:
    whatever joins the pool is a wrong answer. RetrievalError for another pool.
    """
    one_of("pool", pool, POOLS)
    facts = store.task(task)
    if pool == "local":
        return facts
    own = np.asarray(facts.candidate_rows)
    others = np.concatenate([np.asarray(store.task(other).candidate_rows) for other in store.tasks])
    values, first = np.unique(others, return_index=True)
    joining = values[np.argsort(first)]
    rows = np.concatenate([own, joining[~np.isin(joining, own)]]).astype(own.dtype)
    qrels = sp.csr_array(
        (facts.qrels.data, facts.qrels.indices, facts.qrels.indptr), shape=(len(facts.query_rows), len(rows))
    )
    return replace(facts, candidate_rows=rows, qrels=qrels)


def queries_in_pool(facts: Any) -> int:
    """How many queries of a task are candidates themselves: each is then the most similar to itself."""
    return int(np.isin(facts.query_rows, facts.candidate_rows).sum())
