"""The slider engine: the same ranks and lists as computing everything again, also where float32 cannot decide."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.ranking import low_rank, ranks
from analysis.retrieval.ranking.engine import LabEngine
from analysis.retrieval.ranking.ranks import target_ranks
from analysis.retrieval.ranking.transforms import Means
from analysis.retrieval.recall import hits_of_ranks
from analysis.retrieval.search import best_candidates
from tests.retrieval.planted import cloud, dense_order, dense_ranks, random_qrels, unit


def left(x: np.ndarray, basis: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return unit(x - x @ basis.T @ basis)


def basis_of(width: int, rank: int, *, shared: bool) -> np.ndarray:
    """Random directions; with `shared` the first is the one that all rows have in common."""
    vectors = np.random.default_rng(9).standard_normal((width, rank))
    if shared:
        vectors[:, 0] = 1
    return np.linalg.qr(vectors)[0].T


@pytest.fixture(params=[0.0, 2.0, 30.0])
def common(request):
    """Of the shared direction: at 30 it carries 99.9 % of every row."""
    return request.param


@pytest.fixture(params=[False, True], ids=["plain", "compiled"])
def crowd(request, common, monkeypatch):
    """(queries, candidates, qrels) with duplicates among the candidates, counted by either loop."""
    if request.param:
        monkeypatch.setattr(ranks, "LARGE", 0)
    queries, candidates = cloud(40, 48, 0, common=common), cloud(800, 48, 1, common=common)
    candidates[100:160] = candidates[7]
    return queries, candidates, random_qrels(40, 800, 2)


def test_ranks_and_lists_equal_a_full_recomputation(crowd, common):
    """common = 30: the removed direction carries 99.9 % of every row, and duplicates stand among the candidates."""
    queries, candidates, qrels = crowd
    basis = basis_of(48, 12, shared=common > 0)
    engine = LabEngine(queries, candidates, qrels)
    projection = engine.projection(basis)
    for r in (0, 1, 5, 12):
        order, similarity = dense_order(left(queries, basis[:r]), left(candidates, basis[:r]))
        found = engine.ranks(projection, r, exact_to=800)
        assert found.rank.tolist() == dense_ranks(order, qrels)
        ranking = engine.ranking([3, 17], 60, projection, r)
        assert np.array_equal(ranking.ids, order[[3, 17], :60])
        expected = np.take_along_axis(similarity[[3, 17]], ranking.ids, 1)
        assert np.allclose(ranking.scores, expected, atol=2e-3 if common == 30 else 1e-5)


def test_centring_as_an_update_equals_centred_rows(crowd):
    """Two groups of candidates with a mean each; duplicates, a query that is its mean, a row without a direction."""
    queries, candidates, qrels = crowd
    candidates[300] = 0
    kind = np.arange(800) % 3 // 2
    kind[100:160] = kind[7]
    means = np.stack([candidates[kind == n].mean(axis=0, dtype=np.float64) for n in (0, 1)])
    void = np.arange(800) == 300
    of_queries = Means(queries[5:6].astype(np.float64), np.zeros(40, np.int64))
    found = LabEngine(queries, candidates, qrels).centred(of_queries, Means(means, kind).sparing(void))
    moved = [queries - of_queries.means[0], candidates - means[kind]]
    moved[1][300] = 0
    lengths = [np.linalg.norm(side, axis=1, keepdims=True) for side in moved]
    rows = [side / np.where(length > 0, length, 1) for side, length in zip(moved, lengths, strict=True)]
    order, similarity = dense_order(*rows)
    assert target_ranks(found, qrels, exact_to=800).rank.tolist() == dense_ranks(order, qrels)
    assert found.void_queries.tolist() == [row == 5 for row in range(40)]
    pairs = np.arange(40), np.arange(290, 330)
    assert np.allclose(found.pairs(*pairs), similarity[pairs], atol=1e-9)
    assert np.allclose(found.rough(*pairs)[pairs[0] != 5], similarity[pairs][pairs[0] != 5], atol=1e-4)
    assert np.allclose(found.block(np.array([3, 5]), 0, 800), similarity[[3, 5]], atol=1e-9)
    assert np.array_equal(best_candidates(found, 60, np.array([3, 17])).ids, order[[3, 17], :60])


def test_float64_rows_are_settled_in_float64():
    queries, candidates = cloud(10, 16, 0, dtype=np.float64), cloud(60, 16, 1, dtype=np.float64)
    candidates[30] = candidates[2] + 1e-9 * candidates[5]  # equal in float32
    candidates = unit(candidates)
    basis = basis_of(16, 3, shared=False)
    engine = LabEngine(queries, candidates, random_qrels(10, 60, 2))
    order, _ = dense_order(left(queries, basis), left(candidates, basis))
    assert np.array_equal(engine.ranking(np.arange(10), 60, engine.projection(basis)).ids, order)


def test_several_r_at_once_equal_one_after_the_other():
    queries, candidates = cloud(30, 32, 0, common=2), cloud(300, 32, 1, common=2)
    engine = LabEngine(queries, candidates, random_qrels(30, 300, 2))
    projection = engine.projection(basis_of(32, 10, shared=True))
    rs = [7, 0, 3, 3, None, 50]
    together = engine.rank_curve(projection, rs)
    for r, found in zip(rs, together, strict=True):
        assert np.array_equal(found.rank, engine.ranks(projection, r).rank)


def test_small_tiles_change_nothing(monkeypatch):
    queries, candidates = cloud(50, 24, 0, common=1), cloud(333, 24, 1, common=1)
    engine = LabEngine(queries, candidates, random_qrels(50, 333, 2))
    basis = basis_of(24, 9, shared=True)
    expected = engine.ranks(engine.projection(basis)).rank
    monkeypatch.setattr(low_rank, "_QUERIES", 7)
    monkeypatch.setattr(low_rank, "_CANDIDATES", 50)
    monkeypatch.setattr(low_rank, "_STEP", 2)
    assert np.array_equal(engine.ranks(engine.projection(basis)).rank, expected)


def test_directions_are_projected_on_only_as_far_as_needed():
    engine = LabEngine(cloud(5, 300, 0), cloud(20, 300, 1), random_qrels(5, 20, 2))
    projection = engine.projection(basis_of(300, 200, shared=False))
    projection.coefficients(10)
    assert projection._ready == 64
    projection.coefficients(65)
    assert projection._ready == 128


def test_recall_after_removal_is_that_of_the_lists():
    queries, candidates = cloud(60, 20, 0, common=1), cloud(200, 20, 1, common=1)
    qrels = random_qrels(60, 200, 2)
    engine = LabEngine(queries, candidates, qrels)
    basis = basis_of(20, 4, shared=True)
    order, _ = dense_order(left(queries, basis), left(candidates, basis))
    hits = hits_of_ranks(engine.ranks(engine.projection(basis)), (1, 10))
    dense = qrels.toarray()
    for column, k in enumerate((1, 10)):
        expected = [dense[q, order[q, :k]].any() for q in range(60)]
        assert hits[:, column].astype(bool).tolist() == expected


def test_queries_inside_the_subspace_are_found():
    basis = basis_of(16, 3, shared=False)
    queries = cloud(8, 16, 0)
    queries[5] = unit((basis[0] + 2 * basis[2])[None])[0]
    engine = LabEngine(queries, cloud(30, 16, 1), random_qrels(8, 30, 2))
    assert np.flatnonzero(engine.scores(engine.projection(basis)).void_queries).tolist() == [5]
    assert not engine.scores(engine.projection(basis), 0).void_queries.any()
    engine.ranks(engine.projection(basis))  # a void query settles without an error


def test_a_basis_of_another_width_is_refused():
    engine = LabEngine(cloud(3, 8, 0), cloud(5, 8, 1), random_qrels(3, 5, 2))
    with pytest.raises(RetrievalError, match="expected \\(r, 8\\)"):
        engine.projection(np.eye(4)[:2])
