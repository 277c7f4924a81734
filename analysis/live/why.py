"""One query's target beside its best wrong candidate: which concepts make the difference of their similarities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import RetrievalError
from analysis.live.lab import Lab
from analysis.live.ranking import Comparison
from analysis.retrieval.attribution import PairAttribution, compare_pairs, explain_pair
from analysis.retrieval.interventions import Intervention
from analysis.retrieval.steps import Pool, PrincipalComponents, Removal


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

    def table(self) -> pd.DataFrame:
        """One row a concept that either pair has, the largest difference first. Columns: concept, target, rival (their
        contributions), difference = target - rival. Then, with concept -1, what the SAE does not explain, so that each
        column adds up to attrs["target"], attrs["rival"]: the similarities."""
        ids, difference = compare_pairs(self.rival, self.target)
        order = np.argsort(-np.abs(difference), kind="stable")
        given = [dict(zip(pair.concept_ids.tolist(), pair.contribution.tolist(), strict=True)) for pair in self._pairs]
        rows = [(int(i), given[0].get(int(i), 0.0), given[1].get(int(i), 0.0)) for i in ids[order]]
        rows.append((-1, self.target.unexplained, self.rival.unexplained))
        table = pd.DataFrame(rows, columns=["concept", "target", "rival"])
        table["difference"] = table["target"] - table["rival"]
        table.attrs.update(target=self.target.similarity, rival=self.rival.similarity)
        return table

    @property
    def _pairs(self) -> tuple[PairAttribution, PairAttribution]:
        return self.target, self.rival

    @property
    def loudest_against(self) -> int | None:
        """The concept that gives the rival most more than the target; None when no concept does."""
        ids, difference = compare_pairs(self.target, self.rival)
        return int(ids[0]) if len(ids) and difference[0] > 0 else None


def explains(intervention: Intervention) -> str:
    """Why the similarities under an intervention cannot be split into concepts; empty when they can: the base, another
    pooling, and one projection are linear in the embeddings."""
    for step in intervention.steps:
        if not isinstance(step, Pool | Removal | PrincipalComponents):
            return (
                f"{step.label} is not linear in the embeddings (it shifts, reweights or mixes models), so its similarities "
                "do not split into concepts; the list before does."
            )
    if len(intervention.linear) > 1:
        return "Two projections one after the other are explained one at a time; switch one of them off."
    return ""


def explain(lab: Lab, comparison: Comparison, side: str, intervention: Intervention) -> Explanation:
    """The best target and the best non-target of a list ("before" or "after"), both explained.

    The bars of each add up to its cosine similarity under the intervention (`explain_pair`). RetrievalError when the
    query has no target, or `explains` gives a reason.
    """
    reason = explains(intervention)
    if reason or not len(comparison.targets):
        raise RetrievalError(reason or "The query has no target in the pool; choose one that has.")
    lists = comparison.before if side == "before" else comparison.after
    targets = comparison.targets.astype(np.int64)
    target = int(targets[np.argmin(lists.ranks(comparison.query, targets))])
    listed = lists.top(comparison.query, len(targets) + 1).ids[0]
    wrong = listed[~np.isin(listed, targets)]
    if not len(wrong):
        raise RetrievalError("Every candidate is a target of this query; there is nothing to compare with.")
    rival = int(wrong[0])
    pairs = [_pair(lab, intervention, comparison.query, candidate) for candidate in (target, rival)]
    return Explanation(pairs[0], pairs[1], target, rival)


def _pair(lab: Lab, intervention: Intervention, query: int, candidate: int) -> PairAttribution:
    pool = intervention.pool
    places = (("queries", pool.queries, query), ("candidates", pool.candidates, candidate))
    h_q, h_c = (np.asarray(lab.space.rows(side, variant)[place]) for side, variant, place in places)
    codes = [lab.space.codes(side, variant)[np.array([place])] for side, variant, place in places]
    basis = None
    if intervention.linear:
        step = intervention.linear[0]
        basis = lab.basis(step, intervention)
    (q_codes, c_codes) = ((part.indices[0], part.values[0]) for part in codes)
    return explain_pair(h_q, h_c, lab.space.sae, codes=(q_codes, c_codes), basis=basis)
