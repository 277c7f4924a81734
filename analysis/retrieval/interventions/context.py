"""What a step that maps rows is fitted on: both sides of a task in memory, or sums over rows that are never held together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.rows import Moments, Side
from analysis.retrieval.realign import Statistics, statistics

if TYPE_CHECKING:
    from analysis.retrieval.task import RetrievalSpace


@dataclass(frozen=True)
class Context:
    """What a step is fitted on. support gives the statistics of a support set of queries, or None; they come first
    where `first` says so, and otherwise stand in for missing queries. measure(side, rows) gives the statistics of a
    side's live rows; a space that keeps them passes its own."""

    space: RetrievalSpace
    queries: Side
    candidates: Side
    support: Callable[[], Statistics | None] = lambda: None
    first: bool = False
    measure: Callable[[str, np.ndarray], Statistics] = lambda side, rows: statistics(rows)

    @staticmethod
    def plain(
        space: RetrievalSpace,
        queries: Side,
        candidates: Side,
        variants: tuple[str, str],
        *,
        support: Statistics | None = None,
        stored_first: bool = False,
    ) -> Context:
        """Of a step that sees embeddings as they are: what the space keeps or stores of them may stand in. variants: of
        queries and of candidates; support: statistics given by the caller, which then come first."""
        named = dict(zip(("queries", "candidates"), variants, strict=True))
        return Context(
            space,
            queries,
            candidates,
            lambda: support or space.support(variants[0]),
            stored_first or support is not None,
            lambda side, rows: space.statistics(side, named[side], rows),
        )

    def candidate_statistics(self) -> Statistics:
        return self.measure("candidates", self.candidates.live)

    def query_statistics(self) -> Statistics:
        if len(self.queries.live) >= 2 and not self.first:
            return self.measure("queries", self.queries.live)
        stored = self.support()
        if stored is None:
            raise RetrievalError(
                f"{self.space.label or 'This space'} has no statistics to whiten queries with; expected two or more "
                "queries in the task, or a whitening as the first step."
            )
        return stored

    def query_mean(self) -> np.ndarray:
        if len(self.queries.live) and not self.first:
            return mean_of([self.queries.live])
        return np.asarray(self.query_statistics().mean, np.float64)

    def about(self, point: np.ndarray) -> np.ndarray:
        """(D, D) sum of (x - point)(x - point)^T over the live rows of both sides, from their statistics where the space
        keeps those."""
        moments = np.zeros((len(point), len(point)))
        for side, rows in (("queries", self.queries.live), ("candidates", self.candidates.live)):
            if len(rows) < 2:
                moments += (rows - point).T @ (rows - point)
                continue
            found = self.measure(side, rows)
            offset = np.asarray(found.mean, np.float64) - point
            moments += (found.n - 1) * np.asarray(found.covariance, np.float64) + found.n * np.outer(offset, offset)
        return moments

    def both(self, whose: str) -> tuple[Statistics, Statistics]:
        """(statistics of the queries, of the candidates) with their spectra: each side its "own", both the "joint" ones,
        those of the "queries" or those of the "candidates"; "support" is "own" with stored statistics of queries first.
        The spectra are most of the work and are computed one beside the other: LAPACK uses little more than one core."""
        if whose == "joint":
            joint = statistics(np.concatenate([self.queries.live, self.candidates.live]))
            return joint, joint
        of_candidates = self.query_statistics() if whose == "queries" else self.candidate_statistics()
        of_queries = of_candidates if whose in ("queries", "candidates") else self.query_statistics()
        if of_queries is not of_candidates:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda side: side.spectrum, (of_queries, of_candidates)))
        return of_queries, of_candidates


@dataclass(frozen=True)
class BlockContext:
    """Sums over the rows of both sides, as they are after the steps before. variants: stored embeddings of both sides."""

    space: RetrievalSpace
    queries: Moments
    candidates: Moments
    variants: tuple[str, str] = ("mean", "mean")

    @property
    def n(self) -> int:
        return self.queries.n + self.candidates.n

    @property
    def mean(self) -> np.ndarray:
        """(D,) of both sides together."""
        return (self.queries.mean * self.queries.n + self.candidates.mean * self.candidates.n) / max(self.n, 1)

    def about(self, point: np.ndarray) -> np.ndarray:
        """(D, D) sum of (x - point)(x - point)^T over both sides."""
        return self.queries.about(point) + self.candidates.about(point)


def mean_of(parts: Sequence[np.ndarray]) -> np.ndarray:
    """(D,) float64 mean of the rows of all parts together; 0 without rows."""
    return sum(part.sum(axis=0, dtype=np.float64) for part in parts) / max(sum(len(part) for part in parts), 1)
