"""Per concept the samples on which it fires, strongest first: top examples, quantile bins and random positives of any
concept are then a slice of a memory-mapped file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.sae.codes import Codes


@dataclass(frozen=True)
class Postings:
    """offsets (K+1,) int64; sample_rows and values (nnz,), concept by concept, values falling within each."""

    offsets: np.ndarray
    sample_rows: np.ndarray
    values: np.ndarray

    def rows(self, concept: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, values) of one concept, values falling; empty for a concept that never fires."""
        span = slice(int(self.offsets[concept]), int(self.offsets[concept + 1]))
        return np.asarray(self.sample_rows[span]), np.asarray(self.values[span])

    def activation(self, concept: int, n_samples: int) -> np.ndarray:
        """(N,) float32 of one concept on every sample, 0 where it does not fire."""
        every = np.zeros(n_samples, np.float32)
        rows, values = self.rows(concept)
        every[rows] = values
        return every


def build_postings(codes: Codes) -> Postings:
    """Postings of N samples: rows int32, values float32. At equal values the lower row comes first."""
    values = np.asarray(codes.values, np.float32).ravel()
    used = np.flatnonzero(values > 0)
    concepts = np.asarray(codes.indices).ravel()[used]
    values = values[used]
    rows = (used // max(codes.top_k, 1)).astype(np.int32)
    order = np.lexsort((rows, -values, concepts))
    offsets = np.zeros(codes.n_concepts + 1, np.int64)
    np.cumsum(np.bincount(concepts, minlength=codes.n_concepts), out=offsets[1:])
    return Postings(offsets, rows[order], values[order])
