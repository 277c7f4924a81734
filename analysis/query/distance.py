"""Is a live query like those that the store was made of? Beyond the 99th percentile of the store's own queries it is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.retrieval.ranking.rows import unit_rows

if TYPE_CHECKING:
    from analysis.query.query import LiveQuery
    from analysis.retrieval.task import RetrievalSpace

SAMPLE = 1000  # queries of the store that are looked at
PERCENTILE = 99
LEAST = 50  # fewer say nothing about a percentile
_CHUNK = 256


@dataclass(frozen=True)
class Usual:
    """The store's own queries. rows (n, D): unit embeddings; distance: within which PERCENTILE % of them have their nearest
    other one, as cosine distance; left: the share of its length that the SAE leaves of as many, at most."""

    rows: np.ndarray
    distance: float
    left: float


def usual(space: RetrievalSpace, *, seed: int = 0) -> Usual | None:
    """What is usual among the queries of a task; None for a task with few."""
    if space.n_queries < LEAST:
        return None
    chosen = np.sort(np.random.default_rng(seed).permutation(space.n_queries)[:SAMPLE])
    if space.read_rows is None:
        h = np.asarray(space.rows("queries", "mean")[chosen], np.float32)
    else:
        h = np.asarray(space.read_rows("queries", "mean", chosen), np.float32)
    rows = unit_rows(h)[0]
    nearest = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        cosines = rows[start : start + _CHUNK] @ rows.T
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf
        nearest[start : start + _CHUNK] = 1 - cosines.max(axis=1)
    return Usual(rows, float(np.percentile(nearest, PERCENTILE)), float(np.percentile(_left(space, h), PERCENTILE)))


def distance_note(space: RetrievalSpace, known: Usual | None, query: LiveQuery) -> str:
    """What to know of a query that is unlike the store's own; "" for one that is like them, or of another kind than they."""
    from analysis.query.compatibility import SHORT

    if known is None or space.task.split("2")[0] != SHORT[query.modality]:
        return ""
    h = np.asarray(query.embedding(), np.float32)[None]
    away, left = float(1 - (known.rows @ unit_rows(h)[0][0]).max()), float(_left(space, h)[0])
    said = []
    if away > known.distance:
        said.append(
            f"This query is unlike those of the store: the nearest of {len(known.rows):,} is {away:.2g} away (cosine "
            f"distance), while {PERCENTILE} % of them have another within {known.distance:.2g}."
        )
    if left > known.left:
        said.append(
            f"The SAE leaves {100 * left:.0f} % of its length unexplained, of {PERCENTILE} % of the store's queries at most "
            f"{100 * known.left:.0f} %: its concepts say less about it."
        )
    return " ".join(said)


def _left(space: RetrievalSpace, h: np.ndarray) -> np.ndarray:
    """(n,) |h - reconstruction| / |h|."""
    from analysis.sae.encode import decode

    rest = h - np.asarray(decode(space.sae, space.encode(h)), np.float32)
    return np.linalg.norm(rest, axis=1) / np.maximum(np.linalg.norm(h, axis=1), 1e-12)
