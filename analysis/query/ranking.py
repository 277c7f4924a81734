"""The two ranked lists of one query, before and after: what stands in them, from where it came, where the targets are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.errors import BackboneError, RetrievalError
from analysis.query.masks import NO_MASK, TokenMask, mask_of, variant_of
from analysis.retrieval.evaluation.movement import Lists, ScoreLists, SideBySide, side_by_side
from analysis.retrieval.interventions.fitting import Fitted, fit
from analysis.retrieval.interventions.intervention import BASE, Intervention
from analysis.retrieval.interventions.steps import Centring, Pool, PrincipalComponents, ReAlign
from analysis.retrieval.task import RetrievalSpace

if TYPE_CHECKING:
    from analysis.query.query import LiveQuery

SIDES = ("before", "after")
DEPTH = 10  # rows of a list that are computed at once, whatever part of them is shown


@dataclass(frozen=True)
class Place:
    """One row of a list: a candidate, its rank and similarity here, its rank in the other list, whether it is a target."""

    rank: int
    candidate: int
    similarity: float
    other_rank: int
    is_target: bool = False
    other_similarity: float = float("nan")  # known of targets

    @property
    def seen_from_the_other(self) -> Place:
        """The same candidate as a row of the other list."""
        return Place(self.other_rank, self.candidate, self.other_similarity, self.rank, self.is_target, self.similarity)


@dataclass(frozen=True)
class Comparison:
    """One query in two lists. query: its position in `lists` and `qrels` (one of an upload has a row of its own, 0)."""

    before: Lists
    after: Lists
    qrels: sp.csr_array
    query: int = 0
    _tables: dict[int, SideBySide] = field(default_factory=dict, repr=False, compare=False)

    @property
    def targets(self) -> np.ndarray:
        """Positions of the relevant candidates; none for an upload."""
        return self.qrels.indices[self.qrels.indptr[self.query] : self.qrels.indptr[self.query + 1]]

    def tables(self, k: int = 10) -> SideBySide:
        """Both lists as tables, see `movement.side_by_side`; computed once for each k."""
        if k not in self._tables:
            self._tables[k] = side_by_side(self.before, self.after, self.query, k, self.qrels)
        return self._tables[k]

    def places(self, side: str, k: int = 10) -> list[Place]:
        """The first k rows of the "before" or the "after" list; ties go to the lower position."""
        table = getattr(self.tables(max(k, DEPTH)), side).head(k)
        columns = (table[name].tolist() for name in ("rank", "candidate", "score", "other_rank", "target"))
        return [Place(*row) for row in zip(*columns, strict=True)]

    def pinned(self, side: str, k: int = 10) -> list[Place]:
        """The best target of either list where it stands behind the first k rows of this one, best first."""
        found = self.best_targets
        if found is None:
            return []
        here = [place if own == side else place.seen_from_the_other for own, place in zip(SIDES, found, strict=True)]
        behind = {place.candidate: place for place in here if place.rank > k}
        return sorted(behind.values(), key=lambda place: place.rank)

    @cached_property
    def best_targets(self) -> tuple[Place, Place] | None:
        """(the target that stands best before, the one that stands best after): often not the same. None without any."""
        table = self.tables(DEPTH).targets
        if not len(table):
            return None
        first, last = (table.loc[table[f"rank_{side}"].idxmin()] for side in SIDES)
        return _target(first, "before"), _target(last, "after")


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
    together with the mask. RetrievalError for a variant that the store does not hold, BackboneError for a dual encoder and
    for a mask that does not fit the query or leaves no token."""
    wanted = intervention.pool.queries
    if wanted != "mean" and not query.maskable:
        raise BackboneError(
            f"The method pools queries as {wanted!r}, and {query.model['key']} is a dual encoder: its embedding is not a mean "
            "of tokens; choose an MLLM for that."
        )
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
    same = variant if variant is not None and asks_about_queries(intervention) else "mean"
    return Applied(mask, named, variant, intervention.with_pool(Pool(same, intervention.pool.candidates)))


def asks_about_queries(intervention: Intervention) -> list[str]:
    """Labels of the steps that are fitted on the queries of the task, so that it matters how those are pooled."""
    return [
        step.label
        for step in intervention.steps
        if isinstance(step, Centring | PrincipalComponents)
        or (isinstance(step, ReAlign) and step.statistics != "candidates")
    ]


def rank_query(
    query: LiveQuery, space: RetrievalSpace, *, mask: TokenMask = NO_MASK, intervention: Intervention = BASE
) -> Comparison:
    """A live query as it is beside the same query masked and under an intervention, see `applied`. Raises what `applied`,
    `LiveQuery.embedding` and `compare` raise."""
    changes = applied(query, space, mask, intervention)
    return compare(fit(BASE, space), fit(changes.fitted, space), query.embedding(), query.embedding(changes.mask))


def compare(
    base: Fitted,
    changed: Fitted,
    h_before: np.ndarray,
    h_after: np.ndarray,
    targets: tuple[int, ...] = (),
) -> Comparison:
    """The ranking of `h_before` in the base space beside that of `h_after` in the changed one.

    base, changed: `pipeline.fit` of no intervention and of one; h_before, h_after: un-normalised embeddings (D,) of the
    query, without and with its mask; targets: positions of relevant candidates, where they are known. RetrievalError
    when an intervention leaves nothing of the query.
    """
    lists = [
        ScoreLists(fitted.scores(fitted.query(h).reshape(1, -1)))
        for fitted, h in ((base, h_before), (changed, h_after))
    ]
    columns = np.asarray(sorted(targets), np.int64)
    qrels = sp.csr_array((np.ones(len(columns)), columns, [0, len(columns)]), shape=(1, base.space.n_candidates))
    return Comparison(lists[0], lists[1], qrels)


def _target(row: pd.Series, side: str) -> Place:
    """One row of the targets' table as a place of the list `side`."""
    other = SIDES[1 - SIDES.index(side)]
    return Place(
        int(row[f"rank_{side}"]), int(row["candidate"]), float(row[f"score_{side}"]), int(row[f"rank_{other}"]), True,
        float(row[f"score_{other}"]),
    )  # fmt: skip
