"""What linear steps do to rows: transforms from unit rows to unit rows, affine but for the return to length 1.

x -> normalise((x - m) T). `Whitening` of the module realign is one as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import scipy.linalg

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.rows import VOID, kept_dtype, unit_rows
from analysis.retrieval.removal import project_away

Moved: TypeAlias = tuple[np.ndarray, np.ndarray]  # (unit rows (n, D), which of them are void and zero (n,))
_BLOCK = 256  # rows centred at once
_FULL_EIGH = 1024  # widths up to which a dense solver finds the leading eigenvectors; above it a Krylov one


class Transform(Protocol):
    """x (n, D) -> unit rows, and which of them have no direction. Its two parts are what attribution needs."""

    def __call__(self, x: np.ndarray) -> Moved: ...

    def linear(self, x: np.ndarray) -> np.ndarray:
        """(n, D) float64: x T."""

    def origin(self, position: int | None) -> np.ndarray:
        """(D,) float64: m, of the row that stands at `position` among those it was fitted on; None: of any other row."""


class Means(NamedTuple):
    """What is subtracted from the rows of one side: means (G, D) float64, kind (n,): which of them from each row."""

    means: np.ndarray
    kind: np.ndarray

    def sparing(self, void: np.ndarray) -> Means:
        """Nothing is subtracted from some rows (mask (n,)): without a direction, they stay so."""
        if not void.any():
            return self
        none = np.zeros((1, self.means.shape[1]))
        return Means(np.concatenate([self.means, none]), np.where(void, len(self.means), self.kind))


@dataclass(frozen=True)
class WithoutSubspace:
    """Rows without the subspace that an orthonormal basis (r, D) spans."""

    basis: np.ndarray

    def __call__(self, x: np.ndarray) -> Moved:
        return project_away(x, self.basis)

    def linear(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x - (x @ self.basis.T) @ self.basis, np.float64)

    def origin(self, position: int | None) -> np.ndarray:
        return np.zeros(self.basis.shape[1])


@dataclass(frozen=True)
class Affine:
    """x -> normalise((x - mean) matrix), in float64. matrix (D, D); mean (D,), default 0."""

    matrix: np.ndarray
    mean: np.ndarray | None = None

    @staticmethod
    def without(basis: np.ndarray, mean: np.ndarray) -> Affine:
        """Rows minus a mean and without the subspace of an orthonormal basis (r, D)."""
        return Affine(np.eye(basis.shape[1]) - basis.T @ basis, mean)

    def __call__(self, x: np.ndarray) -> Moved:
        rows, void = np.empty(x.shape, kept_dtype(x)), np.empty(len(x), bool)
        for start in range(0, len(x), 1024):
            part = slice(start, start + 1024)
            rows[part], void[part] = unit_rows(self.linear(x[part] - self.origin(None)), least=VOID)
        return rows, void

    def linear(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, np.float64) @ self.matrix

    def origin(self, position: int | None) -> np.ndarray:
        return np.zeros(len(self.matrix)) if self.mean is None else np.asarray(self.mean, np.float64)


@dataclass(frozen=True)
class CentredAt:
    """Rows minus a mean (D,)."""

    mean: np.ndarray

    def __call__(self, x: np.ndarray) -> Moved:
        rows, void = np.empty_like(x), np.empty(len(x), bool)
        for start in range(0, len(x), _BLOCK):
            part = slice(start, start + _BLOCK)
            rows[part], void[part] = unit_rows(x[part] - self.mean, least=VOID)
        return rows, void

    def means_of(self, n: int) -> Means:
        """What is subtracted from each of n rows."""
        return Means(np.asarray(self.mean, np.float64)[None], np.zeros(n, np.int64))

    def linear(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, np.float64)

    def origin(self, position: int | None) -> np.ndarray:
        return np.asarray(self.mean, np.float64)


@dataclass(frozen=True)
class CentredByModality:
    """The n rows of a side of several modalities, each minus the mean of its own. means: one a modality; kind (n,): which
    of them belongs to each row. No other row says what it is, so none may come."""

    means: np.ndarray
    kind: np.ndarray
    side: str

    def __call__(self, x: np.ndarray) -> Moved:
        if len(x) != len(self.kind):
            raise self._refusal(len(x))
        rows, void = np.empty_like(x), np.empty(len(x), bool)
        for n, mean in enumerate(self.means):
            own = self.kind == n
            rows[own], void[own] = CentredAt(mean)(x[own])
        return rows, void

    def means_of(self, n: int) -> Means:
        if n != len(self.kind):
            raise self._refusal(n)
        return Means(np.asarray(self.means, np.float64), self.kind)

    def linear(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, np.float64)

    def origin(self, position: int | None) -> np.ndarray:
        if position is None:
            raise self._refusal(1)
        return np.asarray(self.means[self.kind[position]], np.float64)

    def _refusal(self, n: int) -> RetrievalError:
        return RetrievalError(
            f"The {self.side} are of {len(self.means)} modalities and {n} of these {len(self.kind)} rows came alone; "
            "expected all of them: centre per side or jointly."
        )


def centred_by(modalities: np.ndarray, means: Mapping[Any, np.ndarray], side: str) -> Transform:
    """Rows of one side minus the mean of their modality. modalities (n,): of its rows. Where they all have one, any row
    of that modality may come."""
    kinds, kind = np.unique(modalities, return_inverse=True)
    if len(kinds) == 1:
        return CentredAt(means[kinds[0]])
    return CentredByModality(np.stack([means[modality] for modality in kinds]), kind, side)


def leading_directions(moments: np.ndarray, n: int) -> np.ndarray:
    """(n, D) eigenvectors of a symmetric matrix (D, D) with the largest eigenvalues, the largest first."""
    width = len(moments)
    if n >= width:
        raise RetrievalError(f"{n} components of {width} dimensions leave nothing; expected fewer.")
    if width <= _FULL_EIGH:
        return scipy.linalg.eigh(moments, subset_by_index=(width - n, width - 1))[1].T[::-1]
    from scipy.sparse.linalg import eigsh

    vectors = eigsh(moments, k=n, which="LA", v0=np.ones(width))[1]
    return np.linalg.qr(vectors)[0].T[::-1]
