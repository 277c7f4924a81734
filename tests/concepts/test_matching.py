import numpy as np
import pytest

from analysis.concepts import matching
from analysis.concepts.matching import match_by_activation, match_by_direction
from analysis.errors import DataError
from analysis.sae.codes import Codes


def random_codes(rng, n=200, k=6, n_concepts=40):
    indices = np.argsort(rng.random((n, n_concepts)), axis=1)[:, :k].astype(np.int32)
    values = rng.gamma(2, 1, (n, k)).astype(np.float32)
    values[rng.random((n, k)) < 0.2] = 0
    return Codes(indices, values, n_concepts)


def renamed(codes, new_ids, n_concepts):
    return Codes(new_ids[codes.indices].astype(np.int32), codes.values, n_concepts)


def unit(rng, n, width):
    atoms = rng.standard_normal((n, width)).astype(np.float32)
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


@pytest.mark.parametrize("block_values", [2**22, 90])
def test_correlation_equals_numpys(block_values, monkeypatch):
    monkeypatch.setattr(matching, "BLOCK_VALUES", block_values)
    rng = np.random.default_rng(0)
    one, two = random_codes(rng), random_codes(rng, k=4, n_concepts=30)
    found = match_by_activation(one, two)
    a, b = one.to_csr().toarray(), two.to_csr().toarray()
    full = np.corrcoef(a.T, b.T)[:40, 40:]
    np.testing.assert_array_equal(found.partner, full.argmax(axis=1))
    np.testing.assert_allclose(found.similarity, full.max(axis=1), atol=1e-6)
    expected = [full[:, j].argmax() == i for i, j in enumerate(found.partner)]
    np.testing.assert_array_equal(found.mutual, expected)


def test_renamed_concepts_find_themselves():
    rng = np.random.default_rng(1)
    codes = random_codes(rng)
    new_ids = rng.permutation(50)[:40]
    found = match_by_activation(codes, renamed(codes, new_ids, 50))
    np.testing.assert_array_equal(found.partner, new_ids)
    np.testing.assert_allclose(found.similarity, 1)
    assert found.mutual.all()


def test_silent_and_constant_concepts_match_nothing():
    values = np.array([[0.3, 1.0], [0.3, 0.0], [0.3, 0.5]], np.float32)  # 0 is constant, 1 varies, 2 is silent
    codes = Codes(np.tile(np.array([[0, 1]], np.int32), (3, 1)), values, 3)
    found = match_by_activation(codes, codes)
    assert found.partner.tolist() == [-1, 1, -1]
    assert np.isnan(found.similarity[[0, 2]]).all()
    assert found.mutual.tolist() == [False, True, False]
    assert match_by_activation(codes[:0], codes[:0]).partner.tolist() == [-1, -1, -1]


def test_directions_survive_shuffling_and_noise():
    rng = np.random.default_rng(2)
    atoms = unit(rng, 50, 32)
    order = rng.permutation(50)
    other = atoms[order] + 0.02 * rng.standard_normal((50, 32)).astype(np.float32)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    for one_to_one in (False, True):
        found = match_by_direction(atoms, other, one_to_one=one_to_one)
        np.testing.assert_array_equal(order[found.partner], np.arange(50))
        np.testing.assert_allclose(found.similarity, np.einsum("ij,ij->i", atoms, other[found.partner]), rtol=1e-6)
        assert found.mutual.all()


def test_one_to_one_uses_no_partner_twice():
    rng = np.random.default_rng(3)
    atoms, other = unit(rng, 30, 4), unit(rng, 20, 4)
    nearest, assigned = match_by_direction(atoms, other), match_by_direction(atoms, other, one_to_one=True)
    assert len(np.unique(nearest.partner)) < 30
    partners = assigned.partner[assigned.partner >= 0]
    assert len(partners) == len(np.unique(partners)) == 20
    assert (assigned.similarity[assigned.partner >= 0] <= nearest.similarity[assigned.partner >= 0] + 1e-7).all()


def test_unlike_inputs_are_refused(monkeypatch):
    rng = np.random.default_rng(4)
    with pytest.raises(DataError, match="same samples"):
        match_by_activation(random_codes(rng, n=5), random_codes(rng, n=6))
    with pytest.raises(DataError, match="one space"):
        match_by_direction(unit(rng, 3, 4), unit(rng, 3, 5))
    monkeypatch.setattr(matching, "ONE_TO_ONE_UP_TO", 2)
    with pytest.raises(DataError, match="up to 2"):
        match_by_direction(unit(rng, 3, 4), unit(rng, 3, 4), one_to_one=True)
