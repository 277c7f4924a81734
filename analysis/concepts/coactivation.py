"""Which concepts fire on the same samples as one concept: cosine of their activations, over one modality at a time."""

from __future__ import annotations

import numpy as np

from analysis.sae.codes import Codes


def lengths(codes: Codes, rows: np.ndarray) -> np.ndarray:
    """(K,) length of every concept's activations over some samples."""
    part = codes[rows]
    return np.sqrt(
        np.bincount(part.indices.ravel(), np.square(part.values, dtype=np.float64).ravel(), codes.n_concepts)
    )


def together(codes: Codes, rows: np.ndarray, values: np.ndarray, length: np.ndarray) -> np.ndarray:
    """(K,) cosine of the activations of one concept with those of every concept, in [0, 1]; 0 where one never fires.

    rows, values: the samples of one modality on which the concept fires, and how strongly; length: `lengths` over all
    samples of that modality.
    """
    part = codes[rows]
    products = np.bincount(
        part.indices.ravel(), (part.values * np.asarray(values, np.float64)[:, None]).ravel(), codes.n_concepts
    )
    norm = length * np.sqrt(np.square(values, dtype=np.float64).sum())
    return np.divide(products, norm, out=np.zeros_like(products), where=norm > 0)
