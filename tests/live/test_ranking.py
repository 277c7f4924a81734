"""Ranks of one query against a plain loop, on both ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.live import ranking
from analysis.live.ranking import Comparison, compare, rank_candidates, ranked_list
from analysis.retrieval.interventions import parse
from analysis.retrieval.pipeline import fit
from analysis.retrieval.scoring import RowScores
from analysis.retrieval.spaces import space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store


def _unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_order_and_ranks_equal_the_plain_loop_with_ties_to_the_lower_position() -> None:
    rng = np.random.default_rng(0)
    candidates = _unit(rng, 60, 16)
    candidates[50] = candidates[7]  # a tie
    query = _unit(rng, 16)
    found = rank_candidates(query, candidates)
    oracle = sorted(range(60), key=lambda c: (-round(float(candidates[c] @ query), 12), c))
    assert found.order.tolist() == oracle
    assert [int(found.rank[c]) for c in oracle] == list(range(1, 61))


def test_the_large_path_gives_the_same_list(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    candidates, queries = _unit(rng, 900, 24).astype(np.float32), _unit(rng, 3, 24).astype(np.float32)
    exact = ranked_list(RowScores(queries, candidates), 2, candidates.size)
    monkeypatch.setattr(ranking, "_EXACT", 0)
    rough = ranked_list(RowScores(queries, candidates), 2, candidates.size)
    assert rough.order[:200].tolist() == exact.order[:200].tolist()
    np.testing.assert_allclose(rough.similarity, exact.similarity, atol=2e-6)
    assert np.abs(rough.rank - exact.rank).max() <= 2


def test_places_name_rank_similarity_movement_and_targets() -> None:
    rng = np.random.default_rng(2)
    candidates = _unit(rng, 30, 8)
    before, after = (rank_candidates(_unit(rng, 8), candidates) for _ in range(2))
    comparison = Comparison(before, after, targets=(int(after.order[2]), int(after.order[9])))
    places = comparison.places("after", 5)
    assert [place.rank for place in places] == [1, 2, 3, 4, 5]
    assert [place.is_target for place in places] == [False, False, True, False, False]
    for place in places:
        assert place.other_rank == list(before.order).index(place.candidate) + 1
        assert place.similarity == pytest.approx(after.similarity[place.candidate])
    best = comparison.best_target()
    assert best is not None
    assert best[0] == after.order[2]
    assert best[2] == 3


def test_a_query_of_the_store_ranks_as_it_does_in_the_whole_matrix(tmp_path) -> None:
    store = open_store(make_store(tmp_path))
    space = space_from_store(store, "i2t")
    base, changed = fit(parse("base"), space), fit(parse("removal:attribution,share=0.1+realign:alpha=0.3"), space)
    h = space.rows("queries", "mean")[5]
    found = compare(base, changed, h, h)
    for side, fitted in (("before", base), ("after", changed)):
        similarity = np.round(fitted.candidates @ fitted.queries[5], 12)
        oracle = sorted(range(len(similarity)), key=lambda c: (-similarity[c], c))[:10]
        assert [place.candidate for place in found.places(side, 10)] == oracle
