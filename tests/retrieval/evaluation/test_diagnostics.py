"""Diagnostics on planted shapes: gaps, hubs, ranks and margins that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.retrieval.evaluation.diagnostics import (
    count_occurrences,
    diagnose,
    diagnose_hybrid,
    effective_rank,
    hubness,
    hubs,
    margins,
    modality_gap,
    pair_cosines,
    pair_gap,
    spectrum,
)
from analysis.retrieval.interventions import Fusion, Rerank
from analysis.retrieval.ranking.similarities import RowScores
from tests.retrieval.planted import cloud, dense_order, random_qrels, unit


def test_the_gap_of_two_cones():
    first, second = np.tile([[1.0, 0.0]], (5, 1)), np.tile([[0.0, 3.0]], (7, 1))
    assert modality_gap(first, second) == pytest.approx(np.sqrt(2))
    assert modality_gap(first, first) == 0
    assert np.isnan(modality_gap(first, first[:0]))


def test_effective_rank_counts_directions():
    for n in (1, 3, 10):
        rows = np.eye(10)[np.arange(30) % n]
        assert effective_rank(spectrum(rows)) == pytest.approx(n)
    assert np.isnan(effective_rank(spectrum(np.empty((0, 4)))))


def test_the_spectrum_weighs_both_sides_alike():
    few, many = np.eye(4)[[0]], np.eye(4)[np.ones(100, int)]
    assert spectrum(few, many) == pytest.approx([0.5, 0.5, 0, 0])
    rows = cloud(50, 6, 0, dtype=np.float64)
    assert spectrum(rows) == pytest.approx(np.linalg.svd(rows)[1] ** 2 / 50)


def test_one_hub_in_all_lists_is_found():
    lists = np.array([[7, q % 20 + 10] for q in range(40)])
    occurrences = count_occurrences(lists, 50)
    assert occurrences[7] == 40
    assert hubs(occurrences, 40, n=2).to_dict("list") == {"candidate": [7, 10], "count": [40, 2], "share": [1.0, 0.05]}
    assert hubness(occurrences) > 5
    assert hubness(np.full(50, 3)) == 0
    expected = ((occurrences - occurrences.mean()) ** 3).mean() / occurrences.std() ** 3
    assert hubness(occurrences) == pytest.approx(expected)


def test_margins_equal_the_loop():
    queries, candidates = cloud(30, 6, 0), cloud(50, 6, 1)
    qrels = random_qrels(30, 50, 2)
    similarity = queries.astype(np.float64) @ candidates.astype(np.float64).T
    found = margins(RowScores(queries, candidates), qrels)
    for query, row in enumerate(qrels.toarray() > 0):
        rival = int(np.argmax(np.where(row, -np.inf, similarity[query])))
        assert found.rival[query] == rival
        if not row.any():
            assert found.target[query] == -1
            assert np.isnan(found.margin[query])
            continue
        target = int(np.argmax(np.where(row, similarity[query], -np.inf)))
        assert found.target[query] == target
        assert found.margin[query] == pytest.approx(similarity[query, target] - similarity[query, rival], abs=1e-10)


def test_a_pool_of_targets_only_has_no_rival():
    rows = cloud(2, 4, 0)
    found = margins(RowScores(rows, rows), sp.csr_array(np.ones((2, 2))))
    assert found.rival.tolist() == [-1, -1]
    assert np.isnan(found.margin).all()


def test_matched_pairs_are_the_relevant_ones_and_random_pairs_are_not():
    rows = np.eye(30, dtype=np.float32)
    matched, random = pair_cosines(RowScores(rows, rows), sp.csr_array(np.eye(30)))
    assert (matched == 1).all()
    assert len(matched) == 30
    assert (random == 0).all()
    assert len(random) > 9000


def test_diagnose_gathers_them():
    queries, candidates = cloud(40, 8, 0, common=2), cloud(60, 8, 1, common=2)
    qrels = random_qrels(40, 60, 2)
    found = diagnose(queries, candidates, qrels)
    assert found.modality_gap == pytest.approx(modality_gap(queries, candidates))
    assert found.occurrences.sum() == 400
    assert found.worst_hub_share == found.occurrences.max() / 40
    assert found.hubness == pytest.approx(hubness(found.occurrences))
    assert found.effective_rank == pytest.approx(effective_rank(spectrum(queries, candidates)))
    assert found.random_cosine == pytest.approx(
        float((unit(queries.mean(0)[None]) * np.linalg.norm(queries.mean(0)) @ candidates.mean(0)).item()), abs=0.02
    )
    nothing = diagnose(queries[:0], candidates, sp.csr_array((0, 60)))
    assert np.isnan([nothing.matched_cosine, nothing.random_cosine, nothing.margin, nothing.worst_hub_share]).all()


@pytest.fixture(scope="module")
def two_models():
    """Two models of one task; many targets, so that margins exist, and a query without any."""
    qrels = random_qrels(70, 130, 4)
    return (cloud(70, 8, 0, common=1), cloud(130, 8, 1)), (cloud(70, 12, 2, common=1), cloud(130, 12, 3)), qrels


def test_hubs_of_two_stages_are_those_of_the_reordered_lists(two_models):
    first, second, qrels = two_models
    found = diagnose_hybrid(RowScores(*first), RowScores(*second), Rerank(15), qrels)
    (order, _), (_, similarity) = dense_order(*first), dense_order(*second)
    lists = np.array([sorted(order[q][:15], key=lambda c, q=q: (-similarity[q, c], c)) for q in range(70)])[:, :10]
    assert np.array_equal(found.occurrences, np.bincount(lists.ravel(), minlength=130))
    assert found.worst_hub_share == found.occurrences.max() / 70
    alone = diagnose(*second, qrels)
    assert not np.array_equal(found.occurrences, alone.occurrences)
    undefined = (found.margin, found.margin_in_spreads, found.modality_gap, found.effective_rank, found.matched_cosine)
    assert np.isnan(undefined).all()
    assert found.spectrum.size == 0


def test_hubs_and_margin_of_a_fusion_are_those_of_the_fused_rows(two_models):
    first, second, qrels = two_models
    found = diagnose_hybrid(RowScores(*first), RowScores(*second), Fusion(0.3), qrels)
    left, right = (dense_order(*side)[1] for side in (first, second))
    left, right = ((side - side.mean(1, keepdims=True)) / side.std(1, keepdims=True) for side in (left, right))
    fused, relevant = 0.3 * right + 0.7 * left, qrels.toarray() > 0
    lists = np.argsort(-fused, axis=1, kind="stable")[:, :10]
    assert np.array_equal(found.occurrences, np.bincount(lists.ravel(), minlength=130))
    answered = relevant.any(axis=1)
    margin = np.where(relevant, fused, -np.inf).max(1)[answered] - np.where(relevant, -np.inf, fused).max(1)[answered]
    assert 0 < answered.sum() < 70
    assert found.margin == pytest.approx(np.median(margin))
    assert found.margin_in_spreads == pytest.approx(np.median(margin) / fused[~relevant].std(), rel=0.03)
    assert np.isnan(found.random_cosine)


def test_a_hybrid_of_no_queries_has_nothing_to_measure(two_models):
    first, second, _ = two_models
    none = [RowScores(queries[:0], candidates) for queries, candidates in (first, second)]
    for hybrid in (Rerank(5), Fusion(0.5)):
        found = diagnose_hybrid(*none, hybrid, sp.csr_array((0, 130)))
        assert np.isnan([found.worst_hub_share, found.margin]).all()
        assert found.occurrences.sum() == 0


def test_units_of_the_spread_do_not_change_with_the_scale_of_the_cosines():
    queries, candidates, qrels = cloud(60, 8, 0), cloud(90, 8, 1), random_qrels(60, 90, 2)
    crowded = [unit(np.hstack([rows, np.full((len(rows), 1), 3.0)])) for rows in (queries, candidates)]
    far, near = diagnose(queries, candidates, qrels), diagnose(*crowded, qrels)
    assert abs(near.margin) < 0.2 * abs(far.margin)
    assert near.margin_in_spreads == pytest.approx(far.margin_in_spreads, rel=1e-3)
    assert near.distance_in_spreads == pytest.approx(far.distance_in_spreads, rel=1e-3)


def test_the_gap_of_pairs_and_what_it_would_be_without_one():
    shared, shift = cloud(400, 8, seed=1), np.eye(8)[0] * 3
    together = pair_gap(shared, shared + 0.01 * cloud(400, 8, seed=2))
    assert together.gap < together.within  # two halves of pictures are further apart than pictures and captions
    assert together.matched.value > 0.99
    assert together.distance > 1
    apart = pair_gap(shared, shared + shift)
    assert apart.gap > 0.5 > apart.within
    assert apart.gap == pytest.approx(np.linalg.norm(unit(shared).mean(0) - unit(shared + shift).mean(0)), rel=1e-5)
    strangers = pair_gap(shared, cloud(400, 8, seed=3))
    assert strangers.matched.low < strangers.unmatched < strangers.matched.high
    assert abs(strangers.distance) < 0.2
    assert np.isnan(pair_gap(shared[:1], shared[:1]).gap)
