"""Building qrels: positions, unknown names, and the published loop as oracle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import DataError
from analysis.retrieval.qrels import build_qrels


def published_loop(table: pd.DataFrame, queries: list[str], candidates: list[str]) -> np.ndarray:
    """One filter of the whole table per query, as in the paper's code."""
    dense = np.zeros((len(queries), len(candidates)))
    for row, query in enumerate(queries):
        found = table[(table["query-id"] == query) & (table["score"] > 0)]["corpus-id"]
        dense[row, [candidates.index(name) for name in found if name in candidates]] = 1
    return dense


def test_matrix_equals_the_published_loop():
    rng = np.random.default_rng(0)
    queries, candidates = [f"q:{i}" for i in range(40)], [f"c:{i}" for i in range(90)]
    table = pd.DataFrame(
        {
            "query-id": [f"q:{i}" for i in rng.integers(0, 45, 400)],
            "corpus-id": [f"c:{i}" for i in rng.integers(0, 120, 400)],
            "score": rng.integers(0, 2, 400),
        }
    )
    built = build_qrels(table["query-id"], table["corpus-id"], table["score"], queries=queries, candidates=candidates)
    assert np.array_equal(built.matrix.toarray() > 0, published_loop(table, queries, candidates) > 0)


def test_what_cannot_be_placed_is_counted():
    built = build_qrels(
        ["a", "a", "a", "b", "x", "c"],
        ["1", "7", "7", "8", "1", "2"],
        [1, 1, 1, 1, 1, 0],
        queries=["a", "b", "c"],
        candidates=["1", "2"],
    )
    assert built.matrix.toarray().tolist() == [[1, 0], [0, 0], [0, 0]]
    assert built.missing_by_query.tolist() == [1, 1, 0]
    assert built.n_relevant.tolist() == [2, 1, 0]
    assert (built.missing_targets, built.first_missing, built.unknown_queries) == (2, "7", 1)
    assert built.unanswerable_queries == 2


def test_scores_are_optional_and_an_empty_table_is_fine():
    assert build_qrels(["a"], ["1"], queries=["a"], candidates=["1"]).matrix.toarray().tolist() == [[1]]
    assert build_qrels([], [], [], queries=["a"], candidates=["1"]).matrix.nnz == 0


def test_ids_that_stand_twice_and_ragged_columns_are_refused():
    with pytest.raises(DataError, match="candidate id '1' stands twice"):
        build_qrels(["a"], ["1"], queries=["a"], candidates=["1", "1"])
    with pytest.raises(DataError, match="three columns of one length"):
        build_qrels(["a", "b"], ["1"], queries=["a"], candidates=["1"])
