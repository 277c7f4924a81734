"""Planted twins are found one to one, strangers stay alone, and two concepts are compared sample by sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from analysis.concepts import twins as module
from analysis.concepts.matching import one_to_one_by_activation
from analysis.concepts.twins import best_match, compare_concepts, find_twins, shared_rows, twins_by_chance
from analysis.errors import DataError
from analysis.sae.codes import Codes


def sparse(dense: np.ndarray) -> Codes:
    return Codes.from_csr(sp.csr_array(dense.astype(np.float32)), top_k=dense.shape[1])


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six concepts each; those of the second are the first four in another order, louder and noisy, and two of its own.
    Both have a dead one more."""
    rng = np.random.default_rng(0)
    z = np.where(rng.random((400, 7)) < 0.3, rng.uniform(1, 2, (400, 7)), 0)
    order = rng.permutation(6)
    other = np.where(rng.random((400, 7)) < 0.3, rng.uniform(1, 2, (400, 7)), 0)
    for here in range(4):
        other[:, order[here]] = 3 * z[:, here] * rng.uniform(0.8, 1.2, 400)
    z[:, 6] = other[:, 6] = 0
    return z, other, order


@pytest.mark.parametrize("most", [4096, 3])
def test_twins_are_found_and_strangers_stay_alone(sides, most, monkeypatch):
    monkeypatch.setattr(module, "ONE_TO_ONE_UP_TO", most)
    z, other, order = sides
    found = find_twins(sparse(z), sparse(other))
    assert found.assigned == (most == 4096)
    assert {(int(a), int(b)) for a, b in found.pairs} == {(here, int(order[here])) for here in range(4)}
    assert (np.diff(found.correlation) <= 0).all()
    assert (found.correlation > 0.8).all()
    assert set(found.here) == {4, 5}
    assert set(found.there) == {int(order[4]), int(order[5])}, "the dead one is nobody's business"
    for share, dense, ids in zip(found.unmatched, (z, other), (found.here, found.there), strict=True):
        assert share == pytest.approx(dense[:, ids].sum() / dense.sum(), rel=1e-5)


def test_by_chance_only_what_tells_the_kinds_apart_stays_a_twin(sides):
    z, other, order = sides
    kinds = np.arange(400) % 2
    assert twins_by_chance(sparse(z), sparse(other), kinds) == 0
    z[:, 4] = kinds  # fires on every sample of one kind, whichever way these are shuffled
    other[:, order[4]] = 2 * kinds
    assert twins_by_chance(sparse(z), sparse(other), kinds) == 1
    assert (
        twins_by_chance(sparse(z), sparse(other), np.arange(400))
        == len(find_twins(sparse(z), sparse(other)).pairs)
        == 5
    )


def test_the_assignment_has_the_largest_sum(sides):
    """By trying all permutations of the six living ones."""
    from itertools import permutations

    z, other, _ = sides
    rng = np.random.default_rng(1)
    other = other + 0.8 * z[:, rng.permutation(7)]
    z, other = z[:, :6], other[:, :6]
    correlation = np.maximum(np.corrcoef(z.T, other.T)[:6, 6:], 0)
    best = max(sum(correlation[i, p[i]] for i in range(6)) for p in permutations(range(6)))
    found = one_to_one_by_activation(sparse(z), sparse(other))
    assert np.nansum(found.similarity) == pytest.approx(best, rel=1e-4)
    partners = found.partner[found.partner >= 0]
    assert len(np.unique(partners)) == len(partners)


def test_two_concepts_are_compared_sample_by_sample(sides):
    z, other, order = sides
    other[:50, order[0]] = 0
    z[50:60, 0] = 0
    found = compare_concepts(sparse(z), 0, sparse(other), int(order[0]))
    mine, theirs = z[:, 0] > 0, other[:, order[0]] > 0
    assert set(found.both) == set(np.flatnonzero(mine & theirs))
    assert set(found.only_here) == set(np.flatnonzero(mine & ~theirs))
    assert set(found.only_there) == set(np.flatnonzero(theirs & ~mine))
    assert found.correlation == pytest.approx(np.corrcoef(z[:, 0], other[:, order[0]])[0, 1], abs=1e-6)
    product = z[found.both, 0] * other[found.both, order[0]]
    assert (np.diff(product) <= 1e-4).all(), "the strongest together first"
    assert np.isnan(compare_concepts(sparse(z), 6, sparse(other), 0).correlation)


def test_samples_are_joined_by_their_ids():
    def samples(names: str, pairs: list[int]) -> pd.DataFrame:
        return pd.DataFrame({"sample_id": list(names), "pair_id": pairs})

    rows = shared_rows(samples("abc", [0, 0, 1]), samples("cxa", [5, 5, 7]))
    assert [part.tolist() for part in rows] == [[0, 2], [2, 0]]
    rows = shared_rows(samples("abc", [-1, 0, 1]), samples("cxa", [5, 5, 7]))
    assert [part.tolist() for part in rows] == [[2], [0]], "a sample of retrieval alone does not count beside pairs"
    rows = shared_rows(samples("ab", [-1, -1]), samples("ba", [-1, -1]))
    assert [part.tolist() for part in rows] == [[0, 1], [1, 0]]
    with pytest.raises(DataError, match="share no sample"):
        shared_rows(samples("a", [0]), samples("b", [0]))


def test_two_concepts_that_fire_once_are_no_twins():
    dense = np.zeros((50, 2))
    dense[3, 0] = 1
    dense[::5, 1] = 1
    found = find_twins(sparse(dense), sparse(dense))
    assert found.pairs.tolist() == [[1, 1]]
    assert found.here.tolist() == [0]


def test_the_best_match_is_that_of_numpy() -> None:
    rng = np.random.default_rng(4)
    left, right = (rng.random((60, 6)) * (rng.random((60, 6)) < 0.4) for _ in range(2))
    right[:, 3] = left[:, 2] * 2
    here, there = (Codes.from_csr(sp.csr_array(side.astype(np.float32)), 6) for side in (left, right))
    for concept in range(6):
        expected = [np.corrcoef(left[:, concept], right[:, j])[0, 1] for j in range(6)]
        found, correlation = best_match(here, concept, there)
        assert found == int(np.argmax(expected))
        assert correlation == pytest.approx(max(expected), abs=1e-5)
    assert best_match(here, 2, there) == (3, pytest.approx(1))
    silent = Codes.from_csr(sp.csr_array(np.zeros((60, 6), np.float32)), 6)
    assert best_match(silent, 0, there)[0] == best_match(here, 0, silent)[0] == -1
