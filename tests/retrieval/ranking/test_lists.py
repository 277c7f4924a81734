"""The list of a query and the ranks beside it come from one look at the candidates."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.retrieval.ranking.lists import ScoreLists
from analysis.retrieval.ranking.rows import true_cells
from analysis.retrieval.ranking.similarities import RowScores
from tests.retrieval.planted import cloud, dense_order


def test_list_and_ranks_are_those_of_the_sorted_row_and_read_the_candidates_once(monkeypatch):
    queries, candidates = cloud(6, 24, 0, common=1.0), cloud(400, 24, 1, common=1.0)
    reads = []
    tiles = RowScores.tiles
    monkeypatch.setattr(RowScores, "tiles", lambda self, asked=None: reads.append(1) or tiles(self, asked))
    lists = ScoreLists(RowScores(queries, candidates))
    order, _ = dense_order(queries, candidates)
    for n, query in enumerate((4, 1, 4), start=1):
        assert lists.top(query, 10).ids[0].tolist() == order[query, :10].tolist()
        assert lists.ranks(query, order[query, [0, 7, 399]]).tolist() == [1, 8, 400]
        assert len(reads) == n


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (7, 5), (1, 9)])
def test_true_cells_are_those_of_numpy(shape):
    table = np.random.default_rng(0).random(shape) < 0.3
    for found, expected in zip(true_cells(table), np.nonzero(table), strict=True):
        np.testing.assert_array_equal(found, expected)
