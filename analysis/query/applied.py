"""A mask and an intervention as they act on one live query, and its ranking under both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.errors import BackboneError, RetrievalError
from analysis.query.masks import NO_MASK, TokenMask, mask_of, variant_of
from analysis.retrieval.evaluation.comparison import Comparison, compare
from analysis.retrieval.interventions import BASE, Intervention, Pool
from analysis.retrieval.interventions.fitting import fit, query_steps
from analysis.retrieval.task import RetrievalSpace

if TYPE_CHECKING:
    from analysis.query.query import LiveQuery


@dataclass(frozen=True)
class Applied:
    """What is done to one live query. mask: all that is left out of it, by its own mask or by the queries' side of the
    pool step; intervention: the other steps; variant: the stored variant that pools the same tokens, None without one;
    fitted: the intervention to be fitted, whose statistics of queries are those of that variant."""

    mask: TokenMask
    intervention: Intervention
    variant: str | None
    fitted: Intervention

    @property
    def label(self) -> str:
        """Everything that has an effect, in words; "" when nothing has."""
        return ", ".join(part for part in (self.mask.label, self.intervention.label) if part and part != BASE.label)


def applied(query: LiveQuery, space: RetrievalSpace, mask: TokenMask, intervention: Intervention) -> Applied:
    """A mask and an intervention as they act on one live query: what `pool:queries=` names is left out of its own tokens,
    together with the mask. RetrievalError for a variant that the store does not hold, BackboneError where nothing can be
    masked and for a mask that does not fit the query or leaves no token."""
    wanted = intervention.pool.queries
    if wanted != "mean" and not query.maskable:
        raise BackboneError(f"The method pools queries as {wanted!r}, and {query.unmaskable}; choose an MLLM for that.")
    if wanted not in space.queries:
        raise RetrievalError(
            f"The method pools queries as {wanted!r}, and {space.label or 'this store'} holds no such embeddings; it has "
            f"{', '.join(space.queries)}: choose one of those or build the store with that variant."
        )
    named = intervention.with_pool(Pool(candidates=intervention.pool.candidates))
    if not query.maskable:
        return Applied(mask, named, None if mask else "mean", named)
    roles = query.tokens.roles
    mask = mask.joined(mask_of(wanted, roles)).acting_on(roles)
    variant = variant_of(mask, roles, tuple(space.queries))
    same = variant if variant is not None and query_steps(intervention) else "mean"
    return Applied(mask, named, variant, intervention.with_pool(Pool(same, intervention.pool.candidates)))


def rank_query(
    query: LiveQuery, space: RetrievalSpace, *, mask: TokenMask = NO_MASK, intervention: Intervention = BASE
) -> Comparison:
    """A live query as it is beside the same query masked and under an intervention, see `applied`. Raises what `applied`,
    `LiveQuery.embedding` and `compare` raise."""
    changes = applied(query, space, mask, intervention)
    return compare(fit(BASE, space), fit(changes.fitted, space), query.embedding(), query.embedding(changes.mask))
