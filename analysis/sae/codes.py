"""Sparse codes of N samples over K concepts, at most k active each: fixed width, memory-mappable, no dense N x K."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from analysis.errors import DataError


@dataclass(frozen=True)
class Codes:
    """Codes z of N samples.

    indices: (N, k) int32 concept ids in [0, n_concepts); values: (N, k) float32 >= 0. A value of 0 marks an unused
    slot, whatever its index. A concept stands at most once in a row.
    """

    indices: np.ndarray
    values: np.ndarray
    n_concepts: int

    def __post_init__(self) -> None:
        if self.indices.shape != self.values.shape or self.indices.ndim != 2:
            raise DataError(
                f"Codes need indices and values of one shape (N, k); found {self.indices.shape} and {self.values.shape}."
            )

    def __len__(self) -> int:
        return self.indices.shape[0]

    @property
    def top_k(self) -> int:
        return self.indices.shape[1]

    def __getitem__(self, rows: slice | np.ndarray) -> Codes:
        """Codes of some samples, in the order asked for."""
        return Codes(self.indices[rows], self.values[rows], self.n_concepts)

    def activation(self, concept: int) -> np.ndarray:
        """(N,) float64 of one concept on every sample, 0 where it does not fire."""
        return np.where(np.asarray(self.indices) == concept, self.values, 0).sum(axis=1, dtype=np.float64)

    def to_csr(self) -> sp.csr_array:
        """(N, K) scipy.sparse.csr_array without explicit zeros, columns sorted within each row."""
        rows, top_k = self.indices.shape
        indptr = np.arange(0, rows * top_k + 1, top_k, dtype=np.int64)
        matrix = sp.csr_array(
            (np.asarray(self.values, np.float32).ravel().copy(), np.asarray(self.indices).ravel().copy(), indptr),
            shape=(rows, self.n_concepts),
        )
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return matrix

    @classmethod
    def from_csr(cls, csr: sp.csr_array, top_k: int) -> Codes:
        """Codes from an (N, K) sparse matrix; each row may hold at most `top_k` non-zeros (DataError otherwise)."""
        csr = sp.csr_array(csr)
        csr.eliminate_zeros()
        counts = np.diff(csr.indptr)
        if counts.size and counts.max() > top_k:
            row = int(counts.argmax())
            raise DataError(f"Row {row} has {counts[row]} active concepts; expected at most top_k = {top_k}.")
        rows = csr.shape[0]
        indices = np.zeros((rows, top_k), np.int32)
        values = np.zeros((rows, top_k), np.float32)
        slot = np.arange(csr.nnz) - np.repeat(csr.indptr[:-1], counts)
        row_of = np.repeat(np.arange(rows), counts)
        indices[row_of, slot] = csr.indices
        values[row_of, slot] = csr.data
        return cls(indices, values, int(csr.shape[1]))
