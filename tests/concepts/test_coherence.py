"""Clarity, polysemanticity and monosemanticity: against the double loop, and on planted meanings."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.concepts import coherence
from analysis.concepts.coherence import Centred, clarity, monosemanticity
from analysis.sae.codes import Codes


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def codes_of(dense: np.ndarray) -> Codes:
    return Codes.from_csr(sp.csr_array(dense.astype(np.float32)), top_k=dense.shape[1])


@pytest.mark.parametrize("rows", [16384, 7])
def test_monosemanticity_is_the_double_sum_of_pach(rows, monkeypatch):
    monkeypatch.setattr(coherence, "_ROWS", rows)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6)) + 3
    z = np.where(rng.random((40, 5)) < 0.4, rng.random((40, 5)), 0)
    z[:, 4] = 0
    z[3, 4] = 1  # once: no pair of samples
    groups = [np.arange(0, 40, 2), np.arange(1, 40, 2)]
    found = monosemanticity(codes_of(z), Centred(x, groups))
    centred = np.zeros_like(x)
    for part in groups:
        centred[part] = unit(unit(x[part]) - unit(x[part]).mean(axis=0))
    for concept in range(4):
        above = below = 0.0
        for part in groups:
            for a, i in enumerate(part):
                for j in part[a + 1 :]:
                    above += z[i, concept] * z[j, concept] * (centred[i] @ centred[j])
                    below += z[i, concept] * z[j, concept]
        assert found[concept] == pytest.approx(above / below, abs=1e-5)
    assert np.isnan(found[4])


def test_clarity_and_polysemanticity_tell_one_meaning_two_and_none_apart():
    rng = np.random.default_rng(1)
    width, n = 64, 240
    directions = np.linalg.qr(rng.standard_normal((width, 3)))[0].T
    x = rng.standard_normal((n, width)) / 8
    z = np.zeros((n, 3))
    x[:20] += 3 * directions[0]
    z[:20, 0] = rng.uniform(1, 2, 20)  # one meaning
    x[20:30] += 3 * directions[1]
    x[30:40] += 3 * directions[2]
    z[20:40, 1] = rng.uniform(1, 2, 20)  # two
    z[rng.choice(np.arange(40, n), 20, replace=False), 2] = 1  # none
    clear, several = clarity(codes_of(z), Centred(x, [np.arange(n)]))
    assert clear[0] > 0.75
    assert 0.2 < clear[1] < 0.6
    assert abs(clear[2]) < 0.1
    assert several[0] < 0.1 < 0.8 < several[1]


def test_clarity_is_the_mean_cosine_of_the_strongest():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((60, 10))
    z = np.where(rng.random((60, 2)) < 0.8, rng.random((60, 2)), 0)
    x_unit = unit(x)
    centred = unit(x_unit - x_unit.mean(axis=0))
    clear, _ = clarity(codes_of(z), Centred(x, [np.arange(60)]))
    for concept in range(2):
        top = centred[np.argsort(-z[:, concept])[: coherence.EXAMPLES]]
        assert clear[concept] == pytest.approx((np.sum(top @ top.T) - len(top)) / (len(top) * (len(top) - 1)), abs=1e-6)


def test_two_centres_are_those_of_sklearn_where_there_are_two_clusters():
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(3)
    for seed in range(5):
        points = np.concatenate([rng.standard_normal((8, 5)) + 4 * rng.standard_normal(5) for _ in range(2)])
        centres = KMeans(2, n_init=10, random_state=seed).fit(points).cluster_centers_
        expected = centres[0] @ centres[1] / np.prod(np.linalg.norm(centres, axis=1))
        found = coherence._cosine_of_two_centres((points @ points.T)[None])
        assert found[0] == pytest.approx(expected, abs=1e-9)


def test_samples_that_the_second_encoder_lacks_drop_out():
    rng = np.random.default_rng(4)
    x, z = rng.standard_normal((30, 4)), rng.random((30, 2))
    position = np.full(30, -1)
    position[::2] = np.arange(15)[::-1]
    found = monosemanticity(codes_of(z), Centred(x[::2][::-1], [np.arange(30)], position))
    np.testing.assert_allclose(found, monosemanticity(codes_of(z[::2]), Centred(x[::2], [np.arange(15)])), atol=1e-6)


def test_too_few_samples_have_no_clarity():
    z = np.zeros((10, 2))
    z[:3, 0] = 1
    clear, several = clarity(codes_of(z), Centred(np.random.default_rng(5).standard_normal((10, 3)), [np.arange(10)]))
    assert np.isnan(clear).all()
    assert np.isnan(several).all()
