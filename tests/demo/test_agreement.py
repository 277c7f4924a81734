"""The belief score is compared with what the generator knows, on scenes whose captions say it in other words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.demo.agreement import agreement
from analysis.demo.truth import attributes, scene_evidence
from analysis.sae.codes import Codes

SCENE = {
    "image_id": 3, "layout": "beside", "objects": ["dog", "tree"], "counts": [1, 1], "sizes": ["small", "small"],
    "relation": "left of", "ground": {"name": "snow"}, "categories": ["animal", "plant"],
}  # fmt: skip


class _Planted:
    """What is read of a store: a picture and a caption of every scene."""

    def __init__(self, n: int) -> None:
        self.samples = pd.DataFrame(
            {
                "pair_id": np.repeat(np.arange(n), 2),
                "modality": ["image", "text"] * n,
                "sample_id": [name for i in range(n) for name in (f"test/{i}", f"test/{i}#{7 * i}")],
            }
        )


def test_attributes_are_what_the_generator_knows() -> None:
    assert attributes(SCENE) == {
        "object dog", "object tree", "category animal", "category plant", "number 1", "size small", "ground snow",
        "layout beside", "relation left of",
    }  # fmt: skip


def test_a_score_that_follows_the_truth_agrees_and_a_random_one_does_not() -> None:
    rng = np.random.default_rng(0)
    n, n_concepts = 300, 40
    store: Any = _Planted(n)
    dogs = rng.random(n) < 0.3
    scenes = [SCENE | {"image_id": i, "objects": ["dog"] if dogs[i] else ["boat"]} for i in range(n)]
    good = np.arange(n_concepts) < 12
    fires = np.where(good[None], dogs[:, None], rng.random((n, n_concepts)) < 0.3)
    codes = Codes.from_csr(sp.csr_array(np.repeat(fires, 2, axis=0).astype(np.float32)), n_concepts)
    scores = pd.DataFrame({"word_f1": good + 0.1 * rng.random(n_concepts), "clarity": rng.random(n_concepts)})
    found = agreement(store, scene_evidence(store, scenes), codes, scores)
    assert found.meaningful.tolist() == good.tolist()
    assert found.auroc["word_f1"] == 1
    assert 0.2 < found.auroc["clarity"] < 0.8
    assert found.truth.name[0] == "object dog"
