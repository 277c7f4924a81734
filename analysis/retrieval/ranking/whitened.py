"""Similarities of whitened rows without whitening the candidates: both matrices act on the queries.

With u a whitened unit query, x a unit candidate and W symmetric, s(u, x) = u·((x - m) W) / |(x - m) W| = ((u W)·x - (u W)·m)
/ |(x - m) W|. So the product is that of the candidates as they are, and only their lengths are left of C x D x D operations;
a store of wide embeddings keeps what these follow from (see `length_series`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from analysis.retrieval.ranking.rows import VOID, Side
from analysis.retrieval.ranking.similarities import RowScores, Tile, rounded
from analysis.retrieval.realign import Whitening

_ROUNDING = 2.4e-7  # of a sum of values around 1 in float32


@dataclass(frozen=True)
class WhitenedRows:
    """One side seen through a whitening W: what `Side` holds, computed when it is asked for."""

    plain: Side
    whitening: Whitening

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) float64 |(x - m) W|."""
        known = self.whitening.lengths
        usable = known is not None and len(known) == len(self.plain.rows) and not self.plain.void.any()
        return known if usable and known is not None else self.whitening.lengths_of(self.plain.rows)

    @cached_property
    def void(self) -> np.ndarray:
        """(n,) which rows have no direction: those without one before, and those that equal the mean."""
        suspects = np.flatnonzero(self.lengths <= 2 * VOID * self.whitening.largest_scale)
        void = self.plain.void.copy()
        void[suspects] |= self.whitening(self.plain.rows[suspects])[1]
        return void

    @cached_property
    def rows(self) -> np.ndarray:
        """(n, D) unit rows, void ones zero."""
        return self.plain.through(self.whitening).rows


class WhitenedScores:
    """Scores of whitened unit queries (Q, D), whichever way they were whitened, with whitened candidates."""

    def __init__(self, queries: np.ndarray, candidates: WhitenedRows, *, device: str = "cpu") -> None:
        whitening = candidates.whitening
        rows = candidates.plain.rows
        turned = np.asarray(queries, rows.dtype) @ whitening.matrix.astype(rows.dtype, copy=False)
        length = np.sqrt(np.einsum("ij,ij->i", turned, turned, dtype=np.float64))
        length[length == 0] = 1  # a void query: similar to nothing
        turned /= length[:, None].astype(turned.dtype)
        self._plain = RowScores(turned, rows, device=device)
        self._offset = np.einsum("ij,j->i", turned, whitening.mean, dtype=np.float64)
        self._query_norm = 1 / length
        self._void = np.flatnonzero(candidates.void)
        self._norm = np.where(candidates.void, 1.0, candidates.lengths)
        self.candidate_norm = self._norm.astype(np.float32)
        self.n_queries, self.n_candidates = self._plain.n_queries, self._plain.n_candidates

    def tiles(self, queries: np.ndarray | None = None) -> Iterator[Tile]:
        offsets, norms = (part if queries is None else part[queries] for part in (self._offset, self._query_norm))
        offsets, norms = offsets.astype(np.float32), norms.astype(np.float32)
        for tile in self._plain.tiles(queries):
            rows, stop = slice(tile.first, tile.first + len(tile.values)), tile.start + tile.values.shape[1]
            tile.values[:] -= offsets[rows, None]
            tile.values[:, self._void[(self._void >= tile.start) & (self._void < stop)] - tile.start] = 0
            yield replace(
                tile,
                error=tile.error + _ROUNDING,
                query_norm=norms[rows],
                candidate_norm=self.candidate_norm[tile.start : stop],
            )

    def rough(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        return self._cosine(self._plain.rough(queries, candidates), queries, candidates)

    def pairs(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        return rounded(self._cosine(self._plain.pairs(queries, candidates), queries, candidates))

    def block(self, queries: np.ndarray, start: int, stop: int) -> np.ndarray:
        values = self._plain.block(queries, start, stop)
        return rounded(self._cosine(values, queries[:, None], np.arange(start, stop)))

    def _cosine(self, values: np.ndarray, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        cosine = (values - self._offset[queries]) / (self._query_norm[queries] * self._norm[candidates])
        cosine[np.broadcast_to(np.isin(candidates, self._void), cosine.shape)] = 0
        return cosine
