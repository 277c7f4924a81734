"""Removing a subspace that concepts span, paper equations 8 to 10."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.rows import VOID, refuse_void, unit_rows

_BLOCK = 1024


def check_concepts(ids: np.ndarray, n_concepts: int) -> None:
    """RetrievalError for an id that is no concept."""
    wrong = ids[(ids < 0) | (ids >= n_concepts)]
    if wrong.size:
        raise RetrievalError(f"Concept {wrong[0]} does not exist; expected ids from 0 to {n_concepts - 1}.")


def concept_subspace(
    dictionary: np.ndarray, concept_ids: Sequence[int] | np.ndarray, rank: int | None = None
) -> np.ndarray:
    """Basis (r, D) float64, orthonormal rows: the leading right singular vectors of the concepts' atoms (eq. 8, 9).

    D_R = dictionary[concept_ids] = U S V^T; the basis is V_r. `rank` None keeps every direction that the atoms span;
    atoms that depend on each other (singular value below max(m, D) * eps of float32 * the largest) add none, so r can
    be less than `rank`. No concepts give an empty basis (0, D). RetrievalError for an unknown concept or rank < 0.
    """
    ids = np.asarray(concept_ids, dtype=np.int64).ravel()
    n_concepts, width = dictionary.shape
    check_concepts(ids, n_concepts)
    if rank is not None and rank < 0:
        raise RetrievalError(f"The subspace was asked for rank {rank}; expected r >= 0.")
    if not ids.size or rank == 0:
        return np.empty((0, width))
    atoms = np.asarray(dictionary[np.unique(ids)], np.float64)
    directions = _leading_directions(atoms, max(atoms.shape) * float(np.finfo(np.float32).eps))
    return directions if rank is None else directions[:rank]


def _leading_directions(atoms: np.ndarray, least: float) -> np.ndarray:
    """(r, D) right singular vectors of atoms (m, D), those whose singular value exceeds `least` times the largest.

    From the smaller of the two Gram matrices: a third of the time of an SVD, at 3,000 atoms a tenth. Squaring costs half
    of float64's digits in the smallest singular values, which lie above `least`; the rows are made orthonormal again.
    """
    wide = len(atoms) <= atoms.shape[1]
    values, vectors = scipy.linalg.eigh(atoms @ atoms.T if wide else atoms.T @ atoms, driver="evd")
    singular, vectors = np.sqrt(np.maximum(values[::-1], 0)), vectors[:, ::-1]
    kept = singular > singular[0] * least
    singular, vectors = singular[kept], vectors[:, kept]
    directions = (vectors.T @ atoms) / singular[:, None] if wide else np.ascontiguousarray(vectors.T)
    triangle = np.linalg.cholesky(directions @ directions.T)  # all but the identity, so the order stays
    return np.asarray(scipy.linalg.solve_triangular(triangle, directions, lower=True))


def remove_subspace(x: np.ndarray, basis: np.ndarray, *, on_void: str = "error") -> np.ndarray:
    """h - V_r V_r^T h, scaled to length 1 (eq. 10). x (N, D), basis (r, D) orthonormal rows -> (N, D), dtype of x.

    An empty basis only normalises. A row that lies inside the subspace (less than a millionth of its length is left)
    has no direction afterwards: RetrievalError, or a row of zeros with on_void="zero", whose similarity to everything
    is 0. RetrievalError as well for a basis that is not orthonormal or that spans the whole space.
    """
    check_basis(basis, x.shape[1])
    projected, void = project_away(x, basis)
    if on_void != "zero":
        refuse_void(void, "lie entirely in the removed subspace")
    return projected


def project_away(x: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(unit rows without the subspace, which rows are void and therefore zero), computed in float64."""
    rows, void = unit_rows(x)
    basis = np.asarray(basis, np.float64)
    for start in range(0, len(rows) if len(basis) else 0, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = rows[part].astype(np.float64)
        rows[part], empty = unit_rows(block - (block @ basis.T) @ basis, least=VOID)
        void[part] |= empty
    return rows, void


def check_basis(basis: np.ndarray, width: int) -> None:
    """RetrievalError unless the rows of `basis` are orthonormal, of this width, and leave something to retrieve by."""
    if basis.ndim != 2 or basis.shape[1] != width:
        raise RetrievalError(f"The basis has shape {basis.shape}; expected (r, {width}), the width of the embeddings.")
    if len(basis) >= width:
        raise RetrievalError(
            f"The subspace has {len(basis)} of {width} dimensions, so nothing would be left to retrieve by; "
            "choose a smaller r or fewer concepts."
        )
    if len(basis) and not np.allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-4):
        raise RetrievalError(
            "The rows of the basis are not orthonormal; expected the result of concept_subspace or of an SVD."
        )
