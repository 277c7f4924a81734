"""The linear steps of an intervention: each is fitted on both sides of a task and gives one transform for queries and
one for candidates, which later queries pass through as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.concept_sets import concept_ids
from analysis.retrieval.interventions.steps import Centring, Pool, PrincipalComponents, ReAlign, Removal, Step
from analysis.retrieval.ranking.rows import unit_rows
from analysis.retrieval.ranking.transforms import CentredAt, Transform, WithoutSubspace, centred_by
from analysis.retrieval.realign import Statistics, statistics
from analysis.retrieval.removal import check_basis, concept_subspace
from analysis.retrieval.task import RetrievalSpace

EXACT_ELEMENTS = 1 << 25  # rows of up to this many numbers a side are kept in float64: 256 MB
_FULL_EIGH = 1024  # widths up to which a dense solver finds the leading eigenvectors; above it a Krylov one


@dataclass(frozen=True)
class Side:
    """Unit rows of one side, (n, D), and which of them have no direction and are zero, (n,)."""

    rows: np.ndarray
    void: np.ndarray

    @staticmethod
    def of(h: np.ndarray) -> Side:
        return Side(*unit_rows(h, dtype=np.float64 if h.size <= EXACT_ELEMENTS else np.float32))

    def through(self, transform: Transform) -> Side:
        rows, void = transform(self.rows)
        void = void | self.void
        if self.void.any():
            rows[void] = 0  # a step that adds something must not give a void row a direction
        return Side(rows, void)

    @property
    def live(self) -> np.ndarray:
        return self.rows[~self.void] if self.void.any() else self.rows


@dataclass(frozen=True)
class Context:
    """What a step is fitted on. support gives the statistics of a support set of queries, or None; they come first
    where `first` says so, and otherwise stand in for missing queries. measure(side, rows) gives the statistics of a
    side's live rows; a space that keeps them passes its own."""

    space: RetrievalSpace
    queries: Side
    candidates: Side
    support: Callable[[], Any] = lambda: None
    first: bool = False
    measure: Callable[[str, np.ndarray], Statistics] = lambda side, rows: statistics(rows)

    def candidate_statistics(self) -> Statistics:
        return self.measure("candidates", self.candidates.live)

    def query_statistics(self) -> Statistics:
        if len(self.queries.live) >= 2 and not self.first:
            return self.measure("queries", self.queries.live)
        stored = self.support()
        if stored is None:
            raise RetrievalError(
                f"{self.space.label or 'This space'} has no statistics to whiten queries with; expected two or more "
                "queries, or a whitening as the first step and a store with support statistics: build it again."
            )
        return Statistics(np.asarray(stored.mean), np.asarray(stored.covariance), int(stored.n))

    def query_mean(self) -> np.ndarray:
        if len(self.queries.live) and not self.first:
            return _mean([self.queries.live])
        return np.asarray(self.query_statistics().mean, np.float64)


def plain_context(
    space: RetrievalSpace,
    queries: Side,
    candidates: Side,
    pool: Pool,
    *,
    support: Any = None,
    stored_first: bool = False,
) -> Context:
    """Context of a step that sees embeddings as they are: what the space keeps or stores of them may stand in. support:
    statistics given by the caller, which then come first."""
    return Context(
        space,
        queries,
        candidates,
        lambda: support or space.support(pool.queries),
        stored_first or support is not None,
        lambda side, rows: space.statistics(side, getattr(pool, side), rows),
    )


def fit_step(step: Step, context: Context) -> tuple[Transform, Transform]:
    """(transform of queries, transform of candidates). A transform marks rows that have no direction afterwards."""
    return _FIT[type(step)](step, context)


def whitening_statistics(whose: str, context: Context) -> tuple[Statistics, Statistics]:
    """(of the queries' whitening, of the candidates'), whose: as in `steps.ReAlign`. Both spectra are computed here, the
    most of the work, one beside the other: LAPACK uses little more than one core."""
    if whose == "joint":
        joint = statistics(np.concatenate([context.queries.live, context.candidates.live]))
        return joint, joint
    of_candidates = context.query_statistics() if whose == "queries" else context.candidate_statistics()
    of_queries = of_candidates if whose in ("queries", "candidates") else context.query_statistics()
    if of_queries is not of_candidates:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda side: side.spectrum, (of_queries, of_candidates)))
    return of_queries, of_candidates


def removal_basis(removal: Removal, space: RetrievalSpace) -> np.ndarray:
    """(r, D) what a removal projects away."""
    basis = concept_subspace(space.dictionary, concept_ids(removal, space.score), removal.r)
    check_basis(basis, space.dictionary.shape[1])
    return basis


def principal_basis(step: PrincipalComponents, parts: Sequence[np.ndarray]) -> np.ndarray:
    """(n, D) leading eigenvectors of the second moments, or of the covariance, of the rows of all parts together."""
    width = parts[0].shape[1]
    mean = _mean(parts) if step.centred else np.zeros(width)
    moments = np.zeros((width, width))
    for part in parts:
        for start in range(0, len(part), 4096):
            block = (part[start : start + 4096] - mean).astype(part.dtype, copy=False)
            moments += block.T @ block
    return leading_directions(moments, step.n)


def leading_directions(moments: np.ndarray, n: int) -> np.ndarray:
    """(n, D) eigenvectors of a symmetric matrix (D, D) with the largest eigenvalues, the largest first."""
    width = len(moments)
    if n >= width:
        raise RetrievalError(f"{n} components of {width} dimensions leave nothing; expected fewer.")
    if width <= _FULL_EIGH:
        return scipy.linalg.eigh(moments, subset_by_index=(width - n, width - 1))[1].T[::-1]
    vectors = scipy.sparse.linalg.eigsh(moments, k=n, which="LA", v0=np.ones(width))[1]
    return np.linalg.qr(vectors)[0].T[::-1]


def _fit_removal(step: Removal, context: Context) -> tuple[Transform, Transform]:
    projector = WithoutSubspace(removal_basis(step, context.space))
    return projector, projector


def _fit_components(step: PrincipalComponents, context: Context) -> tuple[Transform, Transform]:
    projector = WithoutSubspace(principal_basis(step, [context.queries.live, context.candidates.live]))
    return projector, projector


def _fit_centring(step: Centring, context: Context) -> tuple[Transform, Transform]:
    if step.means == "joint":
        together = _mean([context.queries.live, context.candidates.live])
        return CentredAt(together), CentredAt(together)
    if step.means == "modality":
        return _fit_modality_means(context)
    return CentredAt(context.query_mean()), CentredAt(_mean([context.candidates.live]))


def _fit_modality_means(context: Context) -> tuple[Transform, Transform]:
    sides = {"queries": context.queries, "candidates": context.candidates}
    modalities = {side: context.space.modalities(side) for side in sides}
    means = {
        modality: _mean([part.rows[(modalities[side] == modality) & ~part.void] for side, part in sides.items()])
        for modality in np.unique(np.concatenate(list(modalities.values())))
    }
    return centred_by(modalities["queries"], means, "queries"), centred_by(
        modalities["candidates"], means, "candidates"
    )


def _fit_realign(step: ReAlign, context: Context) -> tuple[Transform, Transform]:
    of_queries, of_candidates = whitening_statistics(step.statistics, context)
    return of_queries.whitening(step.alpha, step.eps), of_candidates.whitening(step.alpha, step.eps)


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    return sum(part.sum(axis=0, dtype=np.float64) for part in parts) / max(sum(len(part) for part in parts), 1)


_FIT: dict[type, Callable[[Any, Context], tuple[Transform, Transform]]] = {
    Removal: _fit_removal,
    PrincipalComponents: _fit_components,
    Centring: _fit_centring,
    ReAlign: _fit_realign,
}
