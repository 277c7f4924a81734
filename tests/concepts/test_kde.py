import numpy as np
import pandas as pd
import pytest
from scipy.stats import gaussian_kde

from analysis.concepts import kde
from analysis.concepts.kde import curve_of, modality_density, outstanding, scott_bandwidth
from analysis.errors import DataError


def literal(scores, weights, grid, width):
    """A sum of Gaussians, each with its two mirror images."""
    total = np.zeros_like(grid)
    for score, weight in zip(scores, weights, strict=True):
        for centre in (score, -score, 2 - score):
            total += weight * np.exp(-0.5 * ((grid - centre) / width) ** 2)
    return total / (weights.sum() * width * np.sqrt(2 * np.pi))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, 30, 900])
def test_density_is_the_reflected_sum_and_integrates_to_one(n, weighted, monkeypatch):
    monkeypatch.setattr(kde, "BINS", 500)  # 900 scores are binned
    rng = np.random.default_rng(n)
    scores = np.round(rng.beta(0.4, 0.4, n), 12)
    weights = rng.gamma(1, 1, n) if weighted else np.ones(n)
    grid, density = modality_density(scores, weights=weights if weighted else None, bandwidth=0.05)
    np.testing.assert_allclose(density, literal(scores, weights, grid, 0.05), rtol=2e-2 if n > 500 else 1e-6, atol=2e-3)
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-3)


def test_density_is_that_of_scipy_with_mirrored_scores():
    rng = np.random.default_rng(3)
    scores, weights = rng.beta(0.4, 0.4, 200), rng.gamma(1, 1, 200)
    kernel = gaussian_kde(np.concatenate([scores, -scores, 2 - scores]), weights=np.tile(weights, 3))
    grid, density = modality_density(scores, weights=weights, bandwidth=float(np.sqrt(kernel.covariance[0, 0])))
    np.testing.assert_allclose(density, 3 * kernel(grid), rtol=1e-9)


def test_mass_at_the_ends_stays_inside():
    grid, density = modality_density(np.array([0.0] * 60 + [1.0] * 40))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-3)
    half = grid <= 0.5
    assert np.trapezoid(density[half], grid[half]) == pytest.approx(0.6, abs=0.02)


def test_weights_move_the_density():
    scores, energy = np.array([0.1, 0.9]), np.array([1.0, 9.0])
    grid, density = modality_density(scores, weights=energy, bandwidth=0.03)
    text_half = grid > 0.5
    assert np.trapezoid(density[text_half], grid[text_half]) == pytest.approx(0.9, abs=0.01)


def test_missing_scores_and_weights_are_left_out():
    grid, density = modality_density(np.array([0.2, np.nan, 0.4]), bandwidth=0.05)
    np.testing.assert_allclose(density, modality_density(np.array([0.2, 0.4]), bandwidth=0.05)[1])
    weighted = modality_density(np.array([0.2, 0.4]), weights=np.array([1.0, 0.0]), bandwidth=0.05)[1]
    np.testing.assert_allclose(weighted, modality_density(np.array([0.2]), bandwidth=0.05)[1])
    assert not modality_density(np.array([np.nan]))[1].any()
    assert len(grid) == 401


def test_scores_outside_the_interval_are_refused():
    with pytest.raises(DataError, match="between 0 and 1"):
        modality_density(np.array([0.5, 1.2]))


def test_bandwidth_follows_scott_with_a_floor():
    rng = np.random.default_rng(0)
    scores = rng.random(400)
    assert scott_bandwidth(scores, np.ones(400)) == pytest.approx(400**-0.2 * scores.std())
    assert scott_bandwidth(np.full(9, 0.3), np.ones(9)) == 0.01


def table(scores, energy, often):
    return pd.DataFrame(
        {"modality_score": scores, "energy": energy, "frequency_image": often, "frequency_text": np.zeros(len(scores))}
    )


def test_a_concept_with_40_percent_of_the_energy_is_a_peak():
    rng = np.random.default_rng(0)
    scores, energy = np.append(rng.random(200), 0.6), np.append(rng.random(200), 0)
    energy[-1] = energy.sum() * 0.4 / 0.6
    grid, density = curve_of(table(scores, energy, np.zeros(201)), "energy")
    peak = np.abs(grid - 0.6) < 0.06
    assert grid[density.argmax()] == pytest.approx(0.6, abs=0.005)
    assert density.max() > 4 * np.median(density)
    assert np.trapezoid(density[peak], grid[peak]) > 0.4


def test_constant_concepts_are_no_part_of_the_curve_and_are_named():
    scores, energy = np.array([0.9, 0.2, 0.3, 0.5]), np.array([6.0, 3, 0.9, 0.1])
    found = table(scores, energy, np.array([0.99, 0.2, 0.1, 0.95]))
    for weighting in ("concepts", "energy"):
        density = curve_of(found, weighting)[1]
        weights = energy[1:3] if weighting == "energy" else None
        expected = modality_density(scores[1:3], weights=weights, bandwidth=0.02 if weighting == "energy" else None)[1]
        np.testing.assert_allclose(density, expected)
    assert outstanding(found) == [(0, 0.6, True), (1, 0.3, False), (3, 0.01, True)]
