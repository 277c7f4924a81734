"""The two ranked lists of one query, before and after: what stands in them, from where it came, where the targets are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from analysis.retrieval.movement import Lists, ScoreLists, SideBySide, side_by_side
from analysis.retrieval.pipeline import Fitted


@dataclass(frozen=True)
class Place:
    """One row of a list: a candidate, its rank and similarity here, its rank in the other list, whether it is a target."""

    rank: int
    candidate: int
    similarity: float
    other_rank: int
    is_target: bool = False


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
        table = getattr(self.tables(k), side)
        columns = (table[name].tolist() for name in ("rank", "candidate", "score", "other_rank", "target"))
        return [Place(*row) for row in zip(*columns, strict=True)]

    @cached_property
    def best_ranks(self) -> tuple[int, int] | None:
        """(best rank of any target before, best rank of any target after): not always the same target's. None without."""
        targets = self.targets.astype(np.int64)
        if not len(targets):
            return None
        return int(self.before.ranks(self.query, targets).min()), int(self.after.ranks(self.query, targets).min())


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
