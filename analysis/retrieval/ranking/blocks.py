"""Tasks whose candidates do not fit into memory: the same interventions and ranks, from rows that are read in blocks.

Nothing of size C x D or Q x C is held: statistics are summed in one pass over the candidates, ranks counted in another.
Pooling, removal, principal components, centring and ReAlign work this way, in any order. Concept edits, concept space and
hybrids need the codes or lists of all candidates at once and are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.intervention import Intervention
from analysis.retrieval.interventions.linear_steps import leading_directions, removal_basis
from analysis.retrieval.interventions.steps import Centring, PrincipalComponents, ReAlign, Removal, Step
from analysis.retrieval.ranking.length_series import length_series
from analysis.retrieval.ranking.ranks import TargetRanks, target_ranks
from analysis.retrieval.ranking.rows import Rows, unit_rows
from analysis.retrieval.ranking.similarities import RowScores
from analysis.retrieval.ranking.transforms import CentredAt, Transform, WithoutSubspace
from analysis.retrieval.realign import Statistics, statistics
from analysis.retrieval.task import SIDES, RetrievalSpace

BLOCK = 8192  # rows of one reading while statistics are summed: 117 MB at D = 3584
SHARE = 0.5  # of the free memory that the ordinary way may take
FREE_UNKNOWN = 8 << 30  # bytes, where the system does not say how much memory is free


def is_large(space: RetrievalSpace, *, memory: int | None = None) -> bool:
    """Whether similarities and rows of a task would take more than half of the free memory (`memory` bytes instead)."""
    if space.read_rows is None or not space.n_queries or not space.n_candidates:
        return False
    width = space.read_rows("queries", "mean", np.zeros(1, np.int64)).shape[1]
    rows = (space.n_queries + space.n_candidates) * width
    needed = 4 * space.n_queries * space.n_candidates + 4 * 4 * rows  # as read, as unit rows, transformed, and one more
    return needed > (SHARE * _free_memory() if memory is None else memory)


def block_ranks(
    space: RetrievalSpace, intervention: Intervention, *, device: str = "cpu"
) -> tuple[TargetRanks, np.ndarray]:
    """`evaluate.ranks_under` without ever holding the candidates: (ranks of all targets, queries without a direction).

    RetrievalError for steps that need all candidates at once.
    """
    if intervention.edit or intervention.concept_space or intervention.hybrid:
        raise RetrievalError(
            f"{intervention.label!r} needs all {space.n_candidates:,} candidates in memory, more than is free; use a machine "
            "with more memory, or pooling, removal, components, centring and ReAlign, which work in blocks."
        )
    sides = {side: BlockRows.of(space, side, getattr(intervention.pool, side)) for side in SIDES}
    for step in intervention.linear:
        transforms = _fit(step, sides["queries"], sides["candidates"], space)
        sides = {side: sides[side].through(transform) for side, transform in zip(SIDES, transforms, strict=True)}
    queries, void = sides["queries"].all()
    scores = RowScores(queries, sides["candidates"], device=device)
    return target_ranks(scores, space.qrels).losing(void), void


def support_statistics(space: RetrievalSpace, side: str, variant: str) -> Statistics | None:
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

    def moments(self) -> Moments:
        shift: np.ndarray | None = None
        n, total, scatter = 0, np.zeros(self._width), np.zeros((self._width, self._width))
        for rows in self._live():
            shift = rows.mean(axis=0) if shift is None else shift  # near the mean: nothing cancels in the covariance
            centred = rows - shift
            n, total = n + len(rows), total + centred.sum(axis=0)
            scatter += centred.T @ centred
        return Moments(n, np.zeros(self._width) if shift is None else shift, total, scatter)

    def _live(self) -> Iterator[np.ndarray]:
        for start, stop in self.spans(BLOCK):
            rows, void = self._rows(np.arange(start, stop))
            yield rows[~void] if void.any() else rows

    def _rows(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, void = unit_rows(self._read(ids), dtype=np.float64)
        for step in self._steps:
            rows, empty = step(rows)
            void |= empty
            rows[void] = 0  # a step that adds something must not give a void row a direction
        return rows, void


@dataclass(frozen=True)
class Moments:
    """Sums over n rows x: total = sum (x - shift), scatter = sum (x - shift)(x - shift)^T."""

    n: int
    shift: np.ndarray
    total: np.ndarray
    scatter: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.shift + self.total / max(self.n, 1)

    @property
    def covariance(self) -> np.ndarray:
        offset = self.total / max(self.n, 1)
        return (self.scatter - self.n * np.outer(offset, offset)) / max(self.n - 1, 1)

    def about(self, point: np.ndarray) -> np.ndarray:
        """sum (x - point)(x - point)^T."""
        offset = self.mean - point
        return self.covariance * max(self.n - 1, 1) + self.n * np.outer(offset, offset)


def _fit(step: Step, queries: BlockRows, candidates: BlockRows, space: RetrievalSpace) -> tuple[Transform, Transform]:
    """As `linear_steps.fit_step`, from sums."""
    if isinstance(step, Removal):
        projector = WithoutSubspace(removal_basis(step, space))
        return projector, projector
    sums = queries.moments(), candidates.moments()
    together = (sums[0].mean * sums[0].n + sums[1].mean * sums[1].n) / max(sums[0].n + sums[1].n, 1)
    if isinstance(step, PrincipalComponents):
        about = together if step.centred else np.zeros(queries.width)
        projector = WithoutSubspace(leading_directions(sums[0].about(about) + sums[1].about(about), step.n))
        return projector, projector
    if isinstance(step, Centring):
        means = (together, together) if _one_mean(step, space) else (sums[0].mean, sums[1].mean)
        return CentredAt(means[0]), CentredAt(means[1])
    assert isinstance(step, ReAlign)
    return _whitening(step, sums, together, space)


def _one_mean(step: Centring, space: RetrievalSpace) -> bool:
    """Whether both sides are centred at one mean. RetrievalError where a side mixes modalities, whose means differ."""
    if step.means != "modality":
        return step.means == "joint"
    kinds = [np.unique(space.modalities(side)) for side in SIDES]
    if max(len(kind) for kind in kinds) > 1:
        raise RetrievalError(
            f"{step.label!r} of a pool that mixes modalities needs all {space.n_candidates:,} candidates in memory, more than "
            "is free; expected a pool of one modality: use the task's own pool or a machine with more memory."
        )
    return bool(kinds[0][0] == kinds[1][0])


def _whitening(
    step: ReAlign, sums: tuple[Moments, Moments], together: np.ndarray, space: RetrievalSpace
) -> tuple[Transform, Transform]:
    n = sums[0].n + sums[1].n
    joint = Statistics(together, (sums[0].about(together) + sums[1].about(together)) / max(n - 1, 1), n)
    own = [Statistics(found.mean, found.covariance, found.n) for found in sums]
    stored = space.support("mean") if step.statistics == "support" or sums[0].n < 2 else None
    if stored is not None:
        own[0] = Statistics(np.asarray(stored.mean), np.asarray(stored.covariance), int(stored.n))
    chosen = {
        "joint": (joint, joint),
        "queries": (own[0], own[0]),
        "candidates": (own[1], own[1]),
    }.get(step.statistics, (own[0], own[1]))
    if min(found.n for found in chosen) < 2:
        raise RetrievalError("Whitening needs two or more samples a side; expected stored statistics of queries.")
    of_queries, of_candidates = (found.whitening(step.alpha, step.eps) for found in chosen)
    return of_queries, of_candidates


def _free_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not a Linux machine
        return FREE_UNKNOWN
