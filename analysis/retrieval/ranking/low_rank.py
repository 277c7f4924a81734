"""Similarities after a subspace is removed or means are subtracted, from cached similarities: a low-rank update instead of a
new product.

With orthonormal v_1 .. v_r, s'(q, c) = (q·c - sum_j (q·v_j)(c·v_j)) / (|q'| |c'|) and |x'|² = |x|² - sum_j (x·v_j)².
The directions are nested: one projection serves every r, so moving r costs 2 Q C r operations instead of 2 Q C D.

Rows come as x = a m + y (see `common_direction`). With w_j = v_j·m, k = 1 - sum_j w_j² and b = sum_j w_j (y·v_j):
q·c - sum_j (q·v_j)(c·v_j) = y_q·y_c - sum_j (y_q·v_j)(y_c·v_j) - a_q b_c - b_q a_c + k a_q a_c, in which nothing large
cancels when the removed directions contain the common one.

With means b m + n subtracted instead, one of each group g of rows, (q - mean)·(c - mean) = (y_q - n_g)·(y_c - n_h)
+ (a_q - b_g)(a_c - b_h), which differs from y_q·y_c by a product of as many columns as there are groups, and two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from analysis.retrieval.ranking.common_direction import Deflated, Split
from analysis.retrieval.ranking.rows import VOID, Rows
from analysis.retrieval.ranking.similarities import Tile, error_bound, pair_slices, rounded
from analysis.retrieval.ranking.transforms import Means
from analysis.retrieval.removal import check_basis

_QUERIES, _CANDIDATES = 1500, 1024  # fastest shape of a thin product (r = 327): 6 MB tiles
_STEP = 64  # directions that are projected on at once, when r first reaches them
_ROUNDING = 2.4e-7  # of values around 1 that are added up in float32: four units in the last place


class Projection:
    """Coefficients of both sides along a basis (m, D) of orthonormal rows, computed as far as they are needed."""

    def __init__(self, rows: Deflated, basis: np.ndarray) -> None:
        check_basis(basis, rows.queries.rows.width)
        self.rows = rows
        self.basis = np.asarray(basis, np.float64)
        self.shared = self.basis @ rows.direction  # w
        self._ready = 0
        self._query = np.empty((len(rows.queries.rows), len(basis)), np.float32)
        self._candidate = np.empty((len(rows.candidates.rows), len(basis)), np.float32)

    @property
    def rank(self) -> int:
        return len(self.basis)

    @property
    def nbytes(self) -> int:
        return self.basis.nbytes + self._query.nbytes + self._candidate.nbytes

    def coefficients(self, r: int) -> tuple[np.ndarray, np.ndarray]:
        """(Q, r) and (C, r) float32: y·v_j."""
        if r > self._ready:
            stop = min(-(-r // _STEP) * _STEP, self.rank)
            for side, out in ((self.rows.queries, self._query), (self.rows.candidates, self._candidate)):
                self._project(side, slice(self._ready, stop), out)
            self._ready = stop
        return self._query[:, :r], self._candidate[:, :r]

    def _project(self, side: Split, columns: slice, out: np.ndarray) -> None:
        directions = np.ascontiguousarray(self.basis[columns].T)
        for start, stop in side.rows.spans(2048):
            rest = self.rows.rest(side, start, stop)
            out[start:stop, columns] = rest @ directions.astype(rest.dtype, copy=False)


class ProjectedScores:
    """Scores with the first r directions of a projection removed (r = 0: none)."""

    def __init__(self, projection: Projection, r: int) -> None:
        self.r = min(r, projection.rank)
        self.projection, self._rows = projection, projection.rows
        self.n_queries, self.n_candidates = len(self._rows.queries.rows), len(self._rows.candidates.rows)
        shared = projection.shared[: self.r]
        kept = 1 - float(shared @ shared)  # k: how much of the common direction stays
        (left, right), sides = projection.coefficients(self.r), (self._rows.queries, self._rows.candidates)
        both = [part @ shared.astype(np.float32) for part in (left, right)]  # b
        self.query_norm, self.candidate_norm = (
            _norms(side, part, b, kept) for side, part, b in zip(sides, (left, right), both, strict=True)
        )
        # What is subtracted beside the coefficients: a_q (b_c - k/2 a_c) + (b_q - k/2 a_q) a_c.
        self.query_shift, self.candidate_shift = (
            (b - kept / 2 * side.along).astype(np.float32) for side, b in zip(sides, both, strict=True)
        )
        self.error = 2 * error_bound(len(self._rows.direction)) * self._rows.reach + _ROUNDING * self._rows.shared

    @property
    def void_queries(self) -> np.ndarray:
        """(Q,) which queries lie entirely in the removed subspace."""
        suspects = np.flatnonzero(self.query_norm < 1e-2)  # a void row keeps a few 1e-4 of float32's rounding
        _, _, length = self._exact(self._rows.queries.rows, suspects)
        void = np.zeros(self.n_queries, bool)
        void[suspects] = length <= VOID
        return void

    def tiles(self, queries: np.ndarray | None = None) -> Iterator[Tile]:
        for tile, _ in nested_tiles([self], queries):
            yield tile

    def rough(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        left, right = self.projection.coefficients(self.r)
        values = self._rows.similarity[queries, candidates].astype(np.float64)
        values -= np.einsum("ij,ij->i", left[queries], right[candidates])
        values -= self._rows.queries.along[queries] * self.candidate_shift[candidates]
        values -= self.query_shift[queries] * self._rows.candidates.along[candidates]
        return values / (self.query_norm[queries].astype(np.float64) * self.candidate_norm[candidates])

    def pairs(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        result = np.empty(len(queries))
        for part in pair_slices(len(queries), len(self._rows.direction)):
            (q_ids, q_place), (c_ids, c_place) = (
                np.unique(ids[part], return_inverse=True) for ids in (queries, candidates)
            )
            q, q_along, q_length = self._exact(self._rows.queries.rows, q_ids)
            c, c_along, c_length = self._exact(self._rows.candidates.rows, c_ids)
            value = np.einsum("ij,ij->i", q[q_place], c[c_place])
            value -= np.einsum("ij,ij->i", q_along[q_place], c_along[c_place])
            result[part] = _cosine(value, q_length[q_place], c_length[c_place])
        return rounded(result)

    def block(self, queries: np.ndarray, start: int, stop: int) -> np.ndarray:
        q, q_along, q_length = self._exact(self._rows.queries.rows, queries)
        c, c_along, c_length = self._exact(self._rows.candidates.rows, np.arange(start, stop))
        return rounded(_cosine(q @ c.T - q_along @ c_along.T, q_length[:, None], c_length[None, :]))

    def _exact(self, rows: Rows, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, their coefficients, the length of what is left) in float64."""
        x = rows.take(ids)
        along = x @ self.projection.basis[: self.r].T
        left = np.einsum("ij,ij->i", x, x) - np.einsum("ij,ij->i", along, along)
        return x, along, np.sqrt(np.maximum(left, 0))


def nested_tiles(scores: Sequence[ProjectedScores], queries: np.ndarray | None = None) -> Iterator[tuple[Tile, int]]:
    """(tile, which of the scores) for several r of one projection, ascending in r: each continues where the one before
    stopped, so all of them cost as much as the largest."""
    first = scores[0]
    chosen = slice(None) if queries is None else queries
    similarity = first._rows.similarity[chosen]
    factors, before = [], None
    for score in scores:
        left, right = _factors(score, before)
        factors.append((np.ascontiguousarray(left[chosen]), right))
        before = score
    norms = [(score.query_norm[chosen], score.candidate_norm) for score in scores]
    yield from _updated(similarity, factors, norms, [score.error for score in scores])


def _updated(
    similarity: np.ndarray,
    factors: Sequence[tuple[np.ndarray, np.ndarray]],
    norms: Sequence[tuple[np.ndarray, np.ndarray]],
    errors: Sequence[float],
) -> Iterator[tuple[Tile, int]]:
    """(tile, which of the factors): the similarities less the products of the first, of the first two factors and so on."""
    rows, n_candidates = min(_QUERIES, max(len(similarity), 1)), similarity.shape[1]
    values, update = np.empty((2, rows * _CANDIDATES), np.float32)
    for start in range(0, n_candidates, _CANDIDATES):
        columns = slice(start, min(start + _CANDIDATES, n_candidates))
        for top in range(0, len(similarity), rows):
            part = slice(top, min(top + rows, len(similarity)))
            shape = (part.stop - top, columns.stop - start)
            tile = values[: shape[0] * shape[1]].reshape(shape)
            change = update[: tile.size].reshape(shape)
            known = similarity[part, columns]
            for index, ((left, right), (query_norm, candidate_norm)) in enumerate(zip(factors, norms, strict=True)):
                np.matmul(left[part], right[columns].T, out=change)
                np.subtract(known, change, out=tile)
                known = tile
                yield Tile(top, start, tile, errors[index], query_norm[part], candidate_norm[columns]), index


def _factors(score: ProjectedScores, before: ProjectedScores | None) -> tuple[np.ndarray, np.ndarray]:
    """(Q, n) and (C, n) float32 whose product is what has to be subtracted beyond what `before` subtracted."""
    done = 0 if before is None else before.r
    left, right = score.projection.coefficients(score.r)
    rows = score.projection.rows
    query_shift, candidate_shift = score.query_shift, score.candidate_shift
    if before is not None:
        query_shift, candidate_shift = query_shift - before.query_shift, candidate_shift - before.candidate_shift
    along = (side.along.astype(np.float32)[:, None] for side in (rows.queries, rows.candidates))
    query_along, candidate_along = along
    return (
        np.concatenate([left[:, done:], query_along, query_shift[:, None]], axis=1),
        np.concatenate([right[:, done:], candidate_shift[:, None], candidate_along], axis=1),
    )


class CentredScores:
    """Scores with a mean subtracted from each row of both sides."""

    def __init__(self, rows: Deflated, queries: Means, candidates: Means) -> None:
        self._rows, self._sides = rows, (queries, candidates)
        splits = (rows.queries, rows.candidates)
        self.n_queries, self.n_candidates = (len(split.rows) for split in splits)
        self._along, rests, crossed, lengths = [], [], [], []
        for split, own, other in zip(splits, self._sides, self._sides[::-1], strict=True):
            along = own.means @ rows.direction  # b of each group
            rests.append(own.means - along[:, None] * rows.direction)
            self._along.append(split.along - along[own.kind])
            other_rests = other.means - (other.means @ rows.direction)[:, None] * rows.direction
            products, length = self._pass(split, own.kind, rests[-1], other_rests)
            crossed.append(products)  # (n, G of the other side): (y - n_g)·n_h
            lengths.append(np.sqrt(length + self._along[-1] ** 2))
        self._lengths = lengths
        self.query_norm, self.candidate_norm = (np.maximum(length, VOID).astype(np.float32) for length in lengths)
        # y_q·n_h + n_g·y_c - n_g·n_h = (y_q - n_g)·n_h + n_g·(y_c - n_h) + n_g·n_h, of which the last two terms go together.
        query_kind, candidate_kind = (np.eye(len(own.means))[own.kind] for own in self._sides)
        of_candidates = crossed[1] + candidate_kind @ (rests[1] @ rests[0].T)
        self._left, self._right = (
            np.concatenate(parts, axis=1).astype(np.float32)
            for parts in (
                (crossed[0], query_kind, -self._along[0][:, None]),
                (candidate_kind, of_candidates, self._along[1][:, None]),
            )
        )
        reach = float(np.prod([np.sqrt(split.squares.max(initial=0)) for split in splits]))
        size = float(np.abs(self._left).max(initial=0) * np.abs(self._right).max(initial=0))
        self.error = 2 * error_bound(len(rows.direction)) * reach + self._left.shape[1] * _ROUNDING * size

    def _pass(
        self, split: Split, kind: np.ndarray, own: np.ndarray, other: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """((n, G) products of the rests less their group's with the other side's, (n,) their squared lengths)"""
        products, squares = np.empty((len(split.rows), len(other))), np.empty(len(split.rows))
        for start, stop in split.rows.spans(1024):
            rest = self._rows.rest(split, start, stop) - own[kind[start:stop]]
            products[start:stop] = rest @ other.T
            squares[start:stop] = np.einsum("ij,ij->i", rest, rest)
        return products, squares

    @property
    def void_queries(self) -> np.ndarray:
        return self._lengths[0] <= VOID

    def tiles(self, queries: np.ndarray | None = None) -> Iterator[Tile]:
        chosen = slice(None) if queries is None else queries
        norms = [(self.query_norm[chosen], self.candidate_norm)]
        for tile, _ in _updated(
            self._rows.similarity[chosen], [(self._left[chosen], self._right)], norms, [self.error]
        ):
            yield tile

    def rough(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        values = self._rows.similarity[queries, candidates].astype(np.float64)
        values -= np.einsum("ij,ij->i", self._left[queries].astype(np.float64), self._right[candidates])
        return values / (self.query_norm[queries].astype(np.float64) * self.candidate_norm[candidates])

    def pairs(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        result = np.empty(len(queries))
        for part in pair_slices(len(queries), len(self._rows.direction)):
            q, c = (self._moved(side, ids[part]) for side, ids in enumerate((queries, candidates)))
            result[part] = np.einsum("ij,ij->i", q, c)
        return rounded(result)

    def block(self, queries: np.ndarray, start: int, stop: int) -> np.ndarray:
        return rounded(self._moved(0, queries) @ self._moved(1, np.arange(start, stop)).T)

    def _moved(self, side: int, ids: np.ndarray) -> np.ndarray:
        """(n, D) float64 unit rows less their mean, 0 where nothing is left."""
        own, split = self._sides[side], (self._rows.queries, self._rows.candidates)[side]
        moved = split.rows.take(ids) - own.means[own.kind[ids]]
        length = np.linalg.norm(moved, axis=1)
        void = length <= VOID
        return np.where(void[:, None], 0, moved / np.where(void, 1, length)[:, None])


def _norms(side: Split, coefficients: np.ndarray, shared: np.ndarray, kept: float) -> np.ndarray:
    """(n,) float32 lengths of what is left, at least VOID, so that they can be divided by."""
    left = side.squares - np.einsum("ij,ij->i", coefficients, coefficients)
    left += side.along * (kept * side.along - 2 * shared)
    return np.sqrt(np.maximum(left, VOID**2)).astype(np.float32)


def _cosine(value: np.ndarray, query_length: np.ndarray, candidate_length: np.ndarray) -> np.ndarray:
    """value / lengths; 0 where one of them is void."""
    void = (query_length <= VOID) | (candidate_length <= VOID)
    return np.where(void, 0.0, value / np.where(void, 1.0, query_length * candidate_length))
