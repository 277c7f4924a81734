"""Why a query's first place changed: the lead of one candidate over another, from before to after, concept by concept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import RetrievalError
from analysis.retrieval.attribution import signed
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.why import TIE, UNEXPLAINED, Explained, Explanation, explained, stored
from analysis.retrieval.interventions import BASE, Intervention
from analysis.retrieval.interventions.fitting import Fitted

OLD, NEW, TARGET, SECOND = "old winner", "new winner", "target", "runner-up"
NAMED = 3  # concepts that the sentence names


@dataclass(frozen=True)
class Change:
    """Two candidates of one query, split before and after. In both `Explanation`s `target` is the candidate whose lead is
    looked at, `rival` the one that it leads or follows; words: what both are called."""

    before: Explanation
    after: Explanation
    words: tuple[str, str]

    def table(self) -> pd.DataFrame:
        """One row a part that either split has, the largest change first, what is no concept last. Columns: concept (see
        `why.PARTS`), before, change, after = before + change: each adds up to its lead, in attrs["before"] and
        attrs["after"]."""
        sides = [split.table().set_index("concept")["difference"] for split in (self.before, self.after)]
        table = pd.DataFrame({"before": sides[0], "after": sides[1]}).fillna(0.0)
        table["change"] = table["after"] - table["before"]
        rest = table[table.index < 0].sort_index(ascending=False)
        concepts = table[table.index >= 0]
        order = np.lexsort((concepts.index.to_numpy(), -concepts["change"].abs().to_numpy()))
        found = (
            pd.concat([concepts.iloc[order], rest])[["before", "change", "after"]].rename_axis("concept").reset_index()
        )
        found.attrs.update(before=self.before.gap, after=self.after.gap)
        return found

    @property
    def names(self) -> dict[int, str]:
        """What the parts that are no concept are called."""
        return self.before.words | self.after.words

    @property
    def splits(self) -> bool:
        """Whether concepts may be named: the lead changed, and by more than what the SAE does not explain of it."""
        table = self.table()
        beyond = float(table.loc[table["concept"] == UNEXPLAINED, "change"].sum())
        moved = self.after.gap - self.before.gap
        return abs(moved) > max(TIE, abs(beyond))

    def sentences(self, title: Callable[[int], str]) -> list[str]:
        """From which lead to which, what moved it, and what of it the SAE does not explain. title: of a concept."""
        first, second = (_the(word) for word in self.words)
        told = [f"Before, {_lead(first, second, self.before.gap)}; after, {_lead(first, second, self.after.gap)}."]
        table, moved = self.table(), self.after.gap - self.before.gap
        beyond = float(table.loc[table["concept"] == UNEXPLAINED, "change"].sum())
        if abs(moved) <= TIE:
            return [*told, "Between the two nothing changed."]
        if not self.splits:
            return [
                *told,
                f"Of the change of {signed(moved)} what the SAE does not explain is {signed(beyond)}, no less than the change "
                "itself: no concept can be named for it.",
            ]
        toward = table[(table["concept"] >= 0) & (table["change"] * moved > 0)].head(NAMED)
        parts = [f"concept {title(int(row.concept))} ({signed(row.change)})" for row in toward.itertuples()]
        if parts:
            told.append(f"The change of {signed(moved)} comes most from {_listed(parts)}.")
        told.append(f"Not explained by the SAE: {signed(beyond)} of it.")
        return told


def contenders(comparison: Comparison) -> dict[str, tuple[int, int]]:
    """Name -> (the candidate whose lead is looked at, the one before it): "winners" where the first place changed, "target"
    where the best target afterwards is neither, "runner-up" where nothing else tells the lists apart."""
    old, new = (comparison.places(side, 1)[0].candidate for side in ("before", "after"))
    best = comparison.best_targets
    target = None if best is None else best[1].candidate
    pairs = {} if old == new else {"winners": (new, old)}
    if target is not None and target not in (old, new):
        pairs["target"] = (target, new)
    elif target == old == new or not pairs:
        listed = comparison.places("after", 2)
        if len(listed) > 1:
            pairs["runner-up"] = (listed[1].candidate, new)
    return pairs


def words_of(pair: str, comparison: Comparison) -> tuple[str, str]:
    """What the two candidates of a pair of `contenders` are called."""
    new = NEW if "winners" in contenders(comparison) else "winner"
    return {"winners": (NEW, OLD), "target": (TARGET, new), "runner-up": (SECOND, new)}[pair]


def explain_change(lab: Lab, comparison: Comparison, intervention: Intervention, pair: str) -> Change:
    """A pair of a stored query, split before and after. RetrievalError where the method does not split."""
    seeded, query = intervention.seeds()[0], comparison.query
    sides = []
    for method in (BASE, seeded):
        _check(method)
        h, codes = stored(lab.space, "queries", method.pool.queries, query)
        sides.append((explained(lab, method), h, codes, query, 0))
    return _change(sides, comparison, pair)


def explain_live_change(
    base: Fitted, changed: Fitted, comparison: Comparison, h_before: np.ndarray, h_after: np.ndarray, pair: str
) -> Change:
    """The same of a live query with its embeddings (D,), pooled as each side says."""
    sides = []
    for fitted, h in ((base, h_before), (changed, h_after)):
        _check(fitted.intervention)
        plain = fitted.cosines(fitted.query(h).reshape(1, -1))
        group = 0 if fitted.bias is None else int(fitted.bias.of_others(plain)[0])
        sides.append((Explained.of(fitted), h, fitted.space.encode(np.asarray(h)[None]), None, group))
    return _change(sides, comparison, pair)


def _change(sides: list[tuple], comparison: Comparison, pair: str) -> Change:
    first, second = contenders(comparison)[pair]
    splits = []
    for seen, h, codes, position, group in sides:
        one, other = (seen.pair(h, codes, c, position=position, group=group) for c in (first, second))
        splits.append(Explanation(one, other, first, second))
    return Change(splits[0], splits[1], words_of(pair, comparison))


def _check(method: Intervention) -> None:
    if reason := method.unexplained():
        raise RetrievalError(reason)


def _lead(first: str, second: str, gap: float) -> str:
    if abs(gap) <= TIE:
        return f"{first} and {second} tie"
    return f"{first} is {abs(gap):.3g} {'ahead of' if gap > 0 else 'behind'} {second}"


def _the(word: str) -> str:
    return f"the {word}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
