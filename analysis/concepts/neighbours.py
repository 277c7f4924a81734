"""Nearest concepts by the cosine of their dictionary atoms."""

from __future__ import annotations

import numpy as np

from analysis.errors import DataError

BLOCK_VALUES = 2**23


def nearest_concepts(dictionary: np.ndarray, m: int = 16) -> np.ndarray:
    """(K, m) int32: for every concept the m others with the highest <D_i, D_j>, nearest first, in blocks.

    dictionary: (K, D) unit rows. At equal cosines the lower id comes first. Raises DataError unless 0 <= m < K.
    """
    n_concepts = len(dictionary)
    if not 0 <= m < n_concepts:
        raise DataError(f"{m} neighbours among {n_concepts} concepts; expected at least 0 and fewer than all.")
    atoms = np.ascontiguousarray(dictionary, np.float32)
    nearest = np.empty((n_concepts, m), np.int32)
    step = max(1, BLOCK_VALUES // n_concepts)
    for start in range(0, n_concepts, step):
        rows = np.arange(start, min(start + step, n_concepts))
        cosine = atoms[rows] @ atoms.T
        cosine[np.arange(len(rows)), rows] = -np.inf  # a concept is no neighbour of itself
        found = np.argpartition(-cosine, m - 1, axis=1)[:, :m] if m else np.empty((len(rows), 0), np.int64)
        value = np.take_along_axis(cosine, found, axis=1)
        order = np.lexsort((found, -value), axis=1)
        nearest[rows] = np.take_along_axis(found, order, axis=1)
    return nearest
