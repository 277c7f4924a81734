"""One query's target beside its best wrong candidate: which concepts make the difference of their similarities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import RetrievalError
from analysis.query.ranking import Comparison
from analysis.retrieval.attribution import (
    SHIFT_WORDS,
    UNEXPLAINED_WORDS,
    PairAttribution,
    compare_pairs,
    explain_pair,
)
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.movement import Lists
from analysis.retrieval.interventions.concept_sets import concept_ids
from analysis.retrieval.interventions.fitting import Fitted, with_concepts
from analysis.retrieval.interventions.intervention import Intervention
from analysis.retrieval.interventions.steps import PrincipalComponents, Removal
from analysis.retrieval.ranking.transforms import Transform, WithoutSubspace
from analysis.retrieval.task import RetrievalSpace
from analysis.sae.codes import Codes

UNEXPLAINED, SHIFT = -1, -2  # in the place of a concept
PARTS = {UNEXPLAINED: UNEXPLAINED_WORDS, SHIFT: SHIFT_WORDS}


@dataclass(frozen=True)
class Explanation:
    """target, rival: similarity of the query with each, split into concepts; candidates are positions in the task."""

    target: PairAttribution
    rival: PairAttribution
    target_candidate: int
    rival_candidate: int

    @property
    def rival_wins(self) -> bool:
        return self.rival.similarity > self.target.similarity

    @property
    def gap(self) -> float:
        """Similarity of the target minus that of the rival."""
        return self.target.similarity - self.rival.similarity

    def table(self) -> pd.DataFrame:
        """One row a concept that either pair has, the largest difference first. Columns: concept, target, rival (their
        contributions), difference = target - rival. Then, with concept SHIFT, what subtracted means give, where any are,
        and with UNEXPLAINED what the SAE does not explain, so that each column adds up to attrs["target"],
        attrs["rival"]: the similarities."""
        ids, difference = compare_pairs(self.rival, self.target)
        order = np.argsort(-np.abs(difference), kind="stable")
        given = [dict(zip(pair.concept_ids.tolist(), pair.contribution.tolist(), strict=True)) for pair in self._pairs]
        rows = [(int(i), given[0].get(int(i), 0.0), given[1].get(int(i), 0.0)) for i in ids[order]]
        if self.target.shift or self.rival.shift:
            rows.append((SHIFT, self.target.shift, self.rival.shift))
        rows.append((UNEXPLAINED, self.target.unexplained, self.rival.unexplained))
        table = pd.DataFrame(rows, columns=["concept", "target", "rival"])
        table["difference"] = table["target"] - table["rival"]
        table.attrs.update(target=self.target.similarity, rival=self.rival.similarity)
        return table

    def reasons(self, n: int = 2) -> list[tuple[int, float]]:
        """(concept, SHIFT or UNEXPLAINED, its share of the gap) of the n parts that do most for whoever is ahead, the
        largest first; shares of parts that work against each other may exceed 1. Empty without a gap."""
        table = self.table()
        share = table["difference"].to_numpy() / self.gap if abs(self.gap) > 1e-9 else np.zeros(len(table))
        order = np.argsort(-share, kind="stable")[:n]
        return [(int(table["concept"].iloc[i]), float(share[i])) for i in order if share[i] > 0]

    @property
    def _pairs(self) -> tuple[PairAttribution, PairAttribution]:
        return self.target, self.rival

    @property
    def loudest_against(self) -> int | None:
        """The concept that gives the rival most more than the target; None when no concept does."""
        ids, difference = compare_pairs(self.target, self.rival)
        return int(ids[0]) if len(ids) and difference[0] > 0 else None


@dataclass(frozen=True)
class Explained:
    """An intervention as far as one pair needs it. transforms: of queries and of candidates."""

    intervention: Intervention
    space: RetrievalSpace
    transforms: tuple[Sequence[Transform], Sequence[Transform]]

    @staticmethod
    def of(fitted: Fitted) -> Explained:
        return Explained(fitted.intervention, fitted.space, (fitted.query_transforms, fitted.candidate_transforms))

    def pair(self, h: np.ndarray, codes: Codes, candidate: int, *, position: int | None = None) -> PairAttribution:
        """The similarity of a query, un-normalised embedding h (D,) and codes (one row), with one candidate. position: of
        the query in the task, None for a live one."""
        variant = self.intervention.pool.candidates
        h_c, codes_c = _stored(self.space, "candidates", variant, candidate)
        sides = [
            with_concepts(np.asarray(x, np.float64)[None], z, self.intervention, self.space)
            for x, z in ((h, codes), (h_c, codes_c))
        ]
        (h_q, z_q), (h_c, z_c) = ((rows[0], (active.indices[0], active.values[0])) for rows, active in sides)
        return explain_pair(
            h_q, h_c, self.space.sae, codes=(z_q, z_c), through=self.transforms, positions=(position, candidate)
        )


def explains(intervention: Intervention) -> str:
    """Why the similarities under an intervention cannot be split into concepts; empty when they can."""
    hybrid = intervention.hybrid
    if hybrid is None:
        return ""
    return (
        f"{hybrid.label}: the order comes from two models, and the other one has no concepts here, so its similarities do "
        "not split; switch the hybrid off to see this model's part."
    )


def explain(lab: Lab, comparison: Comparison, side: str, intervention: Intervention) -> Explanation:
    """The best target and the best non-target of a list ("before" or "after") of a stored query, both explained.

    The bars of each add up to its cosine similarity under the intervention (`explain_pair`). RetrievalError when the
    query has no target, or `explains` gives a reason.
    """
    reason = explains(intervention)
    if reason or not len(comparison.targets):
        raise RetrievalError(reason or "The query has no target in the pool; choose one that has.")
    target, rival = _contenders(comparison, side)
    intervention, query = intervention.seeds()[0], comparison.query
    seen = _explained(lab, intervention)
    h, codes = _stored(lab.space, "queries", intervention.pool.queries, query)
    pairs = [seen.pair(h, codes, candidate, position=query) for candidate in (target, rival)]
    return Explanation(pairs[0], pairs[1], target, rival)


def explain_places(fitted: Fitted, lists: Lists, h: np.ndarray, place: int) -> Explanation:
    """The candidate at a place of a list (from 2 on; as `target`) and the one at its head (as `rival`), both explained.

    For a live query, whose targets nobody knows: h (D,) its un-normalised embedding, pooled as the intervention says;
    lists: of this query alone. RetrievalError for a place that the list does not have or a reason of `explains`.
    """
    reason = explains(fitted.intervention)
    n = fitted.space.n_candidates
    if reason or not 2 <= place <= n:
        raise RetrievalError(reason or f"There is no place {place} to compare with the first; expected 2 to {n}.")
    listed = lists.top(0, place).ids[0]
    seen, codes = Explained.of(fitted), fitted.space.encode(np.asarray(h)[None])
    other, head = (seen.pair(h, codes, int(candidate)) for candidate in (listed[-1], listed[0]))
    return Explanation(other, head, int(listed[-1]), int(listed[0]))


def _contenders(comparison: Comparison, side: str) -> tuple[int, int]:
    """(best target, best candidate that is none) of a list. RetrievalError when every candidate is a target."""
    lists = comparison.before if side == "before" else comparison.after
    targets = comparison.targets.astype(np.int64)
    target = int(targets[np.argmin(lists.ranks(comparison.query, targets))])
    listed = lists.top(comparison.query, len(targets) + 1).ids[0]
    wrong = listed[~np.isin(listed, targets)]
    if not len(wrong):
        raise RetrievalError("Every candidate is a target of this query; there is nothing to compare with.")
    return target, int(wrong[0])


def removed_concepts(intervention: Intervention, space: RetrievalSpace) -> frozenset[int]:
    """The concepts whose directions an intervention projects away."""
    removals = [step for step in intervention.seeds()[0].steps if isinstance(step, Removal)]
    return frozenset(int(i) for removal in removals for i in concept_ids(removal, space.score))


def _stored(space: RetrievalSpace, side: str, variant: str, position: int) -> tuple[np.ndarray, Codes]:
    """(embedding (D,), codes (one row)) of one sample of a side; codes that no store holds are encoded."""
    h = space.row(side, variant, position)
    codes = space.stored_codes(side, variant)
    return h, space.encode(h[None]) if codes is None else codes[np.array([position])]


def _explained(lab: Lab, intervention: Intervention) -> Explained:
    """A projection alone is known to the lab without any candidate having been projected."""
    linear = intervention.linear
    if len(linear) == len(intervention.steps) <= 1 and all(
        isinstance(s, Removal | PrincipalComponents) for s in linear
    ):
        found = [lab.projection(step) for step in linear]
        through = tuple(WithoutSubspace(projection.basis[:r]) for projection, r in found)
        return Explained(intervention, lab.space, (through, through))
    return Explained.of(lab.fitted(intervention))
