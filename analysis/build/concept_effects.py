"""What the removal of each live concept alone does to recall, measured on a store that stands and kept among its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.build.extraction import Progress, Say
from analysis.build.rescore import effects_of, rescore
from analysis.errors import StoreError, one_of
from analysis.retrieval.evaluation.single_effects import single_effects
from analysis.retrieval.task import space_from_store
from analysis.store.read import open_store


def measure_concept_effects(
    path: Path, *, tasks: Sequence[str] = (), say: Say = print, progress: Progress | None = None
) -> pd.DataFrame:
    """The effects of all live concepts on some tasks (default: all of the store), as the store keeps them from then on;
    what it knows of other tasks stays. Columns: schema.EFFECT_COLUMNS. StoreError for a store without tasks."""
    store = open_store(path)
    if not store.tasks:
        raise StoreError(f"{store.name} holds no retrieval task; build it again with --tasks.")
    for task in tasks:
        one_of("task", task, store.tasks)
    wanted = list(tasks) or list(store.tasks)
    live = np.flatnonzero(store.concepts["energy"].to_numpy() > 0)
    known = effects_of(store)
    parts = [] if known is None else [known[~known["task"].isin(wanted)]]
    for task in wanted:
        parts.append(single_effects(space_from_store(store, task), live, progress=progress))
    effects = pd.concat(parts, ignore_index=True)
    rescore(path, effects=effects, say=say, progress=progress)
    return effects
