"""From an intervention and a space to the unit rows that are compared, for a whole task or for one uploaded query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.intervention import BASE, Intervention
from analysis.retrieval.interventions.linear_steps import (
    Context,
    Side,
    fit_step,
    plain_context,
    principal_basis,
    removal_basis,
)
from analysis.retrieval.interventions.steps import Edit, Pool, PrincipalComponents, ReAlign, Removal
from analysis.retrieval.ranking.rows import unit_rows
from analysis.retrieval.ranking.similarities import RowScores, Scores
from analysis.retrieval.ranking.transforms import Transform
from analysis.retrieval.ranking.whitened import WhitenedRows, WhitenedScores
from analysis.retrieval.realign import Whitening
from analysis.retrieval.task import SIDES, RetrievalSpace
from analysis.sae.codes import Codes


@dataclass(frozen=True)
class Fitted:
    """An intervention fitted to a space.

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

    def scores(self, queries: np.ndarray | None = None, *, device: str = "cpu") -> Scores:
        """Similarities of all pairs, or of other unit queries (n, D) such as those of `query` with all candidates."""
        queries = self.queries if queries is None else queries
        if isinstance(self._candidates, WhitenedRows):
            return WhitenedScores(queries, self._candidates, device=device)
        return RowScores(queries, self._candidates.rows, device=device)

    def query(self, h: np.ndarray, codes: Codes | None = None) -> np.ndarray:
        """(D,) unit vector of one more query, to be compared with `candidates`.

        h: its un-normalised embedding (D,), pooled as the intervention's `pool` says for queries; codes: its codes
        (one row), encoded here when None and needed. A query of the store gets the similarities it has in `queries`.
        RetrievalError when nothing is left of it, e.g. because no concept of it is live.
        """
        h = np.asarray(h, np.float64).reshape(1, -1)
        if h.shape[1] != self.queries.shape[1]:
            raise RetrievalError(
                f"The query has {h.shape[1]} dimensions and the candidates {self.queries.shape[1]}; "
                "expected an embedding of the backbone that the store was built with."
            )
        rows = _with_concepts(h, lambda: codes or self.space.encode(h), self.intervention, self.space)
        rows, void = unit_rows(rows, dtype=np.float64)
        if void.any() and self.intervention.concept_space:
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


def apply(intervention: Intervention, space: RetrievalSpace) -> tuple[np.ndarray, np.ndarray]:
    """(queries' (Q, D), candidates' (C, D)) unit rows; rows without a direction are zero."""
    fitted = fit(intervention, space)
    return fitted.queries, fitted.candidates


def apply_query(
    intervention: Intervention,
    space: RetrievalSpace,
    h_query: np.ndarray,
    code_query: Codes | None = None,
    support: Any = None,
) -> np.ndarray:
    """(D,) one transformed query, see `Fitted.query`. Keep `fit(...)` when there is more than one."""
    return fit(intervention, space, support=support).query(h_query, code_query)


def fit(
    intervention: Intervention, space: RetrievalSpace, *, support: Any = None, base: Fitted | None = None
) -> Fitted:
    """Transform both sides of a space and keep what later queries need. A hybrid's other stage is left out.

    Steps act in their order: the embeddings are chosen, edited or replaced by concept space, brought to length 1, and
    then each linear step is fitted on what the step before left. support: mean, covariance and n of a support set of
    unit query embeddings; the first linear step uses it instead of the space's own queries. Without it the statistics
    that the store keeps stand in where the space has fewer than two queries. base: the fitted base where it is at hand,
    whose unit rows then need not be read and made again.
    """
    plain = intervention.edit is None and intervention.concept_space is None
    if base is not None and plain and intervention.pool == Pool():
        sides = {
            "queries": Side(base.queries, base.void_queries),
            "candidates": Side(base.candidates, base.void_candidates),
        }
    else:
        sides = {side: Side.of(embeddings(intervention, space, side)) for side in SIDES}
    transforms: list[tuple[Transform, Transform]] = []
    candidates: Side | WhitenedRows = sides["candidates"]
    for position, step in enumerate(intervention.linear):
        if position == 0 and plain:
            stored_first = isinstance(step, ReAlign) and step.statistics == "support"
            context = plain_context(
                space,
                sides["queries"],
                sides["candidates"],
                intervention.pool,
                support=support,
                stored_first=stored_first,
            )
        else:
            context = Context(space, sides["queries"], sides["candidates"])
        for_queries, for_candidates = fit_step(step, context)
        transforms.append((for_queries, for_candidates))
        sides["queries"] = sides["queries"].through(for_queries)
        if position == len(intervention.linear) - 1 and isinstance(for_candidates, Whitening):
            candidates = WhitenedRows(sides["candidates"], for_candidates)
        else:
            candidates = sides["candidates"] = sides["candidates"].through(for_candidates)
    queries = sides["queries"]
    of_queries, of_candidates = (tuple(pair[side] for pair in transforms) for side in (0, 1))
    return Fitted(intervention, space, queries.rows, queries.void, of_queries, of_candidates, candidates)


def embeddings(intervention: Intervention, space: RetrievalSpace, side: str) -> np.ndarray:
    """(n, D) un-normalised embeddings of one side before any linear step: pooled, edited, or in concept space."""
    variant = getattr(intervention.pool, side)
    h = space.rows(side, variant)
    return _with_concepts(h, lambda: space.codes(side, variant), intervention, space)


def projection_basis(
    intervention: Intervention, space: RetrievalSpace, *, base: Fitted | None = None
) -> np.ndarray | None:
    """Basis (r, D) when the intervention does nothing but project plain embeddings, else None: such an intervention is
    a low-rank update of similarities that are already known. base: the fitted base, where it is at hand."""
    if len(intervention.steps) != 1:
        return None
    step = intervention.steps[0]
    if isinstance(step, Removal):
        return removal_basis(step, space)
    if isinstance(step, PrincipalComponents):
        base = base or fit(BASE, space)
        return principal_basis(step, [base.queries, base.candidates])
    return None


def with_concepts(
    h: np.ndarray, codes: Codes, intervention: Intervention, space: RetrievalSpace
) -> tuple[np.ndarray, Codes]:
    """(embeddings (n, D) as edited or in concept space, codes (n) whose reconstruction is the concepts' part of them)."""
    weight = _weights(intervention, space)
    if weight is None:
        return h, codes
    weighted = Codes(codes.indices, (codes.values * weight[codes.indices]).astype(np.float32), codes.n_concepts)
    if intervention.concept_space is not None:
        return np.asarray(weighted.to_csr() @ space.dictionary), weighted
    assert intervention.edit is not None
    return _edited(h, codes, intervention.edit, space.dictionary), weighted


def _with_concepts(
    h: np.ndarray, codes: Callable[[], Codes], intervention: Intervention, space: RetrievalSpace
) -> np.ndarray:
    if intervention.edit is None and intervention.concept_space is None:
        return h
    return with_concepts(h, codes(), intervention, space)[0]


def _weights(intervention: Intervention, space: RetrievalSpace) -> np.ndarray | None:
    """(K,) what the activations are multiplied by; None where they stay as they are."""
    edit, concept_space = intervention.edit, intervention.concept_space
    if edit is None and concept_space is None:
        return None
    weight = np.ones(len(space.dictionary)) if concept_space is None else space.rarity(concept_space.weights)
    for concept, scale in edit.scales if edit else ():
        weight[_known(concept, len(weight))] *= scale
    return weight


def _edited(h: np.ndarray, codes: Codes, edit: Edit, dictionary: np.ndarray) -> np.ndarray:
    """h + sum_i (scale_i - 1) z_i D_i."""
    ids = np.array([_known(concept, codes.n_concepts) for concept, _ in edit.scales])
    change = np.array([scale - 1 for _, scale in edit.scales])
    active = codes.to_csr()[:, ids].toarray()
    return h + (active * change) @ np.asarray(dictionary[ids], np.float64)


def _known(concept: int, n_concepts: int) -> int:
    if concept >= n_concepts:
        raise RetrievalError(f"Concept {concept} does not exist; expected ids from 0 to {n_concepts - 1}.")
    return concept
