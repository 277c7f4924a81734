"""What an intervention changed, query by query: ranks before and after, and the two lists side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.errors import RetrievalError, one_of
from analysis.retrieval.ranking.lists import Lists
from analysis.retrieval.ranking.ranks import NO_RANK, TargetRanks


def movement(before: TargetRanks, after: TargetRanks, k: int) -> pd.DataFrame:
    """One row a query: query, before, after (rank of the best target), moved (places gained), status.

    rescued: now among the first k and not before; lost: the reverse; near miss: behind the first k both times, now at
    a rank of at most 3 k; unchanged: everything else; no target: nothing relevant in the pool (ranks 0).
    """
    if k < 1 or before.n_queries != after.n_queries:
        raise RetrievalError(
            f"Movement at k = {k} of {before.n_queries} and {after.n_queries} queries; expected k >= 1 and one query set."
        )
    old, new = before.best, after.best
    missing = (old == NO_RANK) | (new == NO_RANK)
    status = np.select(
        [missing, (old > k) & (new <= k), (old <= k) & (new > k), (new > k) & (new <= 3 * k)],
        ["no target", "rescued", "lost", "near miss"],
        "unchanged",
    )
    old, new = np.where(missing, 0, old), np.where(missing, 0, new)
    return pd.DataFrame(
        {"query": np.arange(len(old)), "before": old, "after": new, "moved": old - new, "status": status}
    )


CHANGES = ("rescued", "lost", "near", "moved", "all")
_STATUS = {"rescued": "rescued", "lost": "lost", "near": "near miss"}


def changed(moved: pd.DataFrame, which: str) -> pd.DataFrame:
    """Rows of a movement table that changed in one way (one of CHANGES), the most telling first: the largest gain among
    the rescued, the largest loss among the lost, the closest near miss, the biggest movement of all."""
    one_of("change of queries", which, CHANGES)
    if which in _STATUS:
        part = moved[moved["status"] == _STATUS[which]]
        by, ascending = ("after", True) if which == "near" else ("moved", which == "lost")
        return part.sort_values(by, ascending=ascending, kind="stable")
    if which == "moved":
        return moved.iloc[np.argsort(-moved["moved"].abs().to_numpy(), kind="stable")]
    return moved


@dataclass(frozen=True)
class SideBySide:
    """The lists of one query before and after. Columns: rank, candidate, score, target (relevant?), other_rank (in the
    other list), moved: places gained from before to after, also positive in the list before where it will rise.

    targets: all relevant candidates of the pool, best first in the list before, wherever they stand: candidate, rank_before,
    rank_after, score_before, score_after.
    """

    query: int
    before: pd.DataFrame
    after: pd.DataFrame
    targets: pd.DataFrame


def side_by_side(before: Lists, after: Lists, query: int, k: int, qrels: sp.csr_array) -> SideBySide:
    """The k best candidates of one query before and after an intervention, where each stands in the other list, and where
    its targets stand in both."""
    relevant = qrels.indices[qrels.indptr[query] : qrels.indptr[query + 1]].astype(np.int64)
    rankings = [lists.top(query, k) for lists in (before, after)]
    ids = [ranking.ids[0] for ranking in rankings]
    # Ranks of what the other list shows and of the targets, in one go.
    ranks = [
        lists.ranks(query, np.concatenate([shown, relevant])) for lists, shown in ((before, ids[1]), (after, ids[0]))
    ]
    targets = pd.DataFrame(
        {
            "candidate": relevant,
            "rank_before": ranks[0][len(ids[1]) :],
            "rank_after": ranks[1][len(ids[0]) :],
            "score_before": before.similarities(query, relevant),
            "score_after": after.similarities(query, relevant),
        }
    ).sort_values("rank_before", kind="stable", ignore_index=True)
    tables = []
    for ranking, shown, other_rank, sign in (
        (rankings[0], ids[0], ranks[1][: len(ids[0])], 1),
        (rankings[1], ids[1], ranks[0][: len(ids[1])], -1),
    ):
        rank = np.arange(1, len(shown) + 1)
        tables.append(
            pd.DataFrame(
                {
                    "rank": rank,
                    "candidate": shown,
                    "score": ranking.scores[0],
                    "target": np.isin(shown, relevant),
                    "other_rank": other_rank,
                    "moved": sign * (rank - other_rank),
                }
            )
        )
    return SideBySide(query, tables[0], tables[1], targets)
