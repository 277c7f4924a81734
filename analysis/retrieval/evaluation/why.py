"""One query's target beside its best wrong candidate: which concepts make the difference of their similarities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.errors import RetrievalError
from analysis.retrieval.attribution import (
    CORRECTION_WORDS,
    SHIFT_WORDS,
    UNEXPLAINED_WORDS,
    PairAttribution,
    compare_pairs,
    explain_pair,
)
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import Intervention
from analysis.retrieval.interventions.fitting import Fitted, with_concepts
from analysis.retrieval.ranking.corrected import CandidateBias
from analysis.retrieval.ranking.lists import Lists
from analysis.retrieval.ranking.transforms import Transform, WithoutSubspace
from analysis.retrieval.task import RetrievalSpace
from analysis.sae.codes import Codes

UNEXPLAINED, SHIFT, CORRECTION = -1, -2, -3  # in the place of a concept
TIE = 1e-5  # similarities of float32 vectors: a smaller difference is rounding, and an order by it is chance
PARTS = {UNEXPLAINED: UNEXPLAINED_WORDS, SHIFT: SHIFT_WORDS, CORRECTION: CORRECTION_WORDS}


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

    @property
    def tie(self) -> bool:
        """Neither is ahead of the other by more than rounding."""
        return abs(self.gap) <= TIE

    @property
    def beyond(self) -> float:
        """What the SAE does not explain of the gap."""
        return self.target.unexplained - self.rival.unexplained

    @property
    def splits(self) -> bool:
        """Whether the gap may be split into shares: there is one, and it is more than what the SAE does not explain of it."""
        return not self.tie and abs(self.gap) > abs(self.beyond)

    def table(self) -> pd.DataFrame:
        """One row a concept that either pair has, the largest difference first. Columns: concept, target, rival (their
        contributions), difference = target - rival. Then, with concept SHIFT, what subtracted means and a decoder bias give,
        where there are any, with CORRECTION what a hub correction takes off, where there is one, and with UNEXPLAINED what the
        SAE does not explain, so that each column adds up to attrs["target"], attrs["rival"]: the similarities."""
        ids, difference = compare_pairs(self.rival, self.target)
        order = np.argsort(-np.abs(difference), kind="stable")
        given = [dict(zip(pair.concept_ids.tolist(), pair.contribution.tolist(), strict=True)) for pair in self._pairs]
        rows = [(int(i), given[0].get(int(i), 0.0), given[1].get(int(i), 0.0)) for i in ids[order]]
        if self.target.shift or self.rival.shift:
            rows.append((SHIFT, self.target.shift, self.rival.shift))
        if self.target.correction or self.rival.correction:
            rows.append((CORRECTION, self.target.correction, self.rival.correction))
        rows.append((UNEXPLAINED, self.target.unexplained, self.rival.unexplained))
        table = pd.DataFrame(rows, columns=["concept", "target", "rival"])
        table["difference"] = table["target"] - table["rival"]
        table.attrs.update(target=self.target.similarity, rival=self.rival.similarity)
        return table

    def reasons(self, n: int = 2) -> list[tuple[int, float]]:
        """(concept, SHIFT or UNEXPLAINED, its share of the gap) of the n parts that do most for whoever is ahead, the
        largest first; shares of parts that work against each other may exceed 1. Empty where the gap does not split."""
        if not self.splits:
            return []
        table = self.table()
        share = table["difference"].to_numpy() / self.gap
        order = np.argsort(-share, kind="stable")[:n]
        return [(int(table["concept"].iloc[i]), float(share[i])) for i in order if share[i] > 0]

    @property
    def words(self) -> dict[int, str]:
        """What the parts that are no concept are called."""
        return PARTS | {SHIFT: self.target.shift_words if self.target.shift else self.rival.shift_words}

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
    """An intervention as far as one pair needs it. transforms: of queries and of candidates; bias: what is subtracted from
    the similarity of a candidate, by the group of the query (see `CandidateBias`)."""

    intervention: Intervention
    space: RetrievalSpace
    transforms: tuple[Sequence[Transform], Sequence[Transform]]
    bias: CandidateBias | None = None

    @staticmethod
    def of(fitted: Fitted) -> Explained:
        through = fitted.query_transforms, fitted.candidate_transforms
        return Explained(fitted.intervention, fitted.space, through, fitted.bias)

    def pair(
        self, h: np.ndarray, codes: Codes, candidate: int, *, position: int | None = None, group: int = 0
    ) -> PairAttribution:
        """The similarity of a query, un-normalised embedding h (D,) and codes (one row), with one candidate. position: of
        the query in the task, None for a live one, whose group of biases is given."""
        variant = self.intervention.pool.candidates
        h_c, codes_c = stored(self.space, "candidates", variant, candidate)
        sides = [
            with_concepts(np.asarray(x, np.float64)[None], z, self.intervention, self.space)
            for x, z in ((h, codes), (h_c, codes_c))
        ]
        (h_q, z_q), (h_c, z_c) = ((rows[0], (active.indices[0], active.values[0])) for rows, active in sides)
        found = explain_pair(
            h_q, h_c, self.space.sae, codes=(z_q, z_c), through=self.transforms, positions=(position, candidate),
            biased=not any(step.alone for step in self.intervention.weighing),
        )  # fmt: skip
        if self.bias is None:
            return found
        group = group if position is None else int(self.bias.group[position])
        taken = float(self.bias.values[group, candidate])
        return replace(found, correction=-taken, similarity=found.similarity - taken)


def explain(lab: Lab, comparison: Comparison, side: str, intervention: Intervention) -> Explanation:
    """The best target and the best non-target of a list ("before" or "after") of a stored query, both explained.

    The bars of each add up to its cosine similarity under the intervention (`explain_pair`). RetrievalError when the
    query has no target, or `Intervention.unexplained` gives a reason.
    """
    reason = intervention.unexplained()
    if reason or not len(comparison.targets):
        raise RetrievalError(reason or "The query has no target in the pool; choose one that has.")
    target, rival = _contenders(comparison, side)
    intervention, query = intervention.seeds()[0], comparison.query
    seen = explained(lab, intervention)
    h, codes = stored(lab.space, "queries", intervention.pool.queries, query)
    pairs = [seen.pair(h, codes, candidate, position=query) for candidate in (target, rival)]
    return Explanation(pairs[0], pairs[1], target, rival)


def explain_places(fitted: Fitted, lists: Lists, h: np.ndarray, place: int) -> Explanation:
    """The candidate at a place of a list (from 2 on; as `target`) and the one at its head (as `rival`), both explained.

    For a live query, whose targets nobody knows: h (D,) its un-normalised embedding, pooled as the intervention says;
    lists: of this query alone. RetrievalError for a place that the list does not have, or where the method does not split.
    """
    reason = fitted.intervention.unexplained()
    n = fitted.space.n_candidates
    if reason or not 2 <= place <= n:
        raise RetrievalError(reason or f"There is no place {place} to compare with the first; expected 2 to {n}.")
    listed = lists.top(0, place).ids[0]
    seen, codes = Explained.of(fitted), fitted.space.encode(np.asarray(h)[None])
    plain = fitted.cosines(fitted.query(h).reshape(1, -1))
    group = 0 if fitted.bias is None else int(fitted.bias.of_others(plain)[0])
    other, head = (seen.pair(h, codes, int(candidate), group=group) for candidate in (listed[-1], listed[0]))
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


def stored(space: RetrievalSpace, side: str, variant: str, position: int) -> tuple[np.ndarray, Codes]:
    """(embedding (D,), codes (one row)) of one sample of a side; codes that no store holds are encoded."""
    h = space.row(side, variant, position)
    codes = space.stored_codes(side, variant)
    return h, space.encode(h[None]) if codes is None else codes[np.array([position])]


def explained(lab: Lab, intervention: Intervention) -> Explained:
    """A projection alone is known to the lab without any candidate having been projected."""
    step = intervention.single_projection
    if not intervention.steps:
        return Explained(intervention, lab.space, ((), ()))
    if step is not None:
        projection, r = lab.projection(step)
        through = (WithoutSubspace(projection.basis[:r]),)
        return Explained(intervention, lab.space, (through, through))
    return Explained.of(lab.fitted(intervention))
