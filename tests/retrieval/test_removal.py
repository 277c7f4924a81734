"""Removing a subspace: against dense float64 projections, and where it has no answer."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.removal import concept_subspace, remove_subspace
from tests.retrieval.planted import cloud, unit


@pytest.fixture
def dictionary() -> np.ndarray:
    return cloud(50, 20, 0)


def test_basis_is_orthonormal_and_spans_the_atoms(dictionary):
    basis = concept_subspace(dictionary, [3, 8, 40])
    assert basis.shape == (3, 20)
    assert np.allclose(basis @ basis.T, np.eye(3), atol=1e-12)
    atoms = dictionary[[3, 8, 40]].astype(np.float64)
    assert np.allclose(atoms @ basis.T @ basis, atoms, atol=1e-7)


def test_leading_directions_come_first(dictionary):
    atoms = dictionary[:12].astype(np.float64)
    full, part = concept_subspace(dictionary, range(12)), concept_subspace(dictionary, range(12), rank=4)
    assert np.array_equal(full[:4], part)
    held = np.linalg.norm(atoms @ full.T, axis=0)
    assert np.all(np.diff(held) <= 1e-9)
    assert np.allclose(held, np.linalg.svd(atoms)[1])


def test_dependent_atoms_add_no_direction(dictionary):
    dictionary[9] = dictionary[4]
    assert len(concept_subspace(dictionary, [4, 9, 4])) == 1
    assert len(concept_subspace(dictionary, range(40))) == 20
    assert len(concept_subspace(dictionary, [4, 9, 10], rank=10)) == 2


def test_removal_equals_the_dense_projector(dictionary):
    basis = concept_subspace(dictionary, [1, 2, 3, 4])
    x = 7 * cloud(30, 20, 1)
    expected = unit(x.astype(np.float64) @ (np.eye(20) - basis.T @ basis))
    removed = remove_subspace(x, basis)
    assert removed.dtype == np.float32
    assert np.allclose(removed, expected, atol=1e-7)
    assert np.allclose(remove_subspace(x.astype(np.float64), basis), expected, atol=1e-12)


def test_removing_twice_is_removing_once(dictionary):
    x, basis = cloud(30, 20, 1, dtype=np.float64), concept_subspace(dictionary, range(6))
    once = remove_subspace(x, basis)
    assert np.allclose(remove_subspace(once, basis), once, atol=1e-12)
    assert np.abs(once @ basis.T).max() < 1e-12


def test_removing_nothing_only_normalises(dictionary):
    x = 3 * cloud(10, 20, 1, dtype=np.float64)
    for basis in (concept_subspace(dictionary, []), concept_subspace(dictionary, [1, 2], rank=0)):
        assert basis.shape == (0, 20)
        assert np.allclose(remove_subspace(x, basis), unit(x), atol=1e-15)


def test_the_whole_space_is_not_removed(dictionary):
    with pytest.raises(RetrievalError, match="20 of 20 dimensions"):
        remove_subspace(cloud(3, 20, 1), concept_subspace(dictionary, range(50)))


def test_rows_inside_the_subspace_are_named_or_become_zero(dictionary):
    basis = concept_subspace(dictionary, [0, 1])
    x = cloud(4, 20, 1)
    x[2] = dictionary[0]
    with pytest.raises(RetrievalError, match="1 of 4 rows, first row 2, lie entirely in the removed subspace"):
        remove_subspace(x, basis)
    rows = remove_subspace(x, basis, on_void="zero")
    assert not rows[2].any()
    assert np.allclose(np.linalg.norm(rows[[0, 1, 3]], axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("ids", "rank"), [([50], None), ([-1], None), ([1], -1)])
def test_unknown_concepts_and_ranks_are_refused(dictionary, ids, rank):
    with pytest.raises(RetrievalError, match="expected"):
        concept_subspace(dictionary, ids, rank)


def test_a_basis_that_is_none_is_refused(dictionary):
    with pytest.raises(RetrievalError, match="not orthonormal"):
        remove_subspace(cloud(3, 20, 1), 2 * concept_subspace(dictionary, [0, 1]))
    with pytest.raises(RetrievalError, match="expected \\(r, 20\\)"):
        remove_subspace(cloud(3, 20, 1), np.eye(3))
    with pytest.raises(RetrievalError, match="Row 1 of 3 embeddings holds NaN"):
        remove_subspace(np.array([[1.0, 0], [np.nan, 1], [0, 1]]), np.empty((0, 2)))


@pytest.mark.parametrize("m", [1, 7, 24, 60])
def test_directions_are_those_of_an_svd(m):
    """For fewer and for more atoms than dimensions, with singular values from 1 down to 1e-4 of the largest."""
    atoms = cloud(m, 24, 3, dtype=np.float64) * np.logspace(0, -4, 24)
    _, singular, directions = np.linalg.svd(atoms, full_matrices=False)
    kept = singular > singular[0] * max(m, 24) * np.finfo(np.float32).eps
    basis = concept_subspace(atoms, range(m))
    assert len(basis) == kept.sum()
    assert np.allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-13)
    agreement = np.abs(np.einsum("ij,ij->i", basis, directions[kept]))
    assert np.allclose(agreement, 1, atol=1e-6)
