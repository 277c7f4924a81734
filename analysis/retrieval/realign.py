"""ReAlign: whitening of queries and candidates, each with their own mean and covariance (ACL version of the paper)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.length_series import whitened_lengths
from analysis.retrieval.ranking.rows import LARGE, VOID, kept_dtype, refuse_void, unit_rows, worth_compiling

ALPHA, EPS = 0.1, 1e-5  # the authors' values
_BLOCK = 4096  # rows that moments are added up from at once
_SLICE = 2048  # rows whitened at once
EXACT_WIDTH = 1024  # up to this width statistics are in float64; above it float32 halves the seconds they cost


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and covariance (D, D), divisor n - 1, of n unit rows: what a store keeps to whiten one query.

    length_series: of those rows, where it is kept (see the module of that name).
    """

    mean: np.ndarray
    covariance: np.ndarray
    n: int
    stored_spectrum: tuple[np.ndarray, np.ndarray] | None = None
    length_series: np.ndarray | None = None

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """(eigenvalues (D,) ascending, eigenvectors in columns). Shrinkage moves the values only, so every alpha
        shares this."""
        if self.stored_spectrum is not None:
            return self.stored_spectrum
        covariance = np.asarray(self.covariance)
        values, vectors = scipy.linalg.eigh((covariance + covariance.T) / 2, driver="evd", overwrite_a=True)
        return np.maximum(values, 0), vectors

    def whitening(self, alpha: float = ALPHA, eps: float = EPS) -> Whitening:
        """ZCA whitening of the shrunken covariance S = (1 - alpha) * Sigma + alpha * tr(Sigma)/D * I."""
        if not 0 <= alpha <= 1 or eps < 0:
            raise RetrievalError(f"ReAlign got alpha = {alpha} and eps = {eps}; expected 0 <= alpha <= 1 and eps >= 0.")
        values, vectors = self.spectrum
        shrunken = (1 - alpha) * values + alpha * values.mean() + eps
        if shrunken.min() <= 0:
            raise RetrievalError(
                f"The covariance of {self.n} samples in {len(values)} dimensions is singular with alpha = {alpha} and "
                f"eps = {eps}; expected a positive alpha or eps."
            )
        half = vectors * shrunken**-0.25  # a product with its own transpose takes half the work
        matrix = half @ half.T
        lengths = None
        if self.length_series is not None:
            lengths = whitened_lengths(self.length_series, float(values.mean(dtype=np.float64)), alpha, eps)
        return Whitening(self.mean, matrix, self.n, alpha, eps, float(shrunken.min()) ** -0.5, lengths)


@dataclass(frozen=True)
class Whitening:
    """x -> normalise((x - mean) W). mean (D,), matrix W (D, D), fitted on n samples. largest_scale: the largest
    eigenvalue of W; lengths (n,): |(x - mean) W| of the samples it was fitted on, where they are known."""

    mean: np.ndarray
    matrix: np.ndarray
    n: int
    alpha: float
    eps: float
    largest_scale: float
    lengths: np.ndarray | None = None

    def apply(self, x: np.ndarray) -> np.ndarray:
        """(N, D) rows -> (N, D) whitened unit rows, dtype of x. Rows are brought to length 1 first.

        RetrievalError when a row equals the mean: it has no direction.
        """
        rows, void = self(x)
        refuse_void(void, "equal the mean of the samples the whitening was fitted on")
        return rows

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(whitened unit rows, which rows are void and therefore zero)."""
        rows, void = np.empty(x.shape, kept_dtype(x)), np.empty(len(x), bool)
        _, scale = _rows_work(x.size)
        for part, whitened, length in self._slices(x):
            void[part] = length <= VOID
            scale(whitened, rows[part])
        return rows, void

    def linear(self, x: np.ndarray) -> np.ndarray:
        """As `transforms.Transform`: x W."""
        return np.asarray(x, np.float64) @ self.matrix

    def origin(self, position: int | None) -> np.ndarray:
        """As `transforms.Transform`: the mean."""
        return np.asarray(self.mean, np.float64)

    def lengths_of(self, x: np.ndarray) -> np.ndarray:
        """(N,) float64 |(x - mean) W|, 0 for void rows."""
        found = np.empty(len(x))
        for part, whitened, _ in self._slices(x):
            found[part] = np.sqrt(np.einsum("ij,ij->i", whitened, whitened))
        return found

    def _slices(self, x: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """(which rows, these times W in an array that is overwritten by the next, their lengths before W)."""
        centre, _ = _rows_work(x.size)
        centred, whitened = np.empty((2, min(_SLICE, len(x)), x.shape[1]), np.result_type(kept_dtype(x), self.matrix))
        for start in range(0, len(x), _SLICE):
            part = slice(start, start + _SLICE)
            unit = centred[: len(x) - start]
            length = centre(np.asarray(x[part], unit.dtype), self.mean, VOID, unit)
            if not np.isfinite(length).all():
                unit_rows(x)  # says which row is not finite
            yield part, np.matmul(unit, self.matrix, out=whitened[: len(unit)]), length


def fit(x: np.ndarray, *, alpha: float = ALPHA, eps: float = EPS) -> Whitening:
    """Whitening from the rows x (N, D), which are brought to length 1 first.

    mu, Sigma (N - 1) of the unit rows; S = (1 - alpha) Sigma + alpha tr(Sigma)/D I; W = U diag((s + eps)^-1/2) U^T,
    symmetric (ZCA), so that queries and candidates with statistics of their own stay comparable. RetrievalError for
    fewer than two rows, alpha outside [0, 1] or a singular result.
    """
    return statistics(x).whitening(alpha, eps)


def fit_from_statistics(
    mean: np.ndarray, covariance: np.ndarray, n: int, *, alpha: float = ALPHA, eps: float = EPS
) -> Whitening:
    """`fit` from stored statistics of n unit rows: how one uploaded query, which has no covariance, is whitened."""
    if n < 2:
        raise RetrievalError(f"The statistics are of {n} samples; expected two or more: use a larger support set.")
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise RetrievalError(
            f"The statistics have a mean of shape {mean.shape} and a covariance of shape {covariance.shape}; "
            "expected (D,) and (D, D)."
        )
    return Statistics(np.asarray(mean), np.asarray(covariance), int(n)).whitening(alpha, eps)


def realign(
    queries: np.ndarray, candidates: np.ndarray, *, alpha: float = ALPHA, eps: float = EPS
) -> tuple[np.ndarray, np.ndarray]:
    """(queries', candidates'): each side whitened with its own statistics."""
    return fit(queries, alpha=alpha, eps=eps).apply(queries), fit(candidates, alpha=alpha, eps=eps).apply(candidates)


def _rows_work(n: int) -> tuple[Callable[..., np.ndarray], Callable[..., None]]:
    """What whitening does before and after its product: compiled where that is worth numba's import."""
    if not worth_compiling(n, LARGE):
        return _centre_rows, _scale_rows
    from analysis.retrieval.ranking.rank_kernels import centre_rows, scale_rows

    return centre_rows, scale_rows


def _centre_rows(x: np.ndarray, mean: np.ndarray, least: float, out: np.ndarray) -> np.ndarray:
    """As kernels.centre_rows."""
    _, empty = unit_rows(x, out=out)
    out -= mean.astype(out.dtype, copy=False)
    length = np.where(empty, -1.0, np.sqrt(np.einsum("ij,ij->i", out, out)))
    out[length <= least] = 0
    return length


def _scale_rows(x: np.ndarray, out: np.ndarray) -> None:
    unit_rows(x, out=out)


def statistics(x: np.ndarray) -> Statistics:
    """Mean and covariance of the rows of x (N, D), brought to length 1; float64 up to D = 1024, float32 above."""
    n, width = x.shape
    if n < 2:
        raise RetrievalError(
            f"Whitening was asked for with {n} sample{'s' * (n != 1)}; expected two or more: "
            "a single query uses the stored statistics of a support set."
        )
    dtype = np.float64 if width <= EXACT_WIDTH else np.float32
    blocks = [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]
    mean = np.sum([unit_rows(x[part], dtype=dtype)[0].sum(axis=0, dtype=np.float64) for part in blocks], axis=0) / n
    scatter = np.zeros((width, width), np.float64)
    for part in blocks:
        centred = unit_rows(x[part], dtype=dtype)[0] - mean.astype(dtype)
        scatter += centred.T @ centred
    return Statistics(mean, (scatter / (n - 1)).astype(dtype, copy=False), n)
