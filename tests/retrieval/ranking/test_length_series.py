"""Whitened lengths from a few numbers a row, against the whitening itself in dense float64."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.retrieval.ranking.length_series import COEFFICIENTS, length_series, whitened_lengths
from analysis.retrieval.realign import statistics
from tests.retrieval.planted import cloud


def steep(n: int = 300, width: int = 24) -> np.ndarray:
    """Unit rows whose covariance has eigenvalues over seven orders of magnitude."""
    rows = cloud(n, width, 0, common=1, dtype=np.float64) * np.logspace(0, -3.5, width)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("eps", [1e-9, 1e-5, 1e-2])
@pytest.mark.parametrize("alpha", [0.002, 0.05, 0.1, 0.5, 0.99])
def test_the_series_gives_the_length_of_every_whitened_row(alpha: float, eps: float) -> None:
    x = steep()
    found = statistics(x)
    series = length_series(x, found.mean, found.spectrum)
    assert series.shape == (COEFFICIENTS, len(x))
    expected = np.linalg.norm((x - found.mean) @ found.whitening(alpha, eps).matrix, axis=1)
    lengths = whitened_lengths(series, np.trace(found.covariance) / x.shape[1], alpha, eps)
    assert lengths == pytest.approx(expected, rel=2e-8)


def test_rows_that_the_statistics_are_not_of_have_lengths_as_well() -> None:
    found, others = statistics(steep()), cloud(40, 24, 3, dtype=np.float64)
    series = length_series(others, found.mean, found.spectrum)
    expected = np.linalg.norm((others - found.mean) @ found.whitening(0.1).matrix, axis=1)
    assert whitened_lengths(series, found.spectrum[0].mean(), 0.1, 1e-5) == pytest.approx(expected, rel=2e-8)


def test_a_row_that_equals_the_mean_has_next_to_no_length() -> None:
    found = statistics(steep())
    series = length_series(found.mean[None], found.mean, found.spectrum)
    assert whitened_lengths(series, found.spectrum[0].mean(), 0.1, 1e-5)[0] < 1e-9


@pytest.mark.parametrize(("alpha", "eps"), [(1.0, 1e-5), (0.0, 0.0), (0.9999, 1e-5), (0.1, 10.0)])
def test_beyond_its_reach_a_series_says_nothing(alpha: float, eps: float) -> None:
    assert whitened_lengths(np.zeros((COEFFICIENTS, 3)), 1e-4, alpha, eps) is None
