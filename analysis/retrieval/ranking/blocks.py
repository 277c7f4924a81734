"""Rows that do not fit into memory: read and transformed in blocks, and the guard that says when.

Nothing of size C x D or Q x C is held: statistics are summed in one pass over the candidates, ranks counted in another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import psutil

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.length_series import length_series
from analysis.retrieval.ranking.passes import Runner, Span, Sums
from analysis.retrieval.ranking.rows import Moments, Rows, unit_rows
from analysis.retrieval.ranking.transforms import Transform
from analysis.retrieval.realign import Statistics, statistics
from analysis.retrieval.task import RetrievalSpace

BLOCK = 8192  # rows of one reading while statistics are summed: 117 MB at D = 3584
SHARE = 0.5  # of the free memory that the ordinary way may take


def fits_in_memory(space: RetrievalSpace, *, memory: int | None = None) -> bool:
    """Whether similarities and rows of a task take no more than half of the free memory (`memory` bytes instead). The one
    guard of everything that evaluates: what does not fit is measured in blocks."""
    if space.read_rows is None or not space.n_queries or not space.n_candidates:
        return True
    return bytes_needed(space) <= (SHARE * psutil.virtual_memory().available if memory is None else memory)


def bytes_needed(space: RetrievalSpace) -> int:
    """Of a task that is held whole: all similarities, and the rows as read, as unit rows, transformed, and once more."""
    assert space.read_rows is not None
    width = space.read_rows("queries", "mean", np.zeros(1, np.int64)).shape[1]
    return 4 * space.n_queries * space.n_candidates + 16 * (space.n_queries + space.n_candidates) * width


def measured_statistics(space: RetrievalSpace, side: str, variant: str) -> Statistics | None:
    """Mean and covariance of the unit embeddings of one side, in blocks where they are many; None below two samples."""
    n = space.n_queries if side == "queries" else space.n_candidates
    if n < 2:
        return None
    if space.read_rows is None or n <= BLOCK:
        return statistics(space.rows(side, variant))
    return BlockRows.of(space, side, variant).statistics()


def support_lengths(space: RetrievalSpace, side: str, variant: str, of: Statistics) -> np.ndarray | None:
    """The `length_series` of the unit embeddings of one side, whose statistics are `of`; None where some have no
    direction, for the statistics are then not those of all rows."""
    n = space.n_queries if side == "queries" else space.n_candidates
    read = space.read_rows or (lambda side, variant, ids: space.rows(side, variant)[ids])
    found = []
    for start in range(0, n, BLOCK):
        rows, void = unit_rows(read(side, variant, np.arange(start, min(start + BLOCK, n))), dtype=np.float64)
        if void.any():
            return None
        found.append(length_series(rows, of.mean, of.spectrum))
    return np.concatenate(found, axis=1)


class BlockRows(Rows):
    """Unit rows of one side of a space after some transforms, made when they are read."""

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], n: int, width: int, steps: tuple[Transform, ...] = ()):
        self._read, self._n, self._width, self._steps = read, n, width, steps
        self.parts, self.what, self.starts = [], "rows", np.array([0, n])

    @staticmethod
    def of(space: RetrievalSpace, side: str, variant: str) -> BlockRows:
        assert space.read_rows is not None
        read = partial(space.read_rows, side, variant)
        n = space.n_queries if side == "queries" else space.n_candidates
        return BlockRows(read, n, read(np.zeros(1, np.int64)).shape[1])

    def through(self, transform: Transform) -> BlockRows:
        return BlockRows(self._read, self._n, self._width, (*self._steps, transform))

    @property
    def width(self) -> int:
        return self._width

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float64)

    def read(self, start: int, stop: int, dtype: type[np.floating]) -> np.ndarray:
        return np.ascontiguousarray(self._rows(np.arange(start, stop))[0], dtype=dtype)

    def take(self, ids: np.ndarray, dtype: type[np.floating] = np.float64) -> np.ndarray:
        distinct, place = np.unique(ids, return_inverse=True)  # so that equal ids get equal rows, to the last bit
        return self._rows(distinct)[0][place].astype(dtype, copy=False)

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """(every row, which are void): for the side that does fit."""
        parts = [self._rows(np.arange(start, stop)) for start, stop in self.spans(BLOCK)]
        return np.concatenate([rows for rows, _ in parts]), np.concatenate([void for _, void in parts])

    def statistics(self) -> Statistics:
        """Mean and covariance (N - 1) of the rows that have a direction, one pass."""
        sums = self.moments()
        if sums.n < 2:
            raise RetrievalError(f"Whitening was asked for with {sums.n} samples; expected two or more.")
        return Statistics(sums.mean, sums.covariance, sums.n)

    def moments(self, runner: Runner | None = None, key: str = "") -> Moments:
        """One pass. key: what tells these rows from others of the task, where the runner keeps sums."""
        return _moments((runner or Runner()).run(_MomentsPass(self, key)))

    def moments_of(self, span: Span) -> Moments:
        """Of the rows in a span that have a direction."""
        shift: np.ndarray | None = None
        n, total, scatter = 0, np.zeros(self._width), np.zeros((self._width, self._width))
        for start in range(*span, BLOCK):
            rows, void = self._rows(np.arange(start, min(start + BLOCK, span[1])))
            live = rows[~void] if void.any() else rows
            if shift is None and len(live):
                shift = live.mean(axis=0)  # near the mean: nothing cancels in the covariance
            if shift is not None:
                centred = live - shift
                n, total = n + len(live), total + centred.sum(axis=0)
                scatter += centred.T @ centred
        return Moments(n, np.zeros(self._width) if shift is None else shift, total, scatter)

    def _rows(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, void = unit_rows(self._read(ids), dtype=np.float64)
        for step in self._steps:
            rows, empty = step(rows)
            void |= empty
            rows[void] = 0  # a step that adds something must not give a void row a direction
        return rows, void


@dataclass(frozen=True)
class _MomentsPass:
    rows: BlockRows
    key: str
    title: str = "Mean and covariance"

    @property
    def n(self) -> int:
        return len(self.rows)

    def part(self, span: Span) -> Sums:
        return _sums(self.rows.moments_of(span))

    def joined(self, first: Sums, then: Sums) -> Sums:
        one, other = _moments(first), _moments(then)
        if not one.n or not other.n:  # no row with a direction: the shift is no mean of anything
            return first if one.n else then
        return _sums(one.joined(other))


def _sums(found: Moments) -> Sums:
    return {"n": np.array(found.n), "shift": found.shift, "total": found.total, "scatter": found.scatter}


def _moments(sums: Sums) -> Moments:
    return Moments(int(sums["n"]), sums["shift"], sums["total"], sums["scatter"])
