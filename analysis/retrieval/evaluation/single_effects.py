"""What the removal of each concept alone does to recall, for all live concepts of a task at once.

With unit queries q, candidates c and a unit atom d, removal gives (q·c - (q·d)(c·d)) / (|q'| |c'|), |x'|² = 1 - (x·d)²: a
rank-one change of similarities that are computed once. The candidates of a query stand in order of their similarity, and
a concept can move one by (q·d) max|c·d| at most, so most of them need no look; what is counted is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.bootstrap import LEVEL, RESAMPLES
from analysis.retrieval.evaluation.evaluate import KS
from analysis.retrieval.ranking.ranks import canonical_qrels
from analysis.retrieval.ranking.rows import VOID, unit_rows
from analysis.retrieval.task import RetrievalSpace
from analysis.store.schema import EFFECT_COLUMNS

MEAN = 0  # in the column k: the mean of recall at all cut-offs
_HELD = 2**30  # bytes of sorted similarities held at a time
_CONCEPTS = 256  # at a time

Progress = Callable[[str, int, int], None]


def single_effects(
    space: RetrievalSpace,
    concepts: np.ndarray,
    *,
    ks: Sequence[int] = KS,
    progress: Progress | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """A row a concept and k (MEAN: the mean over ks), columns EFFECT_COLUMNS: base recall ("hit"), its change when the
    concept's direction is removed from both sides, and the 95 % interval of the change, paired over queries.

    concepts: ids, live ones. A query inside the direction misses; a candidate inside it has similarity 0.
    """
    after, before = best_ranks(space, concepts, limit=max(ks), progress=progress)
    base = _hits(before[None], ks)[0]
    parts = []
    for start in range(0, len(concepts), _CONCEPTS):
        some = slice(start, start + _CONCEPTS)
        # Whole numbers: the mean over ks moves in steps of 1 / len(ks).
        change = np.rint((_hits(after[some], ks) - base) * len(ks)).astype(np.int64)
        for slot, k in enumerate((*ks, MEAN)):
            low, high = _intervals(change[:, :, slot], len(ks), resamples, seed)
            parts.append(
                pd.DataFrame(
                    {
                        "task": space.task, "concept": np.asarray(concepts[some], np.int64), "k": k,
                        "base": base[:, slot].mean(), "difference": change[:, :, slot].mean(axis=1) / len(ks), "low": low,
                        "high": high,
                    }
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)[list(EFFECT_COLUMNS)]


def leaderboard(effects: pd.DataFrame, task: str, *, hurts: bool, k: int = MEAN) -> pd.DataFrame:
    """Rows of the concepts whose removal raises recall (hurts: the concept does) or lowers it, the largest change first."""
    rows = effects[(effects["task"] == task) & (effects["k"] == k)]
    rows = rows[rows["difference"] > 0] if hurts else rows[rows["difference"] < 0]
    return rows.sort_values(["difference", "concept"], ascending=[not hurts, True])


def best_ranks(
    space: RetrievalSpace, concepts: np.ndarray, *, limit: int, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """((m, Q), (Q,)) rank of each query's best target without each concept, and with all of them; `limit` + 1 stands for
    every rank beyond `limit` and for queries without a target."""
    if not len(concepts):
        raise RetrievalError("No concept is live in this store; expected at least one to remove.")
    (queries, void_q), (candidates, void_c) = (
        unit_rows(np.asarray(space.rows(side, "mean"), np.float64)) for side in ("queries", "candidates")
    )
    qrels = canonical_qrels(space.qrels)
    offsets, targets = qrels.indptr.astype(np.int64), qrels.indices.astype(np.int64)
    n_queries, n_candidates = qrels.shape
    after = np.full((len(concepts), n_queries), limit + 1, np.int16)
    before = np.full(n_queries, limit + 1, np.int32)
    step = max(1, _HELD // (16 * n_candidates))
    blocks = range(0, n_queries, step)
    done, total = 0, len(blocks) * len(concepts)
    for start in blocks:
        rows = slice(start, min(start + step, n_queries))
        similarity = queries[rows] @ candidates.T
        order = np.argsort(-similarity, axis=1, kind="stable").astype(np.int32)
        similarity = np.take_along_axis(similarity, order, axis=1)
        n, own = len(similarity), (offsets[rows.start : rows.stop + 1] - offsets[rows.start])
        mine = targets[offsets[rows.start] : offsets[rows.stop]]
        given = (similarity, order, own, mine, limit)
        before[rows] = _without(given, np.zeros((1, n)), np.zeros((1, n_candidates)), void_q[rows], void_c)[0]
        for first in range(0, len(concepts), _CONCEPTS):
            part = slice(first, min(first + _CONCEPTS, len(concepts)))
            atoms = np.asarray(space.dictionary[concepts[part]], np.float64)
            along_q, along_c = atoms @ queries[rows].T, atoms @ candidates.T
            after[part, rows] = _without(given, along_q, along_c, void_q[rows], void_c)
            done += len(atoms)
            if progress is not None:
                progress(f"concepts on {space.task}", done, total)
    return after, before


def _without(
    given: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int],
    along_q: np.ndarray,
    along_c: np.ndarray,
    void_q: np.ndarray,
    void_c: np.ndarray,
) -> np.ndarray:
    """(m, n) ranks of the best targets of n queries without m directions."""
    from analysis.jit import over_rows
    from analysis.retrieval.ranking.single_kernels import ranks_without

    left_q, left_c = (np.sqrt(np.maximum(1 - along**2, 0)) for along in (along_q, along_c))
    scale = np.divide(1.0, left_c, out=np.zeros_like(left_c), where=(left_c > VOID) & ~void_c)
    reach, longest = np.abs(along_c).max(axis=1), np.maximum(scale.max(axis=1), 1)
    out = np.empty(along_q.shape, np.int32)
    void = (left_q <= VOID) | void_q
    over_rows(ranks_without, len(void_q), *given, along_q, along_c, scale, reach, longest, void, out, grain=16)
    return out


def _hits(ranks: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """(m, Q, ks + 1) whether the best target is among the first k, and the mean over ks."""
    hits = np.stack([ranks <= k for k in ks], axis=-1).astype(np.float64)
    return np.concatenate([hits, hits.mean(axis=-1, keepdims=True)], axis=-1)


def _intervals(change: np.ndarray, unit: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """((m,), (m,)) ends of the percentile interval of the mean change over resampled queries.

    change (m, Q) in units of 1/unit. Resampling queries draws how often each value occurs from a multinomial, so concepts
    with the same counts share their draws.
    """
    values = np.arange(-unit, unit + 1)
    counts = np.stack([(change == value).sum(axis=1) for value in values], axis=1)
    kinds, kind = np.unique(counts, axis=0, return_inverse=True)
    low, high = np.zeros((2, len(kinds)))
    n = change.shape[1]
    for i, row in enumerate(kinds):
        if row[unit] == n:
            continue  # no query changed: no draw does
        drawn = np.random.default_rng(seed).multinomial(n, row / n, size=resamples) @ values / (unit * n)
        low[i], high[i] = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return low[kind.ravel()], high[kind.ravel()]
