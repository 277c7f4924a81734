"""Spaces: lazily read embeddings, codes, rarity, and the reader of a real store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval import task as module
from analysis.retrieval.ranking.rows import unit_rows
from analysis.retrieval.realign import statistics
from analysis.retrieval.task import LazyRows, RetrievalSpace, space_from_store
from analysis.store import open_store
from tests.retrieval.planted import world
from tests.synthetic_store import make_store


def test_variants_are_read_when_asked_for_and_small_ones_kept(monkeypatch):
    calls: list[str] = []

    def load(variant: str) -> np.ndarray:
        calls.append(variant)
        return np.zeros((4, 2))

    rows = LazyRows(("mean", "last"), load)
    assert list(rows) == ["mean", "last"]
    assert "mean" in rows
    assert "median" not in rows
    assert not calls
    assert rows["last"] is rows["last"]
    assert calls == ["last"]
    monkeypatch.setattr(module, "_HELD", 1)
    assert rows["mean"] is not rows["mean"]
    with pytest.raises(KeyError):
        rows["median"]


def test_a_missing_variant_score_or_sae_is_named():
    space = world(8).space
    with pytest.raises(RetrievalError, match="no embeddings 'median' of its queries; it has mean, last"):
        space.rows("queries", "median")
    with pytest.raises(RetrievalError, match="no concept score 'bridge_diagonal'"):
        space.score("bridge_diagonal")
    bare = RetrievalSpace({}, {}, space.qrels)
    with pytest.raises(RetrievalError, match="no SAE"):
        _ = bare.dictionary


def test_codes_of_other_variants_are_encoded_once():
    planted = world(8)
    assert planted.space.codes("queries", "mean") is planted.codes["queries"]
    last = planted.space.codes("queries", "last")
    assert len(last) == 8
    assert planted.space.codes("queries", "last") is last


def test_rarity_is_the_logarithm_of_n_over_df():
    planted = world(10)
    weight = planted.space.rarity("idf")
    fired = sum((part.to_csr().toarray() > 0).sum(axis=0) for part in planted.codes.values())
    assert np.allclose(weight, np.log(20 / np.maximum(fired, 1)))
    assert weight[0] == 0  # fires on every sample
    assert (planted.space.rarity("equal") == 1).all()


def test_a_store_becomes_a_space(tmp_path):
    store = open_store(make_store(tmp_path))
    space = space_from_store(store, "i2t")
    task = store.task("i2t")
    assert (space.n_queries, space.n_candidates) == task.qrels.shape
    assert np.array_equal(space.rows("candidates", "mean"), store.embeddings("mean", task.candidate_rows))
    codes = space.codes("queries", "mean")
    assert np.array_equal(codes.values, store.codes.values[task.query_rows])
    assert space.score("attribution").shape == (store.n_concepts,)
    assert space.dictionary.shape[0] == store.n_concepts
    assert space.query_names[0] == store.samples["sample_id"].iat[int(task.query_rows[0])]
    support = space.support("mean")
    assert support is not None
    assert support.n == len(task.query_rows)
    rows = store.embeddings("mean", task.query_rows).astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert support.mean == pytest.approx(unit.mean(axis=0))
    assert support.covariance == pytest.approx(np.cov(unit, rowvar=False))
    assert space.support("mean") is support
    with pytest.raises(RetrievalError, match="no such variant"):
        space.support("no such variant")


def test_statistics_are_kept_for_both_sides_of_one_whitening():
    space = world(8).space
    rows = {side: unit_rows(space.rows(side, "mean"))[0] for side in ("queries", "candidates")}
    first = {side: space.statistics(side, "mean", rows[side]) for side in rows}
    assert all(space.statistics(side, "mean", rows[side]) is first[side] for side in rows)
    space.statistics("queries", "last", rows["queries"])  # takes the place of the oldest
    assert space.statistics("candidates", "mean", rows["candidates"]) is first["candidates"]
    assert space.statistics("queries", "mean", rows["queries"]) is not first["queries"]


def test_stored_statistics_of_other_rows_are_not_used():
    planted = world(8)
    rows = unit_rows(planted.space.rows("queries", "mean"))[0]
    other = statistics(rows[:5])
    space = replace(planted.space, stored_statistics=lambda side, variant: other)
    assert space.statistics("queries", "mean", rows[:5]) is other
    assert replace(space).statistics("queries", "mean", rows).n == 8
