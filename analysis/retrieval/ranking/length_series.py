"""Lengths of whitened rows for every shrinkage, from a few numbers a row.

In the eigenvectors U of the covariance, with eigenvalues s_d and e = (x - mean) U, a row x whitened by W has the length
|(x - mean) W|² = sum_d e_d² / ((1 - alpha) s_d + alpha s̄ + eps) = F(t) / (1 - alpha), where F(t) = sum_d e_d² / (s_d + t),
t = (alpha s̄ + eps) / (1 - alpha) and s̄ is the mean eigenvalue. ln F is analytic in ln t, without a singularity within pi
of the real line, so its Chebyshev series converges geometrically: over ln(t / s̄) from -ln REACH to ln REACH the error of
n coefficients falls as 1.55^-n, which is below 1e-8 for the 48 that are kept.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev

COEFFICIENTS = 48
REACH = 1e3  # a series serves t / s̄ from 1 / REACH to REACH: with a small eps, alpha from 0.001 to 0.999
_TINY = 1e-30  # F of a row that equals the mean: its logarithm stays finite


def length_series(rows: np.ndarray, mean: np.ndarray, spectrum: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(COEFFICIENTS, N) float64 of unit rows (N, D). spectrum: eigenvalues (D,) and eigenvectors (D, D) in columns of the
    covariance about `mean` (D,)."""
    values, vectors = spectrum
    nodes = chebyshev.chebpts1(COEFFICIENTS)
    weight = 1 / (values[:, None] + values.mean(dtype=np.float64) * REACH**nodes)  # (D, COEFFICIENTS)
    energy = np.square((rows - mean) @ vectors) @ weight
    return chebyshev.chebfit(nodes, np.log(np.maximum(energy, _TINY)).T, COEFFICIENTS - 1)


def whitened_lengths(series: np.ndarray, spread: float, alpha: float, eps: float) -> np.ndarray | None:
    """(N,) float64 |(x - mean) W| at one alpha and eps. spread: s̄. None where the series does not reach."""
    t = (alpha * spread + eps) / (1 - alpha) if alpha < 1 else np.inf
    if not spread / REACH <= t <= spread * REACH:
        return None
    return np.sqrt(np.exp(chebyshev.chebval(np.log(t / spread) / np.log(REACH), series)) / (1 - alpha))
