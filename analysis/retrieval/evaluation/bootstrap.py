"""Confidence intervals over queries. All methods of one call share their resamples, so differences are paired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
_HELD = 1 << 22  # weights drawn at once: 32 MB
_KEPT = 1 << 24  # weights of one number of queries that are kept, a byte each


@dataclass(frozen=True)
class Interval:
    """Estimate and the ends of its percentile interval; arrays of one shape."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_interval(
    values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Mean over queries with its percentile interval.

    values: (Q, ...) one number a query and quantity, e.g. hits. Queries are drawn with replacement; quantities of one
    call see the same draws. Everything is NaN without queries.
    """
    values = np.asarray(values, np.float64)
    return _interval(values, _resampled(values, resamples, seed), level)


def with_difference(
    values: np.ndarray, base: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> tuple[Interval, Interval]:
    """`bootstrap_interval` of values (Q, M, K), and of what they are more than base (Q, K) on the same queries, paired; both
    of one set of resamples, as the mean of a difference is the difference of the means."""
    values, base = np.asarray(values, np.float64), np.asarray(base, np.float64)[:, None]
    means = _resampled(np.concatenate([values, base], axis=1), resamples, seed)
    return (
        _interval(values, means[:, :-1], level),
        _interval(values - base, means[:, :-1] - means[:, -1:], level),
    )


def _interval(values: np.ndarray, means: np.ndarray, level: float) -> Interval:
    """values (Q, ...) and their means (resamples, ...)."""
    if not len(values):
        nothing = np.full(values.shape[1:], np.nan)
        return Interval(nothing, nothing.copy(), nothing.copy())
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(values.mean(axis=0), low, high)


def _resampled(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(resamples, ...) means of values (Q, ...)."""
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
    return bootstrap_means(flat, resamples=resamples, seed=seed).reshape(resamples, *values.shape[1:])


def bootstrap_means(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(resamples, M) means of values (Q, M) over resampled queries: multinomial weights times values. NaN without
    queries."""
    n = len(values)
    means = np.empty((resamples, values.shape[1]))
    if not n:
        return np.full_like(means, np.nan)
    start = 0
    for weight in _weights(n, resamples, seed) if n * resamples <= _KEPT else _drawn(n, resamples, seed):
        means[start : start + len(weight)] = weight.astype(np.float64) @ values / n
        start += len(weight)
    return means


@lru_cache(maxsize=10)
def _weights(n: int, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    """`_drawn`, kept for the next quantities of as many queries."""
    return tuple(_drawn(n, resamples, seed))


def _drawn(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (resamples, n) of how often each query was drawn in each resample."""
    generator = np.random.default_rng(seed)
    step = max(1, _HELD // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = generator.integers(0, n, (count, n))
        drawn += np.arange(count)[:, None] * n
        times = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
        yield times.astype(np.min_scalar_type(int(times.max())))
