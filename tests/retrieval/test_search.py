"""search: exact order, ties by position, blocks, and clear refusals."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval import search as module
from analysis.retrieval.ranking.similarities import RowScores
from analysis.retrieval.search import best_candidates, search
from tests.retrieval.planted import cloud, dense_order


@pytest.mark.parametrize("common", [0.0, 3.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 7, 300, 2500])
def test_search_equals_sorting_every_row_in_float64(common, dtype, k):
    queries, candidates = (cloud(n, 24, n, common=common, dtype=dtype) for n in (9, 2500))
    order, similarity = dense_order(queries, candidates)
    found = search(queries, candidates, k)
    assert np.array_equal(found.ids, order[:, :k])
    assert np.allclose(found.scores, np.take_along_axis(similarity, order[:, :k], 1), atol=1e-6)
    assert found.scores.dtype == np.float32


def test_equal_candidates_stand_in_the_order_of_their_positions():
    """A float32 product gives equal rows different similarities, depending on where they stand in a block."""
    queries, candidates = cloud(200, 300, 0), cloud(3000, 300, 1)
    copies = np.random.default_rng(2).permutation(3000)[:900]
    candidates[copies] = candidates[copies[0]]
    copies.sort()
    ids = search(queries, candidates, 1500).ids
    for row in ids:
        assert np.array_equal(row[np.isin(row, copies)], copies[: np.isin(row, copies).sum()])


def test_ties_at_the_border_of_k_go_to_the_lower_position():
    queries = np.eye(4, dtype=np.float32)[:1]
    candidates = np.eye(4, dtype=np.float32)[[1, 0, 0, 2, 0, 3, 0]]
    assert search(queries, candidates, 2).ids.tolist() == [[1, 2]]
    assert search(queries, candidates, 5).ids.tolist() == [[1, 2, 4, 6, 0]]


def test_everything_equal_gives_the_positions():
    queries, candidates = np.ones((3, 5), np.float32), np.ones((4000, 5), np.float32)
    assert np.array_equal(search(queries, candidates, 4000).ids, np.tile(np.arange(4000), (3, 1)))


def test_blocks_and_memory_maps_give_the_same_lists(tmp_path):
    queries, candidates = cloud(12, 16, 0), cloud(700, 16, 1)
    expected = search(queries, candidates, 20)
    np.save(tmp_path / "pool.npy", candidates)
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    for pool in (mapped, [candidates[:1], candidates[1:333], candidates[333:]], (mapped[:300], candidates[300:])):
        found = search(queries, pool, 20)
        assert np.array_equal(found.ids, expected.ids)
        assert np.allclose(found.scores, expected.scores, atol=1e-6)


def test_lists_do_not_depend_on_block_sizes(monkeypatch):
    queries, candidates = cloud(70, 20, 0, common=5), cloud(900, 20, 1, common=5)
    expected = search(queries, candidates, 30).ids
    monkeypatch.setattr("analysis.retrieval.ranking.similarities.QUERY_BLOCK", 7)
    monkeypatch.setattr("analysis.retrieval.ranking.similarities.CANDIDATE_BLOCK", 64)
    assert np.array_equal(search(queries, candidates, 30).ids, expected)


def test_crowded_rows_are_settled_as_a_whole(monkeypatch):
    queries, candidates = cloud(5, 8, 0), np.repeat(cloud(40, 8, 1), 10, axis=0)
    order, _ = dense_order(queries, candidates)
    monkeypatch.setattr(module, "_CROWDED", 3)
    assert np.array_equal(search(queries, candidates, 100).ids, order[:, :100])


def test_one_query_in_view_gets_its_row_of_the_full_search():
    queries, candidates = cloud(50, 16, 0), cloud(400, 16, 1)
    full = search(queries, candidates, 15)
    part = best_candidates(RowScores(queries, candidates), 15, np.array([41, 3]))
    assert np.array_equal(part.ids, full.ids[[41, 3]])


def test_k_is_cut_to_the_pool_and_no_query_gives_no_list():
    candidates = cloud(6, 4, 0)
    assert search(cloud(2, 4, 1), candidates, 10).ids.shape == (2, 6)
    assert search(np.empty((0, 4), np.float32), candidates, 3).ids.shape == (0, 3)


@pytest.mark.parametrize(
    ("queries", "candidates", "k", "device", "message"),
    [
        (np.ones((2, 3)), np.ones((4, 3)), 0, "cpu", "k >= 1"),
        (np.ones((2, 3)), np.ones((0, 3)), 1, "cpu", "at least one candidate"),
        (np.ones((2, 3)), np.ones((4, 5)), 1, "cpu", "one backbone"),
        (np.ones((2, 3)), [np.ones((4, 3)), np.ones((4, 2))], 1, "cpu", "one width"),
        (np.ones((2, 3)), np.full((4, 3), np.nan), 1, "cpu", "NaN or infinity"),
        (np.full((2, 3), np.inf), np.ones((4, 3)), 1, "cpu", "query 0 holds NaN or infinity"),
    ],
)
def test_bad_input_is_refused_with_one_sentence(queries, candidates, k, device, message):
    with pytest.raises(RetrievalError, match=message):
        search(queries, candidates, k, device=device)


def test_a_torch_device_gives_the_same_lists_and_an_unknown_one_is_refused():
    pytest.importorskip("torch")
    from analysis.retrieval.ranking import product

    queries, candidates = cloud(20, 32, 0), cloud(300, 32, 1)
    through_torch = product.Products("cpu")
    through_torch._torch = product._torch_for("cpu")
    buffer = np.empty(20 * 300, np.float32)
    assert np.allclose(through_torch(queries, candidates, buffer), queries @ candidates.T, atol=1e-6)
    with pytest.raises(RetrievalError, match="Device 'cuda:99' cannot be used"):
        search(queries, candidates, 3, device="cuda:99")
