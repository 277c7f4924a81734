"""What is called believable: concepts of planted words are, concepts of nothing and constant ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.demo.believable import Scenes, believable
from analysis.sae.checkpoint import Sae

WORDS = 6


def scenes(n: int, seed: int, *, lie: bool = False) -> Scenes:
    """Vectors whose first six coordinates say which words are there; the seventh is always on, the eighth at random."""
    rng = np.random.default_rng(seed)
    words = (rng.random((n, WORDS)) < 0.25).astype(np.float32)
    noise = (rng.random((n, 1)) < 0.3).astype(np.float32)
    vectors = np.hstack([words, np.ones((n, 1)), noise]).astype(np.float32)
    return Scenes(vectors, rng.random(n) < 0.4, rng.permutation(words) if lie else words)


@pytest.fixture
def sae() -> Sae:
    """One concept a coordinate."""
    unit = np.eye(WORDS + 2, dtype=np.float32)
    return Sae(unit, np.zeros(len(unit), np.float32), unit, top_k=WORDS + 2)


def test_planted_words_are_believed_and_noise_and_constants_are_not(sae):
    found = believable(sae, scenes(600, 0), scenes(600, 1), np.arange(4))
    assert found.n_concepts == WORDS
    assert found.n_constant == 1
    assert found.objects == 4  # of the six words only these name objects
    assert found.energy_share == pytest.approx(6 * 0.25 / (6 * 0.25 + 0.3), abs=0.05)
    assert found.r2_image > 0.99
    assert found.r2_text > 0.99


def test_words_that_have_nothing_to_do_with_the_vectors_are_not_believed(sae):
    found = believable(sae, scenes(600, 0, lie=True), scenes(600, 1, lie=True), np.arange(WORDS))
    assert found.energy_share == 0
    assert found.objects == 0


def test_a_word_that_holds_on_val_only_is_not_believed(sae):
    assert believable(sae, scenes(600, 0), scenes(600, 1, lie=True), np.arange(WORDS)).objects == 0
