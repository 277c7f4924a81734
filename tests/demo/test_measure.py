"""The figures of a store come from its own pairs: words of captions, judged on pairs that did not choose them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.demo.measure import measure_store
from analysis.sae.checkpoint import Sae

NOUNS = ("dog", "cat", "horse", "tree")


class _Planted:
    """What `measure_store` reads of a store: a picture and a caption a pair, one coordinate a noun."""

    def __init__(self, n: int):
        rng = np.random.default_rng(0)
        there = rng.random((n, len(NOUNS))) < 0.3
        texts = [" ".join(np.array(NOUNS)[row]) for row in there]
        self.samples = pd.DataFrame(
            {
                "pair_id": np.repeat(np.arange(n), 2),
                "modality": ["image", "text"] * n,
                "text": [part for text in texts for part in (None, text)],
            }
        )
        self._vectors = np.repeat(there.astype(np.float32), 2, axis=0)

    def embeddings(self, variant: str, rows: np.ndarray) -> np.ndarray:
        assert variant == "mean"
        return self._vectors[rows]


def test_concepts_of_planted_nouns_are_found_in_pictures_by_the_words_of_their_captions():
    unit = np.eye(len(NOUNS), dtype=np.float32)
    planted: Any = _Planted(400)
    found = measure_store(planted, Sae(unit, np.zeros(len(NOUNS), np.float32), unit, top_k=len(NOUNS)))
    assert found.objects == found.n_concepts == len(NOUNS)
    assert found.energy_share == 1
    assert found.r2_image > 0.99
