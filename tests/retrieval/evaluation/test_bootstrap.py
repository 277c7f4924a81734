"""Bootstrap intervals: deterministic, paired, and close to what theory says."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.retrieval.evaluation import bootstrap as module
from analysis.retrieval.evaluation.bootstrap import bootstrap_interval, bootstrap_means, with_difference


def test_means_equal_resampling_one_by_one():
    values = np.random.default_rng(0).random((13, 2))
    drawn = np.random.default_rng(5).integers(0, 13, (20, 13))
    expected = [values[rows].mean(axis=0) for rows in drawn]
    assert np.allclose(bootstrap_means(values, resamples=20, seed=5), expected)


def test_many_queries_are_resampled_in_parts_of_the_same_stream(monkeypatch):
    values = np.random.default_rng(0).random((70, 3))
    whole = bootstrap_means(values, resamples=25, seed=1)
    monkeypatch.setattr(module, "_HELD", 150)
    assert np.allclose(bootstrap_means(values, resamples=25, seed=1), whole)


def test_the_width_is_that_of_a_binomial_share():
    hits = (np.arange(2000) < 600).astype(float)
    interval = bootstrap_interval(hits, resamples=4000)
    deviation = np.sqrt(0.3 * 0.7 / 2000)
    assert interval.value == pytest.approx(0.3)
    assert interval.low == pytest.approx(0.3 - 1.96 * deviation, abs=0.1 * deviation)
    assert interval.high == pytest.approx(0.3 + 1.96 * deviation, abs=0.1 * deviation)


def test_pairing_makes_the_interval_of_a_difference_narrow():
    rng = np.random.default_rng(0)
    base = rng.random(500)
    better = base + 0.01
    alone, paired = with_difference(better[:, None, None], base[:, None])
    assert paired.low == pytest.approx(0.01)
    assert paired.high == pytest.approx(0.01)
    assert alone.high - alone.low > 0.02


def test_values_and_their_difference_are_as_if_each_was_resampled_by_itself():
    hits = np.random.default_rng(0).random((60, 4, 3)) < 0.4
    base = np.random.default_rng(1).random((60, 3)) < 0.2
    found = with_difference(hits, base, resamples=200, seed=3)
    for interval, values in zip(found, (hits, hits - base[:, None].astype(float)), strict=True):
        alone = bootstrap_interval(values, resamples=200, seed=3)
        for part in ("value", "low", "high"):
            assert getattr(interval, part) == pytest.approx(getattr(alone, part), abs=1e-12)


def test_no_difference_is_exactly_none():
    hits = (np.random.default_rng(0).random((70, 3)) < 0.5).astype(float)
    _, change = with_difference(hits[:, None], hits, seed=1)
    assert not change.low.any()
    assert not change.high.any()


def test_same_seed_same_interval_other_seed_another():
    values = np.random.default_rng(0).random((50, 3))
    first, again, other = (bootstrap_interval(values, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.low, again.low)
    assert not np.array_equal(first.low, other.low)
    assert first.value.shape == (3,)


def test_no_queries_give_nan():
    assert np.isnan(bootstrap_interval(np.empty((0, 2))).low).all()
    assert all(np.isnan(found.value).all() for found in with_difference(np.empty((0, 2, 3)), np.empty((0, 3))))
