"""Similarities after a subspace is removed, from cached similarities: a low-rank update instead of a new product.

With orthonormal v_1 .. v_r, s'(q, c) = (q·c - sum_j (q·v_j)(c·v_j)) / (|q'| |c'|) and |x'|² = |x|² - sum_j (x·v_j)².
The directions are nested: one projection serves every r, so moving r costs 2 Q C r operations instead of 2 Q C D.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from analysis.retrieval.removal import check_basis
from analysis.retrieval.rows import VOID, Rows
from analysis.retrieval.scoring import RowScores, Tile, error_bound, pair_slices, settled

_QUERIES, _CANDIDATES = 1500, 1024  # fastest shape of a thin product (r = 327): 6 MB tiles, 1.0 times the peak rate
_STEP = 64  # directions that are projected on at once, when r first reaches them


class Projection:
    """Coefficients of both sides along a basis (m, D) of orthonormal rows, computed as far as they are needed."""

    def __init__(self, rows: RowScores, basis: np.ndarray) -> None:
        check_basis(basis, rows.queries.width)
        self.rows = rows
        self.basis = np.asarray(basis, np.float64)
        self._ready = 0
        self._query = np.empty((rows.n_queries, len(basis)), np.float32)
        self._candidate = np.empty((rows.n_candidates, len(basis)), np.float32)
        self._squares = (_squares(rows.queries), _squares(rows.candidates))

    @property
    def rank(self) -> int:
        return len(self.basis)

    def coefficients(self, r: int) -> tuple[np.ndarray, np.ndarray]:
        """(Q, r) and (C, r) float32."""
        if r > self._ready:
            stop = min(-(-r // _STEP) * _STEP, self.rank)
            columns = slice(self._ready, stop)
            _project(self.rows.queries, self.basis[columns], self._query[:, columns])
            _project(self.rows.candidates, self.basis[columns], self._candidate[:, columns])
            self._ready = stop
        return self._query[:, :r], self._candidate[:, :r]

    def norms(self, r: int) -> tuple[np.ndarray, np.ndarray]:
        """(Q,) and (C,) float32 lengths of what is left; VOID at least, so that they can be divided by."""
        pairs = zip(self._squares, self.coefficients(r), strict=True)
        left = (squares - np.einsum("ij,ij->i", part, part) for squares, part in pairs)
        query, candidate = (np.sqrt(np.maximum(rest, VOID**2)).astype(np.float32) for rest in left)
        return query, candidate


class ProjectedScores:
    """Scores with the first r directions of a projection removed (r = 0: none). similarity: (Q, C) float32, cached."""

    def __init__(self, similarity: np.ndarray, projection: Projection, r: int) -> None:
        self.n_queries, self.n_candidates = similarity.shape
        self.r = min(r, projection.rank)
        self._similarity, self._projection, self._rows = similarity, projection, projection.rows
        self.query_norm, self.candidate_norm = projection.norms(self.r)

    @property
    def void_queries(self) -> np.ndarray:
        """(Q,) which queries lie entirely in the removed subspace."""
        suspects = np.flatnonzero(self.query_norm < 1e-2)  # float32 coefficients leave a few 1e-4 of a row that is void
        left, place = self._left(self._rows.queries, suspects)
        void = np.zeros(self.n_queries, bool)
        void[suspects] = ~left[place].any(axis=1)
        return void

    def tiles(self, queries: np.ndarray | None = None) -> Iterator[Tile]:
        for tile, _ in nested_tiles([self], queries):
            yield tile

    def rough(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        left, right = self._projection.coefficients(self.r)
        values = self._similarity[queries, candidates] - np.einsum("ij,ij->i", left[queries], right[candidates])
        return values / (self.query_norm[queries] * self.candidate_norm[candidates])

    def pairs(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        result = np.empty(len(queries))
        for part in pair_slices(len(queries), self._rows.queries.width):
            q, q_place = self._left(self._rows.queries, queries[part])
            c, c_place = self._left(self._rows.candidates, candidates[part])
            result[part] = np.einsum("ij,ij->i", q[q_place], c[c_place])
        return settled(result)

    def block(self, queries: np.ndarray, start: int, stop: int) -> np.ndarray:
        q, place = self._left(self._rows.queries, queries)
        c, _ = self._left(self._rows.candidates, np.arange(start, stop))
        return settled((q @ c.T)[place])

    def _left(self, rows: Rows, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(what is left of each distinct row in float64, of length 1 or zero; the place of each id among them)."""
        distinct, place = np.unique(ids, return_inverse=True)
        basis = self._projection.basis[: self.r]
        x = rows.take(distinct)
        x -= (x @ basis.T) @ basis
        length = np.sqrt(np.einsum("ij,ij->i", x, x))
        return x * np.where(length > VOID, 1 / np.maximum(length, VOID), 0.0)[:, None], place


def nested_tiles(scores: Sequence[ProjectedScores], queries: np.ndarray | None = None) -> Iterator[tuple[Tile, int]]:
    """(tile, which of the scores) for several r of one projection, ascending in r: each continues where the one before
    stopped, so all of them cost as much as the largest."""
    first, largest = scores[0], scores[-1]
    left, right = first._projection.coefficients(largest.r)
    similarity = first._similarity if queries is None else first._similarity[queries]
    left = left if queries is None else left[queries]
    error = 2 * error_bound(first._rows.queries.width)  # of the cached product and of the update
    rows = min(_QUERIES, max(len(similarity), 1))
    values, update = np.empty((2, rows * _CANDIDATES), np.float32)
    for start in range(0, first.n_candidates, _CANDIDATES):
        columns = slice(start, min(start + _CANDIDATES, first.n_candidates))
        for top in range(0, len(similarity), rows):
            part = slice(top, min(top + rows, len(similarity)))
            shape = (part.stop - top, columns.stop - start)
            tile = values[: shape[0] * shape[1]].reshape(shape)
            change = update[: tile.size].reshape(shape)
            known, done = similarity[part, columns], 0
            for index, score in enumerate(scores):
                np.matmul(left[part, done : score.r], right[columns, done : score.r].T, out=change)
                np.subtract(known, change, out=tile)
                known, done = tile, score.r
                norm = score.query_norm if queries is None else score.query_norm[queries]
                yield Tile(top, start, tile, error, norm[part], score.candidate_norm[columns]), index


def _project(rows: Rows, basis: np.ndarray, out: np.ndarray) -> None:
    exact = rows.dtype == np.float64
    directions = np.ascontiguousarray(basis.T, dtype=np.float64 if exact else np.float32)
    for start, stop in rows.spans(4096):
        out[start:stop] = rows.read(start, stop, np.float64 if exact else np.float32) @ directions


def _squares(rows: Rows) -> np.ndarray:
    parts = [rows.read(start, stop, np.float32) for start, stop in rows.spans(4096)]
    return np.concatenate([np.einsum("ij,ij->i", part, part) for part in parts] or [np.empty(0, np.float32)])
