"""Two models together, against literal re-ranking and literal sums."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.ranking import two_models as module
from analysis.retrieval.ranking.ranks import ranks_of, target_ranks
from analysis.retrieval.ranking.similarities import RowScores
from analysis.retrieval.ranking.two_models import (
    best_of_rows,
    fuse,
    fused_ranks,
    fused_rows,
    rerank,
    two_stage_lists,
    two_stage_ranks,
)
from analysis.retrieval.search import best_candidates
from tests.retrieval.planted import cloud, dense_order, random_qrels


@pytest.fixture(scope="module")
def rows():
    first, second = (cloud(25, 8, 0), cloud(90, 8, 1)), (cloud(25, 12, 2), cloud(90, 12, 3))
    second[1][40:50] = second[1][3]
    return first, second


@pytest.fixture(scope="module")
def scores(rows):
    return tuple(RowScores(*side) for side in rows)


QRELS = random_qrels(25, 90, 4)


def literal_two_stage(rows, n: int) -> np.ndarray:
    (first, _), (_, similarity) = (dense_order(*side) for side in rows)
    order = []
    for query, listed in enumerate(first):
        head = sorted(listed[:n], key=lambda c: (-similarity[query, c], c))
        order.append(head + list(listed[n:]))
    return np.array(order)


@pytest.mark.parametrize("n", [1, 2, 10, 89])
def test_two_stages_equal_reordering_each_list(rows, scores, n):
    order = literal_two_stage(rows, n)
    found = two_stage_ranks(*scores, QRELS, [n])[0]
    expected = [1 + order[q].tolist().index(c) for q, c in zip(found.query, found.candidate, strict=True)]
    assert found.rank.tolist() == expected


def test_several_n_at_once_equal_one_after_the_other(scores):
    ns = [30, 1, 90, 5, 500]
    together = two_stage_ranks(*scores, QRELS, ns)
    for n, found in zip(ns, together, strict=True):
        assert np.array_equal(found.rank, two_stage_ranks(*scores, QRELS, [n])[0].rank)


def test_all_candidates_passed_on_is_the_second_model_and_one_is_the_first(scores):
    everything, one = two_stage_ranks(*scores, QRELS, [90, 1])
    assert np.array_equal(everything.rank, target_ranks(scores[1], QRELS).rank)
    assert np.array_equal(one.rank, target_ranks(scores[0], QRELS).rank)


def test_reranking_keeps_the_ids_and_orders_them(rows, scores):
    lists = best_candidates(scores[0], 20).ids
    found = rerank(scores[1], lists[[4, 11]], np.array([4, 11]))
    _, similarity = dense_order(*rows[1])
    for query, listed, ordered in zip((4, 11), lists[[4, 11]], found.ids, strict=True):
        assert ordered.tolist() == sorted(listed, key=lambda c: (-similarity[query, c], c))


@pytest.mark.parametrize("exact", [True, False])
def test_fusion_equals_the_sum_of_z_scores(rows, scores, exact, monkeypatch):
    if not exact:
        monkeypatch.setattr(module, "_EXACT_PAIRS", 0)
    left, right = (side[0].astype(np.float64) @ side[1].astype(np.float64).T for side in rows)
    left, right = ((side - side.mean(1, keepdims=True)) / side.std(1, keepdims=True) for side in (left, right))
    for weight, found in zip((0.2, 0.7), fused_ranks(*scores, QRELS, [0.2, 0.7]), strict=True):
        expected = weight * right + (1 - weight) * left
        assert np.allclose(fused_rows(*scores, np.arange(25), weight), expected, atol=1e-9 if exact else 1e-5)
        if not exact:
            continue
        assert np.array_equal(found.rank, ranks_of(fused_rows(*scores, np.arange(25), weight), QRELS).rank)


def test_all_the_weight_on_one_model_is_that_model(scores):
    first, second = fused_ranks(*scores, QRELS, [0.0, 1.0])
    assert np.array_equal(first.rank, target_ranks(scores[0], QRELS).rank)
    assert np.array_equal(second.rank, target_ranks(scores[1], QRELS).rank)


def test_constant_rows_say_nothing():
    assert np.allclose(fuse(np.ones((1, 3)), np.array([[1.0, 2, 3]]), 0.5), 0.5 * fuse(
        np.ones((1, 3)), np.array([[1.0, 2, 3]]), 1.0))  # fmt: skip


def test_what_does_not_fit_is_refused(scores):
    with pytest.raises(RetrievalError, match="same task"):
        two_stage_ranks(scores[0], RowScores(cloud(25, 4, 0), cloud(80, 4, 1)), QRELS, [3])
    with pytest.raises(RetrievalError, match="n >= 1"):
        two_stage_ranks(*scores, QRELS, [0])
    with pytest.raises(RetrievalError, match="weight of the second model"):
        fuse(np.ones((1, 2)), np.ones((1, 2)), 1.5)


@pytest.mark.parametrize(("n", "k"), [(1, 10), (20, 10), (89, 10), (500, 10), (5, 500)])
def test_all_lists_at_once_equal_reordering_each_list(rows, scores, n, k):
    found = two_stage_lists(*scores, n, k)
    assert np.array_equal(found, literal_two_stage(rows, n)[:, :k])


@pytest.mark.parametrize("k", [1, 4, 9, 50])
def test_the_best_of_rows_are_the_first_of_a_stable_sort(k):
    rows = np.random.default_rng(0).integers(0, 5, (40, 9)).astype(float)
    rows[3] = 2
    assert np.array_equal(best_of_rows(rows, k), np.argsort(-rows, axis=1, kind="stable")[:, :k])
