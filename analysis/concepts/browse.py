"""From filters to concept ids: which concepts a list shows, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.concepts.metrics import density

ANY = "any"
NAMED = (ANY, "name holds", "no shared meaning")
DENSITIES = (ANY, "sparse", "dense", "constant")
EFFECTS = (ANY, "hurts recall", "helps recall")
RELEVANCE = "relevance"  # sorts what a search found by how well it fits


@dataclass(frozen=True)
class Filters:
    """What a concept must be to be shown. Bounds are inclusive."""

    modality: tuple[float, float] = (0.0, 1.0)
    top_energy: float = 100.0  # percent of the dictionary, loudest first
    frequency: tuple[float, float] = (0.0, 100.0)  # percent of all samples
    alive: bool = True
    words: str = ""
    score: str = ""  # a column of the table, whose percentiles bound the concepts
    percentile: tuple[float, float] = (0.0, 100.0)
    named: str = ANY  # of NAMED
    density: str = ANY  # of DENSITIES
    effect: str = ANY  # of EFFECTS


def _by_word(table: pd.DataFrame, filters: Filters) -> np.ndarray:
    """(K,) bool: the filters that are a word."""
    keep = np.ones(len(table), bool)
    if filters.named != ANY:
        keep &= (table["name"].to_numpy(str) != "") == (filters.named == NAMED[1])
    if filters.density != ANY:
        keep &= density(table["frequency_image"].to_numpy(), table["frequency_text"].to_numpy()) == filters.density
    if filters.effect != ANY:
        effect = table["effect"].to_numpy(float)
        keep &= effect > 0 if filters.effect == EFFECTS[1] else effect < 0
    return keep


def select(
    table: pd.DataFrame, energy_rank: np.ndarray, filters: Filters, matches: np.ndarray | None = None
) -> np.ndarray:
    """Ids of the concepts that pass, ascending. table: Store.concepts; energy_rank (K,) 1 = loudest; matches (K,) bool:
    what the words found, None for no search."""
    keep = np.ones(len(table), bool)
    if filters.alive:
        keep &= table["energy"].to_numpy() > 0
    low, high = filters.modality
    if (low, high) != (0.0, 1.0):  # a dead concept has no modality score and passes no bound on it
        score = table["modality_score"].to_numpy(float)
        keep &= np.nan_to_num(score, nan=-1) >= low - 1e-9
        keep &= np.nan_to_num(score, nan=2) <= high + 1e-9
    if filters.top_energy < 100:
        keep &= energy_rank <= max(1, int(len(table) * filters.top_energy / 100))
    low, high = filters.frequency
    if (low, high) != (0.0, 100.0):
        fires = 100 * table["frequency"].to_numpy(float)
        keep &= (fires >= low) & (fires <= high)
    if filters.score and tuple(filters.percentile) != (0, 100):
        keep &= _between(table[filters.score].to_numpy(float), filters.percentile)
    keep &= _by_word(table, filters)
    if matches is not None:
        keep &= matches
    return np.flatnonzero(keep)


def _between(values: np.ndarray, percentile: tuple[float, float]) -> np.ndarray:
    """(K,) bool: the concepts whose value lies between two percentiles of those that have one."""
    known = np.isfinite(values)
    if not known.any():
        return known
    low, high = np.percentile(values[known], percentile)
    return known & (values >= low) & (values <= high)


def order(
    table: pd.DataFrame, ids: np.ndarray, by: str, *, descending: bool, relevance: np.ndarray | None = None
) -> np.ndarray:
    """The ids sorted by a column of the table ("id": by themselves), or by relevance (K,); missing scores last, equal ones
    by id."""
    if by == RELEVANCE:
        fits = np.zeros(len(table)) if relevance is None else relevance
        return ids[np.lexsort((ids, -fits[ids] if descending else fits[ids]))]
    if by == "id":
        return ids[::-1] if descending else ids
    if by == "name":
        names = np.asarray([str(name).lower() for name in table["name"].to_numpy()[ids]])
        found = ids[np.argsort(names, kind="stable")]
        return found[::-1] if descending else found
    values = table[by].to_numpy(float)[ids]
    missing = np.isnan(values)
    return ids[np.lexsort((ids, -values if descending else values, missing))]


def ranks(values: np.ndarray) -> np.ndarray:
    """(K,) rank of every concept by a score, 1 = largest, equal ones by id; 0 where the score is missing."""
    rank = np.empty(len(values), np.int64)
    rank[np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")] = np.arange(1, len(values) + 1)
    return np.where(np.isnan(values), 0, rank)


def said_by(texts: np.ndarray, pair_id: np.ndarray, first_caption: np.ndarray) -> np.ndarray:
    """(N,) what each sample says in words: its own text, a picture's first caption, "" for one without."""
    source = np.arange(len(texts))
    silent = np.flatnonzero((texts == "") & (pair_id >= 0))
    source[silent] = first_caption[pair_id[silent]]
    return np.where(source >= 0, texts[source], "")


def brushed(event: Mapping | None, values: np.ndarray, ids: np.ndarray) -> np.ndarray | None:
    """Ids whose value lies in the horizontal ranges brushed on a histogram; None when nothing is brushed."""
    boxes = ((event or {}).get("selection") or {}).get("box") or []
    ranges = [sorted(float(end) for end in box["x"]) for box in boxes if box.get("x")]
    if not ranges:
        return None
    inside = np.zeros(len(ids), bool)
    for low, high in ranges:
        inside |= (values >= low) & (values <= high)
    return ids[inside]


def in_region(event: Mapping | None, x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """(n,) bool: which points lie in the boxes and lassos drawn on a map, also those that are not drawn one by one; None where
    there are none. A point counts as inside where a ray from it crosses the lasso an odd number of times."""
    selection = (event or {}).get("selection") or {}
    inside, any_region = np.zeros(len(x), bool), False
    for box in selection.get("box") or []:
        (left, right), (low, high) = (sorted(map(float, box[name])) for name in ("x", "y"))
        inside |= (x >= left) & (x <= right) & (y >= low) & (y <= high)
        any_region = True
    for lasso in selection.get("lasso") or []:
        corners = np.stack([np.asarray(lasso[name], float) for name in ("x", "y")], axis=1)
        odd = np.zeros(len(x), bool)
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                odd ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
        inside |= odd
        any_region = True
    return inside if any_region else None
