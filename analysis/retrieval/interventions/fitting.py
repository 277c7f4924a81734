"""From an intervention and a task to the unit rows that are compared, for the whole task or for one uploaded query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from analysis.errors import AnalysisError, RetrievalError
from analysis.retrieval.interventions.context import BlockContext, Context
from analysis.retrieval.interventions.intervention import BASE, Intervention
from analysis.retrieval.interventions.registry import blame
from analysis.retrieval.interventions.step import MapsRows, Step, WeighsConcepts
from analysis.retrieval.ranking.blocks import BlockRows
from analysis.retrieval.ranking.corrected import CandidateBias, CorrectedScores, measure_bias
from analysis.retrieval.ranking.passes import Runner
from analysis.retrieval.ranking.rows import Side, unit_rows
from analysis.retrieval.ranking.similarities import RowScores, Scores
from analysis.retrieval.ranking.transforms import Means, Transform
from analysis.retrieval.ranking.whitened import WhitenedRows, WhitenedScores
from analysis.retrieval.realign import Statistics, Whitening
from analysis.retrieval.task import SIDES, RetrievalSpace
from analysis.sae.codes import Codes


@dataclass(frozen=True)
class Fitted:
    """An intervention fitted to a task.

    queries (Q, D), candidates (C, D): unit rows, compared by dot product; a row without a direction is zero and marked
    in void_queries (Q,) or void_candidates (C,). A void query counts as a miss. Candidates that a last step whitens are
    only made when they are asked for: `scores` does without.
    """

    intervention: Intervention
    space: RetrievalSpace
    queries: np.ndarray
    void_queries: np.ndarray
    query_transforms: tuple[Transform, ...]
    candidate_transforms: tuple[Transform, ...]
    _candidates: Side | WhitenedRows

    @property
    def candidates(self) -> np.ndarray:
        return self._candidates.rows

    @property
    def void_candidates(self) -> np.ndarray:
        return self._candidates.void

    def scores(
        self, queries: np.ndarray | None = None, *, positions: np.ndarray | None = None, device: str = "cpu"
    ) -> Scores:
        """Scores of all pairs, or of other unit queries (n, D) such as those of `query` with all candidates: cosines, less
        the bias of each candidate where the intervention corrects similarities. positions (n,): of those queries in the
        task, where they are queries of it; a correction then uses the bank that leaves them out."""
        plain = self.cosines(queries, device=device)
        bias = self.bias
        if bias is None:
            return plain
        if queries is None:
            return CorrectedScores(plain, bias, bias.group)
        return CorrectedScores(plain, bias, bias.of_others(plain) if positions is None else bias.group[positions])

    def cosines(self, queries: np.ndarray | None = None, *, device: str = "cpu") -> Scores:
        """`scores` before any correction."""
        queries = self.queries if queries is None else queries
        if isinstance(self._candidates, WhitenedRows):
            return WhitenedScores(queries, self._candidates, device=device)
        return RowScores(queries, self._candidates.rows, device=device)

    @cached_property
    def bias(self) -> CandidateBias | None:
        """What is subtracted from the similarities of each candidate; None where nothing is."""
        step = self.intervention.correction
        return None if step is None else guarded(step, lambda: measure_bias(step, self.cosines()))

    def query(self, h: np.ndarray, codes: Codes | None = None) -> np.ndarray:
        """(D,) unit vector of one more query, to be compared with `candidates`.

        h: its un-normalised embedding (D,), pooled as the intervention's `pool` says for queries; codes: its codes
        (one row), encoded here when None and needed. A query of the store gets the row it has in `queries`.
        RetrievalError when nothing is left of it, e.g. because no concept of it is live.
        """
        h = np.asarray(h, np.float64).reshape(1, -1)
        if h.shape[1] != self.queries.shape[1]:
            raise RetrievalError(
                f"The query has {h.shape[1]} dimensions and the candidates {self.queries.shape[1]}; "
                "expected an embedding of the backbone that the store was built with."
            )
        rows = _weighed(h, lambda: codes or self.space.encode(h), self.intervention, self.space)
        rows, void = unit_rows(rows, dtype=np.float64)
        if void.any() and any(step.alone for step in self.intervention.weighing):
            raise RetrievalError("No live concept fires on this query; expected one to compare in concept space.")
        for transform in self.query_transforms:
            rows, empty = transform(rows)
            void |= empty
        if void.any():
            raise RetrievalError(
                f"Nothing is left of this query after {self.intervention.label!r}; expected an embedding with a "
                "direction: choose a milder intervention or another query."
            )
        return rows[0]


def fit(
    intervention: Intervention, space: RetrievalSpace, *, support: Statistics | None = None, base: Fitted | None = None
) -> Fitted:
    """Transform both sides of a task and keep what later queries need. A hybrid's other stage is left out.

    Steps act in their order: the embeddings are chosen, their concepts weighed, brought to length 1, and then each map of
    rows is fitted on what the step before left. support: mean, covariance and n of a support set of unit query embeddings;
    the first map uses it instead of the task's own queries. Without it the statistics that the store keeps stand in where
    the task has fewer than two queries. base: the fitted base where it is at hand, whose unit rows then need not be read
    and made again.
    """
    plain = not intervention.weighing
    variants = intervention.pool.queries, intervention.pool.candidates
    if base is not None and plain and variants == (BASE.pool.queries, BASE.pool.candidates):
        sides = dict(zip(SIDES, base_sides(base), strict=True))
    else:
        sides = {side: Side.of(embeddings(intervention, space, side)) for side in SIDES}
    transforms: list[tuple[Transform, Transform]] = []
    candidates: Side | WhitenedRows = sides["candidates"]
    for position, step in enumerate(intervention.linear):
        if position == 0 and plain:
            context = Context.plain(
                space,
                sides["queries"],
                sides["candidates"],
                variants,
                support=support,
                stored_first=step.prefers_stored,
            )
        else:
            context = Context(space, sides["queries"], sides["candidates"])
        for_queries, for_candidates = fit_step(step, context)
        transforms.append((for_queries, for_candidates))
        sides["queries"] = guarded(step, sides["queries"].through, for_queries)
        if position == len(intervention.linear) - 1 and isinstance(for_candidates, Whitening):
            candidates = WhitenedRows(sides["candidates"], for_candidates)
        else:
            candidates = sides["candidates"] = guarded(step, sides["candidates"].through, for_candidates)
    queries = sides["queries"]
    of_queries, of_candidates = (tuple(pair[side] for pair in transforms) for side in (0, 1))
    return Fitted(intervention, space, queries.rows, queries.void, of_queries, of_candidates, candidates)


def fit_blocks(
    intervention: Intervention, space: RetrievalSpace, runner: Runner | None = None
) -> tuple[RowScores, np.ndarray]:
    """(cosines of all queries with candidates that are never held together, which queries have no direction). runner: of
    the passes over the rows of either side.

    RetrievalError for steps that need all candidates at once.
    """
    refused = next((step for step in intervention.steps if step.block_refusal), None)
    if refused is not None:
        raise RetrievalError(
            f"{refused.label!r} has no answer with all {space.n_candidates:,} candidates, more than fit into memory: "
            f"{refused.block_refusal}. Use a machine with more memory, or steps that work in blocks."
        )
    variants = intervention.pool.queries, intervention.pool.candidates
    sides = [BlockRows.of(space, side, variant) for side, variant in zip(SIDES, variants, strict=True)]
    for n, step in enumerate(intervention.linear):
        if step.looks_at_rows:
            before = Intervention(intervention.linear[:n]).spec
            moments = [
                rows.moments(runner, f"moments of {side}, {variant}, after {before}")
                for rows, side, variant in zip(sides, SIDES, variants, strict=True)
            ]
            context = BlockContext(space, moments[0], moments[1], variants)
            pair = guarded(step, step.fit_moments, context)
        else:
            pair = guarded(step, step.fit, Context(space, _no_rows(sides[0].width), _no_rows(sides[1].width)))
        sides = [side.through(transform) for side, transform in zip(sides, pair, strict=True)]
    queries, void = sides[0].all()
    return RowScores(queries, sides[1]), void


def fit_step(step: MapsRows, context: Context) -> tuple[Transform, Transform]:
    """(transform of queries, transform of candidates). A transform marks rows that have no direction afterwards."""
    pair = guarded(step, step.fit, context)
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(callable(part) for part in pair)):
        raise RetrievalError(
            f"The fit of step {step.name!r} gives {type(pair).__name__}; expected a pair of transforms, one for queries and "
            f"one for candidates, e.g. two `Affine`.{f' See {step.source}.' if step.source else ''}"
        )
    return pair


def centring_means(step: MapsRows, space: RetrievalSpace, base: Fitted) -> tuple[Means, Means]:
    """What a step that `centres` subtracts from the rows of the base: of queries, of candidates."""
    sides = base_sides(base)
    variants = base.intervention.pool.queries, base.intervention.pool.candidates
    pair = fit_step(step, Context.plain(space, *sides, variants, stored_first=step.prefers_stored))
    of_queries, of_candidates = (
        guarded(step, lambda part=part, side=side: part.means_of(len(side.rows)).sparing(side.void))
        for part, side in zip(pair, sides, strict=True)
    )
    return of_queries, of_candidates


def guarded(step: Step, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call something of a step. What a step from outside the repository does wrong is one sentence with file and line."""
    if not step.source:
        return work(*arguments)
    try:
        return work(*arguments)
    except AnalysisError:
        raise
    except Exception as error:  # somebody else's code: any failure is its own, and the app goes on
        raise blame(step, error) from error


def base_sides(base: Fitted) -> tuple[Side, Side]:
    """Unit rows of both sides of a fitted base."""
    return Side(base.queries, base.void_queries), Side(base.candidates, base.void_candidates)


def embeddings(intervention: Intervention, space: RetrievalSpace, side: str) -> np.ndarray:
    """(n, D) un-normalised embeddings of one side before any map: pooled, with their concepts weighed."""
    variant = intervention.pool.variant(side)
    h = space.rows(side, variant)
    return _weighed(h, lambda: space.codes(side, variant), intervention, space)


def with_concepts(
    h: np.ndarray, codes: Codes, intervention: Intervention, space: RetrievalSpace
) -> tuple[np.ndarray, Codes]:
    """(embeddings (n, D) with their concepts weighed, codes (n) whose reconstruction is the concepts' part of them)."""
    if not intervention.weighing:
        return h, codes
    factors = [_factors(step, space) for step in intervention.weighing]
    product = reduce(np.multiply, factors)
    weighed = Codes(codes.indices, (codes.values * product[codes.indices]).astype(np.float32), codes.n_concepts)
    if any(step.alone for step in intervention.weighing):
        return np.asarray(weighed.to_csr() @ space.dictionary), weighed
    moved = np.flatnonzero(product != 1)
    change = codes.to_csr()[:, moved].astype(np.float64) * (product[moved] - 1)
    return h + change @ np.asarray(space.dictionary[moved], np.float64), weighed


def _weighed(
    h: np.ndarray, codes: Callable[[], Codes], intervention: Intervention, space: RetrievalSpace
) -> np.ndarray:
    if not intervention.weighing:
        return h
    return with_concepts(h, codes(), intervention, space)[0]


def _factors(step: WeighsConcepts, space: RetrievalSpace) -> np.ndarray:
    found = np.asarray(guarded(step, step.factors, space), np.float64)
    n_concepts = len(space.dictionary)
    if found.shape != (n_concepts,) or not np.isfinite(found).all():
        raise RetrievalError(
            f"The step {step.name!r} gives factors of shape {found.shape}, expected {n_concepts} finite numbers, one a "
            f"concept.{f' See {step.source}.' if step.source else ''}"
        )
    return found


def _no_rows(width: int) -> Side:
    return Side(np.empty((0, width)), np.empty(0, bool))


def query_steps(intervention: Intervention) -> Sequence[Step]:
    """The steps that are fitted on the queries of the task, so that it matters how those are pooled."""
    return [step for step in intervention.steps if step.uses_queries]
