"""Which concepts a removal means: the top share by a score, an extreme of the modality score, a random draw, or names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analysis.concepts.scores import removal_values
from analysis.errors import RetrievalError
from analysis.retrieval.interventions.steps import Removal

ScoreColumn = Callable[[str], np.ndarray]  # name of a column of the concept table -> (K,)


def concept_ids(removal: Removal, column: ScoreColumn) -> np.ndarray:
    """Ids of the concepts to remove, most extreme first (ascending for random and hand-picked ones).

    m = max(1, floor(share * n)), n being all K concepts or the live ones (energy > 0). Concepts without a score (NaN:
    never active) are never chosen; equal scores go to the stronger, then to the lower id. A random draw is among live
    concepts only, because a control that removes dead atoms would remove nothing. RetrievalError when none is left.
    """
    if removal.score == "concepts":
        return np.unique(np.asarray(removal.concepts, np.int64))
    energy = np.nan_to_num(np.asarray(column("energy"), np.float64))
    live = np.flatnonzero(energy > 0)
    n = len(energy) if removal.base == "all" else len(live)
    m = max(1, int(np.floor(removal.share * n + 1e-9)))  # 0.07 * 100 is 7.000000000000001, 0.29 * 100 is 28.99...
    if removal.score == "random":
        chosen = np.random.default_rng(removal.seed).choice(live, min(m, len(live)), replace=False)
        ids = np.sort(chosen)
    else:
        score = removal_values(removal.score, column)
        known = np.flatnonzero(np.isfinite(score) & ((energy > 0) | (removal.base == "all")))
        ids = known[np.lexsort((known, -energy[known], -score[known]))][:m]
    if not len(ids):
        raise RetrievalError(
            f"No concept has a score for removal by {removal.score!r}; expected at least one live one."
        )
    return ids
