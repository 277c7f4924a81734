"""The two ranked lists of one query, before and after: what stands in them, from where it came, where the targets are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.retrieval.evaluation.movement import SideBySide, side_by_side
from analysis.retrieval.interventions.fitting import Fitted
from analysis.retrieval.ranking.lists import Lists, ScoreLists

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


def compare(
    base: Fitted,
    changed: Fitted,
    h_before: np.ndarray,
    h_after: np.ndarray,
    targets: tuple[int, ...] = (),
    *,
    position: int | None = None,
) -> Comparison:
    """The ranking of `h_before` in the base space beside that of `h_after` in the changed one.

    base, changed: `fitting.fit` of no intervention and of one; h_before, h_after: un-normalised embeddings (D,) of the
    query, without and with its mask; targets: positions of relevant candidates, where they are known; position: of the
    query in the task, where it is one of its. RetrievalError when an intervention leaves nothing of the query.
    """
    stored = None if position is None else np.array([position])
    lists = [
        ScoreLists(fitted.scores(fitted.query(h).reshape(1, -1), positions=stored))
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
