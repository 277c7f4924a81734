"""The ground truth of the demo's scenes is drawn again, and is not claimed for other data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from analysis.data.emoji_scenes import draw_scenes
from analysis.demo.truth import drawn_scenes, truth_of
from analysis.sae.codes import Codes
from pages.components.concepts.belief import true_sentence

N = 240


def store(*, name: str = "emoji-scenes", captions: dict[int, str] | None = None) -> Any:
    """A store of N scenes, a picture and a caption each; concept 0 fires on two or more objects of a kind, 1 at random."""
    scenes = draw_scenes(N, seed=0, split="test", taken=set(), unique=True)
    rng = np.random.default_rng(0)
    many = np.asarray([scene.layout == "many" for scene, _ in scenes])
    fires = np.repeat(np.stack([many, rng.random(N) < 0.3], axis=1), 2, axis=0).astype(np.float32)
    texts = [text for i, (_, said) in enumerate(scenes) for text in ("", (captions or {}).get(i, said[1]))]
    samples = pd.DataFrame(
        {
            "pair_id": np.repeat(np.arange(N), 2), "modality": ["image", "text"] * N, "text": texts,
            "sample_id": [one for i in range(1, N + 1) for one in (f"test/{i}", f"test/{i}#{5 * i}")],
        }
    )  # fmt: skip
    return SimpleNamespace(
        config={"data": {"name": name, "split": "test"}, "sae": {"path": "none"}}, cache_dir=Path("nowhere"),
        samples=samples, codes=Codes.from_csr(sp.csr_array(fires), 2),
        concepts=pd.DataFrame({"modality_score": [0.5, 0.5]}),
    )  # fmt: skip


def test_the_planted_attribute_is_found_and_chance_is_not() -> None:
    found = truth_of(store())
    assert found is not None
    assert found.attributes[found.held.word[0]] == "layout many"
    assert found.held.f1[0] == pytest.approx(1)
    assert found.held.f1[1] < 0.5
    assert np.isnan(found.untrained)


def test_the_sentence_has_the_control_beside_it() -> None:
    assert "F1 **0.98** on unseen scenes (untrained SAE 0.13)." in true_sentence("ground road", 0.98, 0.13)
    assert "no attribute of the scenes predicts where it fires" in true_sentence("number 4", 0.38, 0.13)
    assert "untrained" not in true_sentence("ground road", 0.98, float("nan"))
    assert "not tested" in true_sentence("", float("nan"), 0.13)


def test_other_data_has_no_ground_truth(tmp_path: Path) -> None:
    assert drawn_scenes(store()) is not None
    assert drawn_scenes(store(name="coco")) is None
    assert drawn_scenes(store(captions={7: "A caption that nobody drew."})) is None
