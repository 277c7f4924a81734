"""What measuring recall will take, said before it starts: what is read, memory, and the time of the arithmetic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil

from analysis.errors import RetrievalError
from analysis.retrieval.interventions import Intervention
from analysis.retrieval.ranking.blocks import bytes_needed, fits_in_memory
from analysis.retrieval.task import RetrievalSpace

_BLOCK_BYTES = 200_000_000  # that ranking in blocks takes, see docs/scale.md
_PROBE = (512, 2048)  # queries and candidates of the product that is timed


@dataclass(frozen=True)
class Forecast:
    """measurements: the base and every method, a random control once a seed; read_bytes: of all of them; whole_bytes: of a
    task held in memory; held: whether it is; seconds: of similarities, at `flops` a second as measured now, and in blocks of
    covariances and maps of rows in float64."""

    n_queries: int
    n_candidates: int
    width: int
    measurements: int
    read_bytes: int
    whole_bytes: int
    held: bool
    seconds: float
    flops: float

    def lines(self) -> list[str]:
        """The same in words."""
        free = psutil.virtual_memory().available / 1e9
        work = "similarities" if self.held else "similarities, covariances and maps of rows"
        memory = f"{self.whole_bytes / 1e9:,.2f} GB held whole" if self.held else (
            f"about {_BLOCK_BYTES / 1e9:.1f} GB in blocks; held whole it would be {self.whole_bytes / 1e9:,.1f} GB"
        )  # fmt: skip
        return [
            f"{self.n_queries:,} queries x {self.n_candidates:,} candidates x {self.width:,} dimensions, measured "
            f"{self.measurements} times: the base and every method, a random control once a seed.",
            f"Read: {self.read_bytes / 1e9:,.2f} GB of embeddings.",
            f"Memory: {memory} ({free:,.1f} GB are free).",
            f"Time: {_duration(self.seconds)} for {work}, at {self.flops / 1e9:,.0f} GFLOP/s as measured now on this machine; "
            "reading, ranks and intervals come on top.",
        ]


def forecast(space: RetrievalSpace, methods: Sequence[Intervention], *, memory: int | None = None) -> Forecast:
    """Reads one row and times one product; nothing of the task is ranked. memory: bytes that may be taken, default half of
    what is free. RetrievalError for a task without queries."""
    if space.read_rows is None or not space.n_queries or not space.n_candidates:
        raise RetrievalError("This task holds nothing to plan for; expected queries and candidates in a store.")
    row = space.read_rows("queries", "mean", np.zeros(1, np.int64))
    width, size = row.shape[1], row.dtype.itemsize
    measurements = 1 + sum(len(method.seeds()) for method in methods)
    flops = _rate(width, np.float32)
    seconds = 2.0 * space.n_queries * space.n_candidates * width * measurements / flops
    held = fits_in_memory(space, memory=memory)
    reads = 1  # what is held whole is read once
    if not held:  # every map, and every covariance that one is fitted on, is a product of all rows with a (D, D) matrix
        steps = [step for method in methods for single in method.seeds() for step in single.linear]
        passes = sum(1 + step.looks_at_rows for step in steps)
        rows = space.n_queries + space.n_candidates
        reads = measurements + sum(step.looks_at_rows for step in steps)
        seconds += 2.0 * rows * width**2 * passes / _rate(width, np.float64) if passes else 0.0
    return Forecast(
        space.n_queries, space.n_candidates, width, measurements,
        reads * (space.n_queries + space.n_candidates) * width * size, bytes_needed(space), held, seconds, flops,
    )  # fmt: skip


def _rate(width: int, dtype: type[np.floating]) -> float:
    """Operations a second of a product of that width; the best of three, the first one warms up."""
    generator = np.random.default_rng(0)
    queries, candidates = (generator.random((n, width)).astype(dtype) for n in _PROBE)
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        queries @ candidates.T
        best = min(best, time.perf_counter() - start)
    return 2.0 * _PROBE[0] * _PROBE[1] * width / best


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
