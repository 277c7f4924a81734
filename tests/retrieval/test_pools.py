"""The global pool holds every candidate of the store once, and changes nothing but what stands in the targets' way."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.interventions import BASE
from analysis.retrieval.task import queries_in_pool, space_from_store, task_in_pool
from analysis.store import open_store
from tests.synthetic_store import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(make_store(tmp_path_factory.mktemp("cache")))


def test_the_local_pool_is_the_task_as_stored(store):
    facts, stored = task_in_pool(store, "i2t", "local"), store.task("i2t")
    assert np.array_equal(facts.candidate_rows, stored.candidate_rows)
    assert (facts.qrels != stored.qrels).nnz == 0


def test_the_global_pool_holds_each_candidate_of_all_tasks_once_the_own_ones_first(store):
    facts = task_in_pool(store, "i2t", "global")
    own = store.task("i2t").candidate_rows
    assert np.array_equal(facts.candidate_rows[: len(own)], own)
    everything = {int(row) for task in store.tasks for row in store.task(task).candidate_rows}
    assert sorted(facts.candidate_rows.tolist()) == sorted(everything)
    assert facts.qrels.shape == (len(facts.query_rows), len(everything))
    relevant = facts.candidate_rows[facts.qrels.indices]
    stored = store.task("i2t")
    assert np.array_equal(relevant, stored.candidate_rows[stored.qrels.indices])
    assert queries_in_pool(facts) == len(facts.query_rows)  # pictures, which t2i retrieves
    assert queries_in_pool(stored) == 0


def test_recall_in_the_global_pool_is_that_of_a_dense_search(store):
    space = space_from_store(store, "i2t", "global")
    facts = task_in_pool(store, "i2t", "global")
    h = store.embeddings("mean").astype(np.float64)
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    order = np.argsort(-np.round(h[facts.query_rows] @ h[facts.candidate_rows].T, 12), axis=1, kind="stable")
    found = evaluate(space, [BASE], ks=(1, 5), n_boot=10).set_index("k")["recall"]
    for k in (1, 5):
        hits = [bool(set(order[q, :k]) & set(facts.qrels[[q]].indices)) for q in range(len(order))]
        assert found[k] == pytest.approx(np.mean(hits))
    local = evaluate(space_from_store(store, "i2t"), [BASE], ks=(1,), n_boot=10)["recall"].iloc[0]
    assert found[1] == 0 < local  # every picture finds itself first


def test_another_pool_is_refused_with_what_there_is(store):
    with pytest.raises(RetrievalError, match="did you mean 'global'"):
        task_in_pool(store, "i2t", "globl")
