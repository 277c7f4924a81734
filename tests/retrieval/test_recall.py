"""Recall@k: definitions, misses, and agreement of lists, ranks and the plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.ranks import target_ranks
from analysis.retrieval.ranking.similarities import RowScores
from analysis.retrieval.recall import hits_of_lists, hits_of_ranks, recall_at_k, unanswerable
from analysis.retrieval.search import search
from tests.retrieval.planted import cloud, random_qrels


def plain_recall(ids: np.ndarray, qrels: sp.csr_array, k: int, definition: str) -> float:
    total = 0.0
    for query, row in enumerate(qrels.toarray()):
        targets = set(np.flatnonzero(row))
        found = targets & set(ids[query, :k])
        total += bool(found) if definition == "hit" else len(found) / max(len(targets), 1)
    return total / len(ids)


@pytest.mark.parametrize("definition", ["hit", "fraction"])
def test_recall_equals_the_loop_from_lists_and_from_ranks(definition):
    queries, candidates = cloud(80, 6, 0), cloud(120, 6, 1)
    qrels, ks = random_qrels(80, 120, 2), (1, 3, 10, 40)
    ids = search(queries, candidates, 40).ids
    expected = [plain_recall(ids, qrels, k, definition) for k in ks]
    assert recall_at_k(ids, qrels, ks, definition=definition) == pytest.approx(dict(zip(ks, expected, strict=True)))
    ranks = target_ranks(RowScores(queries, candidates), qrels)
    assert np.array_equal(
        hits_of_ranks(ranks, ks, definition=definition), hits_of_lists(ids, qrels, ks, definition=definition)
    )


@pytest.mark.parametrize("definition", ["hit", "fraction"])
def test_recall_grows_with_k_and_ends_at_one_for_answerable_queries(definition):
    queries, candidates = cloud(50, 5, 3), cloud(60, 5, 4)
    qrels = random_qrels(50, 60, 5)
    values = list(recall_at_k(search(queries, candidates, 60).ids, qrels, range(1, 61), definition=definition).values())
    assert all(np.diff(values) >= 0)
    assert values[-1] == pytest.approx(1 - unanswerable(qrels) / 50)


def test_a_query_without_targets_is_a_miss_and_is_counted():
    qrels = sp.csr_array(np.array([[1, 0], [0, 0]]))
    ids = np.array([[0, 1], [0, 1]])
    assert recall_at_k(ids, qrels, (1, 2)) == {1: 0.5, 2: 0.5}
    assert unanswerable(qrels) == 1


def test_fraction_counts_targets_that_are_in_no_pool():
    qrels = sp.csr_array(np.array([[1, 1, 0]]))
    hits = hits_of_lists(np.array([[0, 2, 1]]), qrels, (1, 3), definition="fraction", n_relevant=np.array([4]))
    assert hits.tolist() == [[0.25, 0.5]]


def test_no_queries_give_nan():
    assert np.isnan(recall_at_k(np.empty((0, 5), int), sp.csr_array((0, 9)), (1, 5))[1])


@pytest.mark.parametrize(
    ("ids", "ks", "definition", "message"),
    [
        (np.zeros((2, 3), int), (5,), "hit", "at least 5 entries"),
        (np.zeros((3, 5), int), (1,), "hit", "one list a query"),
        (np.zeros((2, 5), int), (1,), "ndcg", "definition 'ndcg' is unknown"),
        (np.zeros((2, 5), int), (0, 1), "hit", "k >= 1"),
        (np.zeros((2, 5), int), (), "hit", "one or more cut-offs"),
    ],
)
def test_wrong_requests_are_refused(ids, ks, definition, message):
    with pytest.raises(RetrievalError, match=message):
        recall_at_k(ids, sp.csr_array((2, 9)), ks, definition=definition)


def test_a_list_of_the_whole_pool_is_long_enough_for_any_k():
    assert recall_at_k(np.array([[1, 0]]), sp.csr_array(np.array([[1, 0]])), (1, 50)) == {1: 0.0, 50: 1.0}
