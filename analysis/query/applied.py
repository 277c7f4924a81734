"""A mask and an intervention as they act on one live query, and its ranking under both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.errors import BackboneError, RetrievalError
from analysis.models.pooling import Role
from analysis.query.masks import NO_MASK, ROLE_NAMES, TokenMask, mask_hiding, mask_of, variant_of
from analysis.retrieval.evaluation.comparison import Comparison, compare
from analysis.retrieval.interventions import BASE, Intervention, Pool
from analysis.retrieval.interventions.fitting import fit, query_steps
from analysis.retrieval.task import RetrievalSpace

if TYPE_CHECKING:
    from analysis.models.results import TokenStates
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
    masked and for a mask that does not fit the query or leaves no token; RetrievalError for a hybrid, whose second model
    has not read the query."""
    if intervention.hybrid is not None:
        raise RetrievalError(
            f"{intervention.hybrid.label} needs a second model's ranking of this query, which one live query does not have; "
            "take that step away, or use the retrieval lab (`retrieve`) on the queries of a task."
        )
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


def carried_mask(mask: TokenMask, query: LiveQuery, other: LiveQuery) -> tuple[TokenMask, tuple[str, ...]]:
    """The mask of one model's query for the same query as another model reads it, and what to know about it, a sentence each.

    Roles are the same roles. A patch of the other grid is left out where the patch under its centre is; image tokens that are
    no patch (a coarser view, ends of lines) where all of those are, or where only a region is kept. Single tokens of a text
    stay single tokens where both models cut the text in the same way; otherwise they are pooled. A dual encoder or an
    embedding model is not masked at all.
    """
    if not mask:
        return mask, ()
    if not other.maskable:
        return NO_MASK, (f"Not masked: {other.unmaskable}.",)
    mine, theirs = query.tokens, other.tokens
    chosen, notes = mask.masked(mine.roles), []
    hidden = np.isin(theirs.roles, [role for role, name in ROLE_NAMES.items() if name in mask.roles])
    absent = [role for role, name in ROLE_NAMES.items() if name in mask.acting_on(mine.roles).roles]
    absent = [role for role in absent if not (theirs.roles == role).any()]
    if absent:
        notes.append(f"This model reads no {' and no '.join(ROLE_NAMES[role] for role in absent)} tokens here.")
    kept = {role for role, _ in mask.kept}
    for role, name in ROLE_NAMES.items():
        here, there = mine.roles == role, theirs.roles == role
        if name not in kept | {part for part, _ in mask.parts}:
            continue
        if role == Role.IMAGE:
            note = _carry_region(mine, theirs, chosen, hidden, name in kept)
            notes += [note] if note else []
        elif _strings(mine, here) == _strings(theirs, there):
            hidden[there] = chosen[here]
        else:
            notes.append(f"Single tokens of the {name} are pooled here: this model cuts it into other tokens.")
    if mask.tokens and mine.strings == theirs.strings:
        hidden[list(mask.tokens)] = True
    elif mask.tokens:
        notes.append("Tokens named by their place in the whole query are pooled here: this model reads other tokens.")
    return mask_hiding(hidden, theirs.roles, mask.pooling, kept), tuple(notes)


def _strings(tokens: TokenStates, which: np.ndarray) -> list[str]:
    return [string for string, chosen in zip(tokens.strings, which, strict=True) if chosen]


def _carry_region(mine: TokenStates, theirs: TokenStates, chosen: np.ndarray, hidden: np.ndarray, kept: bool) -> str:
    """Leave out in `hidden` the patches of one model that lie where another's chosen ones do; kept: what lies beyond the other
    one's grid is left out too. Returns what to know about it."""
    if mine.grid is None or mine.cells is None or theirs.grid is None or theirs.cells is None:
        return "The region stays pooled here: this model's image tokens have no place in the picture."
    rows, columns = mine.grid
    down, right = (np.arange(n) for n in theirs.grid)
    left, top, far, bottom = theirs.box
    y = top + (down + 0.5) / theirs.grid[0] * (bottom - top)
    x = left + (right + 0.5) / theirs.grid[1] * (far - left)
    left, top, far, bottom = mine.box
    row = np.floor((y - top) / (bottom - top) * rows).astype(int)
    column = np.floor((x - left) / (far - left) * columns).astype(int)
    inside = ((row >= 0) & (row < rows))[:, None] & ((column >= 0) & (column < columns))[None, :]
    grid = chosen[mine.cells].reshape(rows, columns)
    under = grid[np.clip(row, 0, rows - 1)[:, None], np.clip(column, 0, columns - 1)[None, :]]
    hidden[theirs.cells] = np.where(inside, under, kept).ravel()
    rest = _beside_grid(mine)
    hidden[_beside_grid(theirs)] = chosen[rest].all() if len(rest) else kept
    if (mine.grid, mine.box) == (theirs.grid, theirs.box):
        return ""
    words = ["{} x {}".format(*tokens.grid or ()) for tokens in (theirs, mine)]
    return f"Its grid has {words[0]} patches, not {words[1]}: each follows the one under its centre."


def _beside_grid(tokens: TokenStates) -> np.ndarray:
    """Positions of the image tokens that are no patch of the grid."""
    found = np.flatnonzero(tokens.roles == Role.IMAGE)
    return found if tokens.cells is None else np.setdiff1d(found, tokens.cells)
