"""The concept map: dictionary atoms in two dimensions."""

from __future__ import annotations

import warnings

import numpy as np

from analysis.errors import DataError

UMAP_FROM = 50  # fewer concepts have no neighbourhoods worth keeping: principal components then
METHODS = ("umap", "pca")


def concept_map(dictionary: np.ndarray, *, alive: np.ndarray, seed: int = 0, method: str = "umap") -> np.ndarray:
    """(K, 2) float32 positions of the concepts that are alive, NaN for the others.

    "umap": 15 neighbours by cosine, minimal distance 0.1, seeded (as Papadimitriou et al. draw it); "pca" the two
    leading components, also used below UMAP_FROM concepts.
    """
    if method not in METHODS:
        raise DataError(f"The map's method is {method!r}; expected one of {', '.join(METHODS)}.")
    alive = np.asarray(alive, bool)
    atoms = np.ascontiguousarray(dictionary[alive], np.float32)
    position = np.full((len(dictionary), 2), np.nan, np.float32)
    if len(atoms) >= 3:
        position[alive] = _umap(atoms, seed) if method == "umap" and len(atoms) >= UMAP_FROM else _pca(atoms)
    elif len(atoms):
        position[alive] = np.arange(len(atoms) * 2).reshape(-1, 2)
    return position


def _umap(atoms: np.ndarray, seed: int) -> np.ndarray:
    from umap import UMAP

    with warnings.catch_warnings():  # a seeded map runs on one thread and says so; that is intended
        warnings.simplefilter("ignore", UserWarning)
        layout = UMAP(n_neighbors=15, min_dist=0.1, metric="cosine", random_state=seed)
        return np.asarray(layout.fit_transform(atoms), np.float32)


def _pca(atoms: np.ndarray) -> np.ndarray:
    centred = atoms - atoms.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return (centred @ directions[:2].T).astype(np.float32)
