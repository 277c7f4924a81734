"""What changed per query: statuses, and two lists that know each other's ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.movement import changed, movement, side_by_side
from analysis.retrieval.ranking.lists import FusedLists, ScoreLists, TwoStageLists
from analysis.retrieval.ranking.ranks import TargetRanks
from analysis.retrieval.ranking.similarities import RowScores
from tests.retrieval.planted import cloud, dense_order, random_qrels


def ranks(*best: int) -> TargetRanks:
    query = np.array([q for q, rank in enumerate(best) if rank])
    rank = np.array([rank for rank in best if rank])
    return TargetRanks(query, query, rank, len(best), 100)


def test_every_query_gets_one_status():
    before = ranks(20, 3, 40, 7, 1, 0, 5)
    after = ranks(5, 30, 12, 15, 2, 0, 16)
    table = movement(before, after, 5)
    assert table["status"].tolist() == [
        "rescued", "lost", "near miss", "near miss", "unchanged", "no target", "lost",
    ]  # fmt: skip
    assert table["moved"].tolist() == [15, -27, 28, -8, -1, 0, -11]
    assert table.loc[5, ["before", "after"]].tolist() == [0, 0]


def test_movement_needs_one_query_set():
    with pytest.raises(RetrievalError, match="one query set"):
        movement(ranks(1, 2), ranks(1), 5)


ROWS = (cloud(10, 6, 0), cloud(40, 6, 1)), (cloud(10, 9, 2), cloud(40, 9, 3))
SCORES = tuple(RowScores(*side) for side in ROWS)
QRELS = random_qrels(10, 40, 4)


def test_lists_side_by_side_know_each_others_ranks():
    orders = [dense_order(*side)[0] for side in ROWS]
    found = side_by_side(ScoreLists(SCORES[0]), ScoreLists(SCORES[1]), 3, 12, QRELS)
    for own, other, table, sign in ((0, 1, found.before, 1), (1, 0, found.after, -1)):
        assert table["candidate"].tolist() == orders[own][3, :12].tolist()
        places = [1 + orders[other][3].tolist().index(c) for c in table["candidate"]]
        assert table["other_rank"].tolist() == places
        assert table["moved"].tolist() == (sign * (table["rank"] - places)).tolist()
        assert table["target"].tolist() == [QRELS[3, c] != 0 for c in table["candidate"]]


def test_every_target_is_named_wherever_it_stands():
    orders = [dense_order(*side)[0] for side in ROWS]
    query = int(np.argmax(np.diff(QRELS.indptr)))
    found = side_by_side(ScoreLists(SCORES[0]), ScoreLists(SCORES[1]), query, 3, QRELS).targets
    relevant = np.flatnonzero(QRELS[[query]].toarray()[0])
    assert len(relevant) > 1
    assert sorted(found["candidate"]) == relevant.tolist()
    assert found["rank_before"].is_monotonic_increasing
    for (queries, candidates), order, side in zip(ROWS, orders, ("before", "after"), strict=True):
        places = [1 + order[query].tolist().index(c) for c in found["candidate"]]
        assert found[f"rank_{side}"].tolist() == places
        np.testing.assert_allclose(found[f"score_{side}"], candidates[found["candidate"]] @ queries[query], atol=1e-6)


ALL_LISTS = [
    ScoreLists(SCORES[1]),
    TwoStageLists(SCORES[0], SCORES[1], 7),
    TwoStageLists(SCORES[0], SCORES[1], 40),
    FusedLists(SCORES[0], SCORES[1], 0.4),
]


@pytest.mark.parametrize("lists", ALL_LISTS)
def test_similarities_of_candidates_are_those_of_the_list(lists):
    full = lists.top(6, 40)
    asked = full.ids[0][[30, 2, 11]]
    np.testing.assert_allclose(lists.similarities(6, asked), full.scores[0][[30, 2, 11]], atol=1e-6)


@pytest.mark.parametrize("lists", ALL_LISTS)
def test_ranks_of_candidates_are_their_places_in_the_list(lists):
    full = lists.top(6, 40).ids[0]
    assert sorted(full) == list(range(40))
    assert np.array_equal(full[lists.ranks(6, np.array([39, 0, 12])) - 1], [39, 0, 12])
    assert np.array_equal(lists.top(6, 9).ids[0], full[:9])


def test_a_query_without_targets_marks_none():
    empty = sp.csr_array((10, 40))
    found = side_by_side(ScoreLists(SCORES[0]), ScoreLists(SCORES[0]), 0, 5, empty)
    assert not found.before["target"].any()
    assert not len(found.targets)
    assert (found.after["moved"] == 0).all()


@pytest.mark.parametrize("which", ["rescued", "lost", "near", "moved", "all"])
def test_filters_choose_the_queries_they_promise(which: str) -> None:
    moved = pd.DataFrame(
        {
            "query": range(7), "before": [30, 2, 15, 4, 0, 100, 14], "after": [3, 20, 12, 4, 0, 60, 9],
            "moved": [27, -18, 3, 0, 0, 40, 5],
            "status": ["rescued", "lost", "near miss", "unchanged", "no target", "unchanged", "rescued"],
        }
    )  # fmt: skip
    expected = {"rescued": [0, 6], "lost": [1], "near": [2], "moved": [5, 0, 1, 6, 2, 3, 4], "all": list(range(7))}
    assert changed(moved, which)["query"].tolist() == expected[which]
    with pytest.raises(RetrievalError, match="expected one of rescued"):
        changed(moved, "vanished")
