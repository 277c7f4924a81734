"""Similarities of all query-candidate pairs, tile by tile, with a bound on their error and an exact second look.

A float32 product differs in the last digits with the block size, the number of threads and the position of a row in its
block: identical candidates get different similarities. Ranks and lists must not depend on that. So every consumer of a
tile treats two similarities that are closer than the bound as undecided, and asks for those few pairs again in float64
(`pairs`), rounded so that equal rows are equal. Ties are then ties of the data, and go to the lower position.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.passes import Span
from analysis.retrieval.ranking.product import Products
from analysis.retrieval.ranking.rows import LARGE, Rows, RowSource, worth_compiling

QUERY_BLOCK, CANDIDATE_BLOCK = 5120, 2048  # a 42 MB tile; smaller ones cost the product more than they save its reader
_PAIR_ELEMENTS = 1 << 21  # gathered at once when pairs are computed again
_ROUGH_PAIRS = 64  # gathered rows that still lie in the cache when they are multiplied: four times as fast


@dataclass(frozen=True)
class Tile:
    """Scores of the queries first..first+b (positions in the asked-for list) with the candidates start..stop.

    The similarity is values / (query_norm * candidate_norm), the norms being 1 where they are None; `error` bounds
    the error of `values`. The buffer behind `values` is overwritten by the next tile.
    """

    first: int
    start: int
    values: np.ndarray  # (b, c) float32
    error: float
    query_norm: np.ndarray | None = None  # (b,) float32
    candidate_norm: np.ndarray | None = None  # (c,) float32


class Scores(Protocol):
    """What ranks and lists are computed from: plain rows, or cached similarities with a subspace removed."""

    n_queries: int
    n_candidates: int

    @property
    def candidate_norm(self) -> np.ndarray | None:
        """(C,) as in the tiles."""

    def tiles(self, queries: np.ndarray | None = None) -> Iterator[Tile]:
        """All tiles of some queries (default: all), candidates in the outer loop, each group of queries together."""

    def rough(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """(n,) similarities of the pairs (queries[i], candidates[i]), as good as those in a tile or better."""

    def pairs(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """(n,) float64 similarities of pairs, equal for equal rows."""

    def block(self, queries: np.ndarray, start: int, stop: int) -> np.ndarray:
        """(len(queries), stop - start) float64 similarities, equal to `pairs`."""


class RowScores:
    """Dot products of query rows with candidate rows, which need not fit into memory at once."""

    def __init__(self, queries: RowSource | Rows, candidates: RowSource | Rows, *, device: str = "cpu") -> None:
        self.queries = queries if isinstance(queries, Rows) else Rows(queries, what="queries")
        self.candidates = candidates if isinstance(candidates, Rows) else Rows(candidates, what="candidates")
        if self.queries.width != self.candidates.width:
            raise RetrievalError(
                f"Queries have {self.queries.width} dimensions and candidates {self.candidates.width}; "
                "expected embeddings of one backbone."
            )
        self.n_queries, self.n_candidates = len(self.queries), len(self.candidates)
        self.candidate_norm: np.ndarray | None = None
        self.device = device
        self._products = Products(device)
        self._span = (0, self.n_candidates)

    def within(self, span: Span) -> Self:
        """The same, of which the tiles hold the candidates of a span alone, at the positions that they have."""
        part = copy(self)
        part._span = span
        return part

    def tiles(self, queries: np.ndarray | None = None) -> Iterator[Tile]:
        if queries is None:
            spans = self.queries.spans(QUERY_BLOCK)
            groups = [(start, self.queries.read(start, stop, np.float32)) for start, stop in spans]
        else:
            groups = [
                (first, self.queries.take(queries[first : first + QUERY_BLOCK], np.float32))
                for first in range(0, len(queries), QUERY_BLOCK)
            ]
        reach = [largest_norm(rows, first, "query") for first, rows in groups]
        buffer = np.empty(QUERY_BLOCK * CANDIDATE_BLOCK, np.float32)
        for start, stop in self._blocks():
            chunk = self.candidates.read(start, stop, np.float32)
            size = largest_norm(chunk, start, "candidate") * error_bound(self.candidates.width)
            for (first, rows), norm in zip(groups, reach, strict=True):
                yield Tile(first, start, self._products(rows, chunk, buffer), norm * size)

    def _blocks(self) -> Iterator[Span]:
        first, last = self._span
        for start, stop in self.candidates.spans(CANDIDATE_BLOCK):
            if start < last and stop > first:
                yield max(start, first), min(stop, last)

    def rough(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        parts = [*self.queries.parts, *self.candidates.parts]
        plain = len(parts) == 2 and all(type(part) is np.ndarray and part.dtype == np.float32 for part in parts)
        if plain and worth_compiling(len(queries) * self.queries.width, LARGE):
            from analysis.retrieval.ranking.rank_kernels import pair_products

            return pair_products(parts[0], parts[1], queries, candidates)
        result = np.empty(len(queries), np.float32)
        for start in range(0, len(queries), _ROUGH_PAIRS):
            part = slice(start, start + _ROUGH_PAIRS)
            q, c = self.queries.take(queries[part], np.float32), self.candidates.take(candidates[part], np.float32)
            result[part] = np.vecdot(q, c)  # off by some 1e-8, a hundredth of `error_bound`
        return result

    def pairs(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        result = np.empty(len(queries))
        for part in pair_slices(len(queries), self.queries.width):
            q, c = self.queries.take(queries[part]), self.candidates.take(candidates[part])
            result[part] = np.einsum("ij,ij->i", q, c)
        return rounded(result)

    def block(self, queries: np.ndarray, start: int, stop: int) -> np.ndarray:
        rows = self.candidates.take(np.arange(start, stop))
        return rounded(self.queries.take(queries) @ rows.T)


class QuerySubset:
    """Some queries of other scores, as if they were all."""

    def __init__(self, scores: Scores, queries: np.ndarray) -> None:
        self._scores, self._queries = scores, np.asarray(queries, np.int64)
        self.n_queries, self.n_candidates = len(self._queries), scores.n_candidates
        self.candidate_norm = scores.candidate_norm

    def tiles(self, queries: np.ndarray | None = None) -> Iterator[Tile]:
        return self._scores.tiles(self._queries if queries is None else self._queries[queries])

    def rough(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        return self._scores.rough(self._queries[queries], candidates)

    def pairs(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        return self._scores.pairs(self._queries[queries], candidates)

    def block(self, queries: np.ndarray, start: int, stop: int) -> np.ndarray:
        return self._scores.block(self._queries[queries], start, stop)


class OneQuery(QuerySubset):
    """One query of other scores. Its tiles are computed once: a list and the ranks beside it look at the same ones."""

    def __init__(self, scores: Scores, query: int) -> None:
        super().__init__(scores, np.array([query]))
        self._kept: list[Tile] = []

    def tiles(self, queries: np.ndarray | None = None) -> Iterator[Tile]:
        if not self._kept:
            self._kept = [replace(tile, values=tile.values.copy()) for tile in super().tiles()]
        return iter(self._kept)


def error_bound(width: int) -> float:
    """How far a float32 dot product of two unit vectors may be off.

    Measured maximum over 75 million pairs at D = 3584, vectors with a common direction (the bad case): 4.3e-7. The
    error grows with the square root of the width; the bound keeps a factor of four or more in hand.
    """
    return 2e-6 * max(1.0, (width / 4096) ** 0.5)


def rounded(similarity: np.ndarray) -> np.ndarray:
    """float64 similarities without their last digits, so that two ways to add up the same row agree."""
    return np.round(similarity, 12)


def pair_slices(n: int, width: int) -> Iterator[slice]:
    step = max(1, _PAIR_ELEMENTS // max(width, 1))
    return (slice(start, start + step) for start in range(0, n, step))


def largest_norm(rows: np.ndarray, first: int, what: str) -> float:
    """Longest row of a block. RetrievalError when one is not finite."""
    squares = np.einsum("ij,ij->i", rows, rows)
    if not np.isfinite(squares).all():
        row = first + int(np.flatnonzero(~np.isfinite(squares))[0])
        raise RetrievalError(
            f"The embedding of {what} {row} holds NaN or infinity; expected unit rows: embed it again."
        )
    return float(np.sqrt(squares.max(initial=0.0)))
