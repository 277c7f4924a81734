"""Density of modality scores on [0, 1]."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.concepts.metrics import density as how_often
from analysis.errors import DataError

BINS = 4000
NARROW = 0.02  # bandwidth of the density of energy: one concept that holds 40 % of it stands as a peak, not as a plain
LOUD = 0.1  # share of the energy from which a concept is named beside the curve


def curve_of(concepts: pd.DataFrame, weighting: str = "concepts") -> tuple[np.ndarray, np.ndarray]:
    """(grid, density) of the modality scores of a store's concepts, constant ones left out: they fire on everything of a
    modality, so that their score says how strongly, not on what. weighting: "concepts" (each counts once) or "energy"."""
    counts = ~constant(concepts)
    energy = concepts["energy"].to_numpy(float)[counts] if weighting == "energy" else None
    score = concepts["modality_score"].to_numpy(float)[counts]
    return modality_density(score, weights=energy, bandwidth=NARROW if weighting == "energy" else None)


def constant(concepts: pd.DataFrame) -> np.ndarray:
    """(K,) bool: concepts that fire on nearly every sample of a modality."""
    return how_often(concepts["frequency_image"].to_numpy(), concepts["frequency_text"].to_numpy()) == "constant"


def outstanding(concepts: pd.DataFrame) -> list[tuple[int, float, bool]]:
    """(concept, share of the energy, whether it is constant) of the constant concepts and of those that hold LOUD of the
    energy or more, the loudest first: what a density must say in words."""
    energy = concepts["energy"].to_numpy(float)
    share, always = energy / max(energy.sum(), 1e-300), constant(concepts)
    found = np.flatnonzero((always & (energy > 0)) | (share >= LOUD))
    return [(int(i), float(share[i]), bool(always[i])) for i in found[np.argsort(-share[found], kind="stable")]]


def modality_density(
    scores: np.ndarray, *, weights: np.ndarray | None = None, points: int = 401, bandwidth: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(grid, density), each (points,): a Gaussian KDE on [0, 1] with reflection at both ends; it integrates to 1 there.

    A plain KDE leaks mass beyond 0 and 1, where most modality scores lie. NaN scores (concepts that never fire) are left
    out; weights (for instance energies) need not sum to anything. bandwidth: standard deviation of the kernel, None for
    Scott's rule on the scores, at least 0.01. No scores give a density of zeros.
    """
    scores = np.asarray(scores, np.float64)
    keep = ~np.isnan(scores)
    if weights is not None:
        weights = np.asarray(weights, np.float64)
        keep &= weights > 0
    found = scores[keep]
    if found.size and (found.min() < 0 or found.max() > 1):
        raise DataError(f"A modality score is {found.min()} or {found.max()}; expected values between 0 and 1.")
    grid = np.linspace(0, 1, points)
    if not found.size:
        return grid, np.zeros(points)
    mass = np.ones(len(found)) if weights is None else weights[keep]
    width = bandwidth or scott_bandwidth(found, mass)
    if len(found) > BINS:  # a bin is a fortieth of the narrowest kernel: invisible, and the cost stops growing with K
        mass = np.bincount(np.rint(found * BINS).astype(np.int64), weights=mass, minlength=BINS + 1)
        found = np.linspace(0, 1, BINS + 1)
    # scipy's gaussian_kde does the same sum, but takes half a second to import, which is a sixth of the app's cold start.
    density = np.zeros(points)
    for mirrored in (found, -found, 2 - found):
        density += np.exp(-0.5 * np.square((grid[:, None] - mirrored) / width)) @ mass
    return grid, density / (mass.sum() * width * np.sqrt(2 * np.pi))


def scott_bandwidth(scores: np.ndarray, weights: np.ndarray) -> float:
    """Scott's rule, n_eff^(-1/5) times the deviation, never below 0.01: spikes at 0 and 1 stay visible."""
    share = weights / weights.sum()
    effective = 1 / np.square(share).sum()
    deviation = np.sqrt(np.sum(share * (scores - np.sum(share * scores)) ** 2))
    return float(max(effective**-0.2 * deviation, 0.01))
