"""ReAlign: the formula in dense float64, what whitening means, and one query with stored statistics."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval import realign as realign_module
from analysis.retrieval.ranking import rank_kernels
from analysis.retrieval.ranking.rows import VOID, unit_rows
from analysis.retrieval.realign import _centre_rows, fit, fit_from_statistics, realign, statistics
from tests.retrieval.planted import cloud, unit


def literal(x: np.ndarray, alpha: float, eps: float) -> np.ndarray:
    """The authors' steps: covariance, shrinkage, SVD, U diag U^T."""
    x = unit(x.astype(np.float64))
    mean, width = x.mean(axis=0), x.shape[1]
    covariance = (x - mean).T @ (x - mean) / (len(x) - 1)
    shrunken = (1 - alpha) * covariance + alpha * np.trace(covariance) / width * np.eye(width)
    left, singular, _ = np.linalg.svd(shrunken)
    return unit((x - mean) @ (left @ np.diag(1 / np.sqrt(singular + eps)) @ left.T))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_side_is_whitened_with_its_own_statistics(alpha, dtype):
    queries, candidates = 3 * cloud(200, 12, 0, common=1, dtype=dtype), cloud(300, 12, 1, common=2, dtype=dtype)
    found = realign(queries, candidates, alpha=alpha)
    for side, result in zip((queries, candidates), found, strict=True):
        assert result.dtype == dtype
        assert np.allclose(result, literal(side, alpha, 1e-5), atol=1e-4 if dtype == np.float32 else 1e-9)


def test_the_covariance_of_the_training_set_becomes_the_identity():
    x = unit(np.random.default_rng(0).standard_normal((5000, 8)) * np.arange(1, 9) + 2)
    whitening = fit(x, alpha=0.0, eps=0.0)
    whitened = (x - whitening.mean) @ whitening.matrix
    assert np.allclose(np.cov(whitened.T), np.eye(8), atol=1e-8)
    assert np.allclose(whitening.matrix, whitening.matrix.T, atol=1e-10)


def test_full_shrinkage_is_centring():
    x = cloud(100, 6, 0, common=1, dtype=np.float64)
    assert np.allclose(fit(x, alpha=1.0).apply(x), unit(x - x.mean(axis=0)), atol=1e-12)


def test_one_query_with_stored_statistics_is_whitened_as_in_its_set():
    x = cloud(80, 10, 0, common=1, dtype=np.float64)
    found = statistics(x)
    whitening = fit_from_statistics(found.mean, found.covariance, found.n, alpha=0.3)
    assert np.allclose(whitening.apply(5 * x[17:18]), fit(x, alpha=0.3).apply(x)[17:18], atol=1e-12)
    assert whitening.n == 80


def test_wide_rows_use_float32_statistics_and_agree():
    x = cloud(40, 1100, 0, common=0.5)
    assert statistics(x).covariance.dtype == np.float32
    assert np.abs(fit(x).apply(x) - literal(x, 0.1, 1e-5)).max() < 1e-3


def test_one_alpha_after_another_shares_the_spectrum():
    x = cloud(60, 9, 0, dtype=np.float64)
    found = statistics(x)
    for alpha in (0.05, 0.5):
        assert np.allclose(found.whitening(alpha).matrix, fit(x, alpha=alpha).matrix, atol=1e-12)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_samples_are_refused(n):
    with pytest.raises(RetrievalError, match="two or more"):
        fit(cloud(3, 4, 0)[:n])
    with pytest.raises(RetrievalError, match="two or more"):
        fit_from_statistics(np.zeros(4), np.eye(4), n)


def test_settings_without_an_answer_are_refused():
    x = cloud(5, 8, 0, dtype=np.float64)
    with pytest.raises(RetrievalError, match="singular"):
        fit(np.repeat(x[:1], 5, axis=0), alpha=0.0, eps=0.0)
    for alpha, eps in ((-0.1, 1e-5), (1.1, 1e-5), (0.1, -1.0)):
        with pytest.raises(RetrievalError, match="0 <= alpha <= 1"):
            fit(x, alpha=alpha, eps=eps)
    with pytest.raises(RetrievalError, match="expected \\(D,\\) and \\(D, D\\)"):
        fit_from_statistics(np.zeros(4), np.eye(5), 10)
    with pytest.raises(RetrievalError, match="first row 0, equal the mean"):
        fit_from_statistics(x[0], np.eye(8), 10).apply(x[:1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_and_plain_forms_agree(dtype: type[np.floating]) -> None:
    """A zero row, a row that equals the mean, and rows of any length."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((300, 24)) * rng.uniform(0.1, 9, (300, 1))).astype(dtype)
    mean = (x[7] / np.linalg.norm(x[7].astype(np.float64))).astype(np.float64)
    x[3] = 0
    plain, compiled = np.empty_like(x), np.empty_like(x)
    expected, found = _centre_rows(x, mean, VOID, plain), rank_kernels.centre_rows(x, mean, VOID, compiled)
    assert compiled == pytest.approx(plain, abs=2e-7)
    assert np.array_equal(found <= VOID, expected <= VOID)
    assert np.flatnonzero(found <= VOID).tolist() == [3, 7]
    assert found == pytest.approx(expected, abs=1e-6)
    rank_kernels.scale_rows(x, compiled)
    assert compiled == pytest.approx(unit_rows(x)[0], abs=2e-7)


def test_rows_that_are_not_finite_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).standard_normal((9, 4))
    whitening = fit(rows)
    rows[5, 2] = np.nan
    for limit in (0, 10**9):
        monkeypatch.setattr(realign_module, "LARGE", limit)
        with pytest.raises(RetrievalError, match="Row 5 of 9"):
            whitening(rows)
