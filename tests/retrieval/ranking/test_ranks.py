"""Ranks by counting: equal to sorting, ties by position, and independent of the way they were counted."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.ranking import ranks as module
from analysis.retrieval.ranking.ranks import NO_RANK, canonical_qrels, ranks_of, relevant, target_ranks
from analysis.retrieval.ranking.similarities import RowScores
from analysis.retrieval.search import search
from tests.retrieval.planted import cloud, dense_order, dense_ranks, random_qrels


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("common", [0.0, 4.0])
def test_ranks_equal_sorting(common, compiled, monkeypatch):
    if compiled:
        monkeypatch.setattr(module, "LARGE", 0)
    queries, candidates = cloud(30, 12, 0, common=common), cloud(1500, 12, 1, common=common)
    candidates[700:1100] = candidates[3]  # more equal rivals than are settled pair by pair
    candidates[[5, 1400]] = candidates[11]
    qrels = random_qrels(30, 1500, 2)
    order, _ = dense_order(queries, candidates)
    found = target_ranks(RowScores(queries, candidates), qrels, exact_to=1500)
    assert found.rank.tolist() == dense_ranks(order, qrels)


def test_ranks_in_given_similarities_count_ties_by_position():
    similarity = np.array([[0.5, 0.5, 0.9, 0.5], [1.0, 1.0, 1.0, 1.0]])
    qrels = sp.csr_array(np.array([[1, 1, 0, 1], [0, 0, 0, 1]]))
    found = ranks_of(similarity, qrels)
    assert found.rank.tolist() == [2, 3, 4, 4]
    assert found.best.tolist() == [2, 4]


def test_ranks_agree_with_lists():
    queries, candidates = cloud(40, 10, 0), cloud(300, 10, 1)
    qrels = random_qrels(40, 300, 2)
    found = target_ranks(RowScores(queries, candidates), qrels)
    ids = search(queries, candidates, 300).ids
    assert np.array_equal(ids[found.query, found.rank - 1], found.candidate)


def test_blocks_of_similarities_give_the_ranks_of_the_whole():
    similarity = np.random.default_rng(0).random((11, 50)).round(1)
    qrels = random_qrels(11, 50, 1)
    whole = ranks_of(similarity, qrels)
    blocks = ranks_of(iter([similarity[:4], similarity[4:5], similarity[5:]]), qrels)
    assert np.array_equal(whole.rank, blocks.rank)


def test_a_query_without_target_has_no_rank_and_a_losing_one_stands_last():
    queries, candidates = cloud(3, 4, 0), cloud(10, 4, 1)
    qrels = sp.csr_array(([1.0, 1.0], ([0, 2], [4, 5])), shape=(3, 10))
    found = target_ranks(RowScores(queries, candidates), qrels)
    assert found.best[1] == NO_RANK
    lost = found.losing(np.array([True, False, False]))
    assert lost.best[0] == 11
    assert lost.best[2] == found.best[2]


def test_explicit_zeros_and_repetitions_in_qrels_change_nothing():
    raw = sp.coo_array(([1.0, 0.0, 1.0, 1.0], ([0, 0, 1, 1], [2, 1, 0, 0])), shape=(2, 3))
    clean = canonical_qrels(sp.csr_array(raw))
    assert clean.indices.tolist() == [2, 0]
    assert relevant(clean, np.array([0, 0, 1]), np.array([2, 1, 0])).tolist() == [True, False, True]
    assert not relevant(sp.csr_array((2, 3)), np.array([0]), np.array([1])).any()


def test_beyond_the_exact_ranks_only_close_rivals_are_uncertain():
    queries, candidates = cloud(20, 16, 0, common=6), cloud(2000, 16, 1, common=6)
    qrels = random_qrels(20, 2000, 2)
    exact = target_ranks(RowScores(queries, candidates), qrels, exact_to=2000).rank
    rough = target_ranks(RowScores(queries, candidates), qrels, exact_to=5).rank
    assert np.array_equal(exact[exact <= 5], rough[exact <= 5])
    assert np.abs(exact - rough).max() <= 3


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        (np.zeros((2, 4)), "do not fit qrels"),
        (np.zeros((4, 3)), "do not fit qrels"),
        (np.full((3, 3), np.nan), "hold NaN"),
        ([np.zeros((1, 3))], "have 1 rows"),
    ],
)
def test_similarities_that_do_not_fit_are_refused(similarity, message):
    with pytest.raises(RetrievalError, match=message):
        ranks_of(similarity, sp.csr_array((3, 3)))
    with pytest.raises(RetrievalError, match="qrels have shape"):
        target_ranks(RowScores(cloud(2, 4, 0), cloud(5, 4, 1)), sp.csr_array((2, 4)))


def test_the_similarities_of_single_pairs_are_the_same_compiled(monkeypatch):
    queries, candidates = cloud(50, 70, 0), cloud(90, 70, 1)
    rng = np.random.default_rng(2)
    pairs = rng.integers(0, 50, 300), rng.integers(0, 90, 300)
    expected = np.einsum("ij,ij->i", queries[pairs[0]].astype(float), candidates[pairs[1]].astype(float))
    for large in (0, 10**9):
        monkeypatch.setattr(
            "analysis.retrieval.ranking.similarities.worth_compiling", lambda n, _, large=large: n > large
        )
        assert RowScores(queries, candidates).rough(*pairs) == pytest.approx(expected, abs=2e-7)
    in_blocks = RowScores(queries, [candidates[:40], candidates[40:]])
    assert in_blocks.rough(*pairs) == pytest.approx(expected, abs=2e-7)
