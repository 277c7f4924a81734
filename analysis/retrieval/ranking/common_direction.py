"""Rows split into the direction that all of them share and the rest, so that float32 is spent on what differs.

Embeddings of an MLLM have cosines of 0.9 and more with each other. A float32 product of such rows is as exact as 0.9
allows, but what remains after a removal may be a hundred times smaller. With x = along * m + rest, m a unit vector,
q·c = rest_q·rest_c + along_q along_c, and the error of the float32 part shrinks with the product of the rests.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from analysis.retrieval.ranking.product import Products
from analysis.retrieval.ranking.rows import Rows
from analysis.retrieval.ranking.similarities import CANDIDATE_BLOCK, QUERY_BLOCK, RowScores

_SAMPLE, _BLOCK = 2048, 1024
_PIECE = 64  # rows that stay in the processor's cache between two passes over them


class Split(NamedTuple):
    """One side: rows (n, D) as given, along (n,) and squares (n,) of the rests, float64."""

    rows: Rows
    along: np.ndarray
    squares: np.ndarray


class Deflated:
    """Queries and candidates without their common direction, and the similarities of what is left."""

    def __init__(self, scores: RowScores) -> None:
        sides = (scores.queries, scores.candidates)
        self.direction = _common_direction(sides)
        self.queries, self.candidates = (_split(rows, self.direction) for rows in sides)
        self._device = scores.device

    @property
    def reach(self) -> float:
        """Largest product of the lengths of two rests: what errors of their products scale with."""
        return float(np.prod([np.sqrt(side.squares.max(initial=0)) for side in (self.queries, self.candidates)]))

    @property
    def shared(self) -> float:
        """Largest similarity that the common direction alone gives."""
        return float(np.prod([np.abs(side.along).max(initial=0) for side in (self.queries, self.candidates)]))

    def rest(self, side: Split, start: int, stop: int) -> np.ndarray:
        """Rests of one span, float32, or float64 where the rows are."""
        dtype = np.float64 if side.rows.dtype == np.float64 else np.float32
        along, direction = side.along[start:stop, None].astype(dtype), self.direction.astype(dtype)
        result = np.empty((stop - start, len(direction)), dtype)
        for first in range(0, stop - start, _PIECE):
            piece = slice(first, min(first + _PIECE, stop - start))
            rest = np.multiply(along[piece], direction, out=result[piece])
            np.subtract(side.rows.read(start + piece.start, start + piece.stop, dtype), rest, out=rest)
        return result

    @cached_property
    def similarity(self) -> np.ndarray:
        """(Q, C) float32 products of the rests."""
        result = np.empty((len(self.queries.rows), len(self.candidates.rows)), np.float32)
        product = Products(self._device)
        buffer = np.empty(QUERY_BLOCK * CANDIDATE_BLOCK, np.float32)
        groups = [
            (slice(*span), self.rest(self.queries, *span).astype(np.float32, copy=False))
            for span in self.queries.rows.spans(QUERY_BLOCK)
        ]
        for start, stop in self.candidates.rows.spans(CANDIDATE_BLOCK):
            chunk = self.rest(self.candidates, start, stop).astype(np.float32, copy=False)
            for part, rows in groups:
                result[part, start:stop] = product(rows, chunk, buffer)
        return result


def _common_direction(sides: tuple[Rows, ...]) -> np.ndarray:
    """(D,) unit vector, the mean of some rows of both sides; any direction gives right results, this one small rests."""
    mean = np.zeros(sides[0].width)
    for rows in sides:
        if len(rows):
            mean += rows.take(np.arange(0, len(rows), max(1, len(rows) // _SAMPLE))).mean(axis=0)
    length = np.linalg.norm(mean)
    return mean / length if length > 0 else np.eye(len(mean))[0]


def _split(rows: Rows, direction: np.ndarray) -> Split:
    along, squares = np.empty((2, len(rows)))
    for start, stop in rows.spans(_BLOCK):
        block = rows.read(start, stop, np.float64)
        along[start:stop] = block @ direction
        squares[start:stop] = np.einsum("ij,ij->i", block, block) - along[start:stop] ** 2
    return Split(rows, along, np.maximum(squares, 0))
