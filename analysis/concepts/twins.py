"""Concepts of two SAEs that fire on the same samples: twins, those that stand on one side only, and the energy these hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.concepts.matching import ONE_TO_ONE_UP_TO, match_by_activation, one_to_one_by_activation
from analysis.concepts.metrics import energy, frequency
from analysis.errors import DataError
from analysis.sae.codes import Codes

LEAST = 5  # shared samples that a concept must fire on to be compared: two that fire once agree by chance
TWINS = 0.5  # correlation of activations from which two concepts are called twins


@dataclass(frozen=True)
class Twins:
    """pairs (n, 2): concepts here and there, the most alike first, with their correlation (n,); here, there: live concepts
    without a twin, loudest first; unmatched (2,): the share of either side's energy that these hold; samples: how many were
    compared; assigned: one to one by assignment (otherwise by mutual choice, where there are too many concepts for it)."""

    pairs: np.ndarray
    correlation: np.ndarray
    here: np.ndarray
    there: np.ndarray
    unmatched: tuple[float, float]
    samples: int
    assigned: bool


@dataclass(frozen=True)
class Shared:
    """How two concepts fire on the samples that both stores hold: positions among them, the strongest together first."""

    both: np.ndarray
    only_here: np.ndarray
    only_there: np.ndarray
    correlation: float


def shared_rows(here: pd.DataFrame, there: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """((n,), (n,)) rows of the samples that two stores both hold, from their sample tables: those of image-caption pairs
    where both have any, else all. DataError where there are none."""
    place = {name: row for row, name in enumerate(there["sample_id"])}
    rows = np.asarray([(row, place[name]) for row, name in enumerate(here["sample_id"]) if name in place], np.int64)
    rows = rows.reshape(-1, 2)
    paired = (here["pair_id"].to_numpy()[rows[:, 0]] >= 0) & (there["pair_id"].to_numpy()[rows[:, 1]] >= 0)
    rows = rows[paired] if paired.any() else rows
    if not len(rows):
        raise DataError("The two stores share no sample; expected two models, SAEs or seeds on the same data.")
    return rows[:, 0], rows[:, 1]


def find_twins(here: Codes, there: Codes) -> Twins:
    """Twins over N shared samples; here (N, K) and there (N, K'): row by row the same sample."""
    pairs, correlation, assigned = _paired(here, there)
    loud = energy(here), energy(there)
    alone = [np.setdiff1d(np.flatnonzero(values > 0), pairs[:, side]) for side, values in enumerate(loud)]
    alone = [ids[np.argsort(-values[ids], kind="stable")] for ids, values in zip(alone, loud, strict=True)]
    shares = [float(values[ids].sum() / max(values.sum(), 1e-12)) for ids, values in zip(alone, loud, strict=True)]
    return Twins(pairs, correlation, alone[0], alone[1], (shares[0], shares[1]), len(here), assigned)


def twins_by_chance(here: Codes, there: Codes, kinds: np.ndarray, seed: int = 0) -> int:
    """How many twins are found where there is nothing to find: the samples of one side shuffled within each kind (N,), so
    that a concept of pictures still fires on pictures, but on others."""
    rng, shuffled = np.random.default_rng(seed), np.arange(len(there))
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        shuffled[rows] = rng.permutation(rows)
    return len(_paired(here, there[shuffled])[0])


def _paired(here: Codes, there: Codes) -> tuple[np.ndarray, np.ndarray, bool]:
    """((n, 2) twins, the most alike first, their correlation (n,), whether they were assigned one to one)."""
    live = [int((energy(side) > 0).sum()) for side in (here, there)]
    often = [frequency(side) * len(side) >= LEAST for side in (here, there)]
    assigned = max(live) <= ONE_TO_ONE_UP_TO
    if assigned:
        found = one_to_one_by_activation(here, there)
        good = np.nan_to_num(found.similarity) >= TWINS
    else:
        found = match_by_activation(here, there)
        good = found.mutual & (np.nan_to_num(found.similarity) >= TWINS)
    good &= often[0] & (found.partner >= 0) & often[1][found.partner]
    pairs = np.stack([np.flatnonzero(good), found.partner[good]], axis=1)
    correlation = found.similarity[good]
    order = np.argsort(-correlation, kind="stable")
    return pairs[order], correlation[order], assigned


def best_match(here: Codes, concept: int, there: Codes) -> tuple[int, float]:
    """(concept there, correlation of activations) most like one concept here over N shared samples; (-1, NaN) where it, or
    everything there, never fires or always equally."""
    mine = here.activation(concept)
    values, ids = np.asarray(there.values, np.float64), np.asarray(there.indices)
    n, spread = len(mine), mine.std()
    total = np.bincount(ids.ravel(), values.ravel(), there.n_concepts) / max(n, 1)
    square = np.bincount(ids.ravel(), np.square(values).ravel(), there.n_concepts) / max(n, 1)
    both = np.bincount(ids.ravel(), (values * mine[:, None]).ravel(), there.n_concepts) / max(n, 1)
    deviation = np.sqrt(np.maximum(square - np.square(total), 0))
    known = deviation > 1e-9
    if not spread > 0 or not known.any():
        return -1, float("nan")
    found = np.where(known, (both - total * mine.mean()) / np.where(known, deviation * spread, 1), -np.inf)
    return int(found.argmax()), float(found.max())


def compare_concepts(here: Codes, concept: int, there: Codes, other: int) -> Shared:
    """Where two concepts fire together and where one alone, over the same samples."""
    left, right = here.activation(concept), there.activation(other)
    both = np.flatnonzero((left > 0) & (right > 0))
    peaks = max(left.max(initial=0), 1e-12), max(right.max(initial=0), 1e-12)
    both = both[np.argsort(-(left[both] / peaks[0] * right[both] / peaks[1]), kind="stable")]
    alone = [np.flatnonzero((mine > 0) & (other_side == 0)) for mine, other_side in ((left, right), (right, left))]
    alone = [rows[np.argsort(-mine[rows], kind="stable")] for rows, mine in zip(alone, (left, right), strict=True)]
    spread = left.std() * right.std()
    correlation = float(((left - left.mean()) * (right - right.mean())).mean() / spread) if spread > 0 else float("nan")
    return Shared(both, alone[0], alone[1], correlation)
