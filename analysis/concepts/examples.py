"""Which samples stand for a concept: the strongest, some at lower strengths, some at random, and whether pairs agree.

Works on one concept's postings (rows and values, strongest first), so any concept costs a slice of a memory map.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

IMAGE, TEXT, OTHER = 0, 1, 2  # OTHER: image and text together, or in no pair (retrieval only)
QUANTILES = (0.75, 0.50, 0.25)
PAIRED_TOP = 20
SAME_WORDS = 0.9  # captions whose sets of words overlap as much say the same
TINY = 8  # side of the copies by which pictures are compared
SAME_LOOK = 4.0  # of 255: mean difference of two tiny copies below which both show the same
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Firing:
    """Samples of one modality on which a concept fires, strongest first: rows (n,), values (n,)."""

    rows: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice | np.ndarray) -> Firing:
        return Firing(self.rows[part], self.values[part])


def kinds(modality: np.ndarray, pair_id: np.ndarray) -> np.ndarray:
    """(N,) int8: IMAGE or TEXT for the samples that concepts are scored on, OTHER for the rest. Those are the samples of a
    pair, or all where the data have no pairs (retrieval tasks alone)."""
    scored = (pair_id >= 0) | ~(pair_id >= 0).any()
    kind = np.full(len(modality), OTHER, np.int8)
    kind[(modality == "image") & scored] = IMAGE
    kind[(modality == "text") & scored] = TEXT
    return kind


def first_of_pairs(rows: np.ndarray, pair_id: np.ndarray) -> np.ndarray:
    """(P,) the first of some rows in each pair, -1 for a pair without; rows ascend."""
    rows = rows[pair_id[rows] >= 0]
    first = np.full(int(pair_id.max(initial=-1)) + 1, -1, np.int64)
    first[pair_id[rows][::-1]] = rows[::-1]
    return first


def split(rows: np.ndarray, values: np.ndarray, kind: np.ndarray) -> tuple[Firing, Firing]:
    """(pictures, captions) among the samples on which a concept fires, order kept."""
    which = kind[rows]
    return Firing(rows[which == IMAGE], values[which == IMAGE]), Firing(rows[which == TEXT], values[which == TEXT])


def distinct(firing: Firing, texts: np.ndarray, count: int) -> Firing:
    """The first `count` that say something new: of captions with nearly the same words the strongest stays.

    texts (N,): the caption of every sample. Looks at the 20 * count strongest at most.
    """

    def words(row: int) -> frozenset[str]:
        return frozenset(re.findall(r"[^\W_]+", str(texts[row]).lower()))

    return _new(firing, count, 20 * count, words, lambda one, other: _overlap(one, other) >= SAME_WORDS)


def distinct_pictures(firing: Firing, look: Callable[[int], np.ndarray | None], count: int) -> Firing:
    """The first `count` that show something new: of nearly equal pictures the strongest stays.

    look(row): `tiny` of a sample's picture, None where there is none; such a sample stays. Looks at the 4 * count strongest
    at most.
    """
    return _new(firing, count, 4 * count, look, lambda one, other: bool(np.abs(one - other).mean() <= SAME_LOOK))


def _new(
    firing: Firing, count: int, most: int, look: Callable[[int], Seen | None], same: Callable[[Seen, Seen], bool]
) -> Firing:
    """The first `count` of the `most` strongest that are not the same as one before; where look(row) is None, it is new."""
    seen: list[Seen] = []
    kept: list[int] = []
    for slot, row in enumerate(firing.rows[:most]):
        found = look(int(row))
        if found is not None:
            if any(same(found, other) for other in seen):
                continue
            seen.append(found)
        kept.append(slot)
        if len(kept) == count:
            break
    return firing[np.asarray(kept, int)]


def tiny(path: Path) -> np.ndarray | None:
    """(TINY, TINY, 3) int16: mean colours of the cells of a picture, nearly the same for another size or compression of it;
    None where the file is no picture."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB").resize((TINY, TINY), Image.Resampling.BOX), np.int16)
    except OSError:
        return None


def around(firing: Firing, quantile: float, count: int) -> Firing:
    """At most `count` samples around a quantile of the non-zero activations (1 = strongest); fewer where the samples around
    one of QUANTILES would be those around the next as well."""
    count = min(count, max(1, (len(firing) - 1) // (len(QUANTILES) + 1)))
    centre = round((1 - quantile) * (len(firing) - 1)) if len(firing) else 0
    start = max(0, min(centre - count // 2, len(firing) - count))
    return firing[slice(start, start + count)]


def at_random(firing: Firing, count: int, seed: int) -> Firing:
    """`count` samples drawn evenly from all on which the concept fires, strongest first; the seed makes them the same for
    every visitor."""
    if len(firing) <= count:
        return firing
    drawn = np.random.default_rng(seed).choice(len(firing), count, replace=False)
    return firing[np.sort(drawn)]


def paired_share(top: np.ndarray, partners: np.ndarray, pair_id: np.ndarray, pair_size: np.ndarray) -> float:
    """Share of the other side's samples, in the pairs of `top`, on which the concept fires too; NaN without any.

    top: rows of one modality; partners: rows of the other modality on which the concept fires; pair_size (P,): samples of
    the other modality in each pair.
    """
    pairs = np.unique(pair_id[top][pair_id[top] >= 0])
    total = int(pair_size[pairs].sum()) if len(pairs) else 0
    return float(np.isin(pair_id[partners], pairs).sum() / total) if total else float("nan")


def _overlap(a: frozenset[str], b: frozenset[str]) -> float:
    union = len(a | b)
    return len(a & b) / union if union else 1.0
