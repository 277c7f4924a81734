"""Scores against dense float64 forms, identities, and planted concepts."""

import numpy as np
import pytest

from analysis.concepts import metrics
from analysis.concepts.bridges import REDUCTIONS
from analysis.concepts.metrics import (
    attribution_score,
    bridge_all,
    bridge_pairs,
    bridge_score,
    combined_energy,
    cumulative_energy,
    energy,
    energy_readout,
    frequency,
    jaccard,
    modality_score,
    top_concepts,
)
from analysis.errors import DataError
from analysis.sae.codes import Codes

K, D, TOP_K = 60, 16, 5


def random_codes(rng, n, *, dead=()):
    live = np.setdiff1d(np.arange(K), dead)
    indices = np.stack([rng.permutation(live)[:TOP_K] for _ in range(n)]).astype(np.int32)
    values = rng.gamma(1.0, 1.0, (n, TOP_K)).astype(np.float32)
    values[rng.random((n, TOP_K)) < 0.2] = 0  # unused slots keep an index and must not count
    return Codes(indices, values, K)


def random_dictionary(rng):
    atoms = rng.standard_normal((K, D)).astype(np.float32)
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


@pytest.fixture(params=range(4))
def pairs(request):
    rng = np.random.default_rng(request.param)
    n = (1, 7, 150, 400)[request.param]
    image, text = random_codes(rng, n, dead=(3, 50)), random_codes(rng, n, dead=(0, 3))
    return image, text, random_dictionary(rng)


def dense(codes):
    return codes.to_csr().toarray().astype(np.float64)


def dense_bridge(image, text, dictionary):
    d = dictionary.astype(np.float64)
    return dense(image).T @ dense(text) / len(image) * (d @ d.T)


def test_energy_and_frequency_equal_the_dense_mean(pairs):
    image, _, _ = pairs
    np.testing.assert_allclose(energy(image), dense(image).mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(frequency(image), (dense(image) > 0).mean(axis=0))


def test_energy_over_several_blocks_equals_one_block(monkeypatch):
    codes = random_codes(np.random.default_rng(5), 100)
    whole = energy(codes)
    monkeypatch.setattr(metrics, "BLOCK", 7)
    np.testing.assert_allclose(energy(codes), whole, rtol=1e-12)


def test_no_samples_give_zero_energy():
    assert energy(Codes(np.empty((0, 4), np.int32), np.empty((0, 4), np.float32), K)).tolist() == [0.0] * K


def test_modality_score_is_one_for_text_and_missing_for_the_dead():
    score = modality_score(np.array([0.0, 2.0, 1.0, 0.0]), np.array([3.0, 0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(score, [1.0, 0.0, 0.5, np.nan])


def test_weighting_by_samples_is_the_mean_over_all_samples(pairs):
    image, text, _ = pairs
    both = np.concatenate([dense(image), dense(text), dense(text)])
    found = combined_energy(energy(image), energy(text), n_image=len(image), n_text=2 * len(text))
    np.testing.assert_allclose(found, both.mean(axis=0), atol=1e-7)
    balanced = combined_energy(energy(image), energy(text), n_image=1, n_text=5, weighting="balanced")
    np.testing.assert_allclose(balanced, (energy(image) + energy(text)) / 2)
    with pytest.raises(DataError, match="weighting"):
        combined_energy(energy(image), energy(text), n_image=1, n_text=1, weighting="other")


@pytest.mark.parametrize("compiled", [False, True])
def test_attribution_equals_the_literal_formula(pairs, compiled, monkeypatch):
    image, text, dictionary = pairs
    monkeypatch.setattr(metrics, "COMPILED_FROM", 0 if compiled else 10**12)
    d = dictionary.astype(np.float64)
    m, zi, zt = d @ d.T, dense(image), dense(text)
    literal = (zi * (zt @ m) + zt * (zi @ m)).mean(axis=0)
    found = attribution_score(image, text, dictionary)
    np.testing.assert_allclose(found.total, literal, atol=2e-6)
    np.testing.assert_allclose(found.image + found.text, found.total, atol=1e-12)


def test_attribution_sums_to_twice_the_mean_similarity_of_reconstructions(pairs):
    image, text, dictionary = pairs
    d = dictionary.astype(np.float64)
    similarity = np.einsum("nd,nd->n", dense(image) @ d, dense(text) @ d).mean()
    assert attribution_score(image, text, dictionary).total.sum() == pytest.approx(2 * similarity, rel=1e-6)


def test_row_and_column_sums_of_the_bridge_are_the_two_halves_of_attribution(pairs):
    image, text, dictionary = pairs
    b = dense_bridge(image, text, dictionary)
    found = attribution_score(image, text, dictionary)
    np.testing.assert_allclose(found.image, b.sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(found.text, b.sum(axis=0), atol=1e-6)


@pytest.fixture(params=["numpy", "compiled"])
def sweep(request, monkeypatch):
    """Both ways of going over B."""
    monkeypatch.setattr("analysis.concepts.bridge_scan.COMPILED_FROM", 0 if request.param == "compiled" else 10**12)


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize("block_values", [2**23, 130])
def test_every_reduction_equals_its_dense_form(pairs, block_values, monkeypatch):
    monkeypatch.setattr("analysis.concepts.bridge_scan.BLOCK_VALUES", block_values)
    monkeypatch.setattr("analysis.concepts.bridge_scan.GATHERED_BYTES", block_values * 8)
    image, text, dictionary = pairs
    b = dense_bridge(image, text, dictionary)
    expected = {
        "max": np.maximum(np.maximum(b.max(axis=0), b.max(axis=1)), 0),
        "diagonal": np.diag(b),
        "off_diagonal": b.sum(axis=0) + b.sum(axis=1) - 2 * np.diag(b),
        "abs_sum": (np.abs(b).sum(axis=0) + np.abs(b).sum(axis=1)) / 2,
    }
    found = bridge_all(image, text, dictionary)
    assert tuple(found) == REDUCTIONS
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].score, values, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(bridge_score(image, text, dictionary, reduction=name).score, found[name].score)


@pytest.mark.usefixtures("sweep")
def test_the_partner_holds_the_strongest_entry(pairs):
    image, text, dictionary = pairs
    b = dense_bridge(image, text, dictionary)
    bridge = bridge_score(image, text, dictionary)
    for concept in range(K):
        partner = bridge.partner[concept]
        strongest = max(b[concept].max(), b[:, concept].max())
        if partner < 0:
            assert strongest <= 1e-9
        else:
            assert max(b[concept, partner], b[partner, concept]) == pytest.approx(strongest, abs=1e-6)


def test_an_unknown_reduction_and_unpaired_sides_are_refused():
    rng = np.random.default_rng(0)
    image, dictionary = random_codes(rng, 4), random_dictionary(rng)
    with pytest.raises(DataError, match="expected one of max, diagonal"):
        bridge_score(image, image, dictionary, reduction="sum")
    with pytest.raises(DataError, match="expected pairs"):
        attribution_score(image, random_codes(rng, 5), dictionary)
    with pytest.raises(DataError, match="one SAE"):
        attribution_score(image, image, dictionary[:-1])


def test_planted_concepts_are_found():
    """Concept 0 fires on images only, 1 on texts only, 2 on both sides of every pair; 3 is dead."""
    rng = np.random.default_rng(1)
    n = 300
    noise = rng.integers(4, K, (2, n)).astype(np.int32)
    small = np.full(n, 0.05, np.float32)
    image = Codes(
        np.stack([np.full(n, 0), np.full(n, 2), noise[0]], axis=1).astype(np.int32),
        np.stack([rng.gamma(4, 0.3, n), rng.gamma(4, 0.5, n), small], axis=1).astype(np.float32),
        K,
    )
    text = Codes(
        np.stack([np.full(n, 1), np.full(n, 2), noise[1]], axis=1).astype(np.int32),
        np.stack([rng.gamma(4, 0.3, n), rng.gamma(4, 0.5, n), small], axis=1).astype(np.float32),
        K,
    )
    dictionary = random_dictionary(rng)
    score = modality_score(energy(image), energy(text))
    assert score[0] == 0
    assert score[1] == 1
    assert 0.4 < score[2] < 0.6
    assert np.isnan(score[3])
    assert top_concepts(attribution_score(image, text, dictionary).total, 1 / K).tolist() == [2]
    bridge = bridge_score(image, text, dictionary)
    assert top_concepts(bridge.score, 1 / K).tolist() == [2]
    assert bridge.partner[2] == 2
    strongest = bridge_pairs(image, text, dictionary, n=5).iloc[0]
    assert (strongest["image_concept"], strongest["text_concept"]) == (2, 2)


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize("block_values", [2**23, 130])
def test_the_strongest_pairs_are_those_of_the_dense_matrix(pairs, block_values, monkeypatch):
    monkeypatch.setattr("analysis.concepts.bridge_scan.BLOCK_VALUES", block_values)
    image, text, dictionary = pairs
    b = dense_bridge(image, text, dictionary)
    table = bridge_pairs(image, text, dictionary, n=12)
    positive = np.sort(b[b > 1e-9])[::-1][:12]
    np.testing.assert_allclose(table["bridge"], positive, atol=1e-6)
    np.testing.assert_allclose(table["coactivation"] * table["cosine"], table["bridge"], atol=1e-6)


def test_cumulative_energy_rises_to_one_and_reads_out():
    curve = cumulative_energy(np.array([1.0, 5.0, 0.0, 4.0]))
    np.testing.assert_allclose(curve, [0.5, 0.9, 1.0, 1.0])
    assert energy_readout(np.array([1.0, 5.0, 0.0, 4.0])) == {0.5: 1, 0.9: 2, 0.99: 3}
    assert cumulative_energy(np.zeros(3)).tolist() == [0, 0, 0]
    assert energy_readout(np.zeros(3)) == {0.5: 0, 0.9: 0, 0.99: 0}


def test_top_concepts_are_the_largest_with_low_ids_first_and_never_missing():
    score = np.array([1.0, np.nan, 3.0, 3.0, 2.0, 0.0])
    assert top_concepts(score, 0.5).tolist() == [2, 3, 4]
    assert top_concepts(score, 1.0).tolist() == [2, 3, 4, 0, 5]
    assert top_concepts(score, 1e-9).tolist() == [2]
    live = np.array([True, True, False, False, True, True])
    assert top_concepts(score, 0.5, base=live).tolist() == [4, 0]


@pytest.mark.parametrize(("n", "fraction", "m"), [(32768, 0.01, 327), (100, 0.29, 29), (50, 0.01, 1), (7168, 0.01, 71)])
def test_the_size_of_a_top_set_is_the_floor(n, fraction, m):
    assert len(top_concepts(np.arange(n), fraction)) == m


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(DataError, match="share"):
        top_concepts(np.arange(4.0), 0)


def test_jaccard_of_two_and_three_sets():
    a, b, c = np.array([1, 2, 3]), np.array([2, 3, 4]), np.array([3, 4, 5])
    assert jaccard(a, b) == 0.5
    assert jaccard(a, b, c) == 0.2
    assert jaccard(a, a) == 1
    assert np.isnan(jaccard(np.array([]), np.array([])))
    with pytest.raises(DataError, match="at least two"):
        jaccard(a)
