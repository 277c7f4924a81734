"""Probes find what is in embeddings, and nothing where nothing is; the sum of attributes is measured as such."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from transformers import AutoModel, AutoProcessor

from analysis.data.emoji_arrays import load_splits
from analysis.demo import agreement, measure, probes
from analysis.demo.contrastive import ContrastiveTraining, truth_table
from analysis.demo.probes import Labelled, additive_r2, labelled, probe_f1, threshold_f1
from analysis.models.backbones import load_backbone
from analysis.models.specs import BACKBONES, ROOT


def planted(n: int, seed: int, *, noise: float, shuffled: bool = False) -> Labelled:
    """Eight attributes, each a direction of its own in 16 dimensions."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 8)) < 0.2).astype(np.float32)
    directions = np.random.default_rng(99).standard_normal((8, 16))
    vectors = truth @ directions + noise * rng.standard_normal((n, 16))
    return Labelled(vectors.astype(np.float32), rng.permutation(truth) if shuffled else truth)


def test_what_is_probed_is_what_a_model_embeds_beside_what_a_scene_holds(tmp_path):
    split = load_splits(tmp_path, n_train=4, n_val=4, n_test=6).test
    folder = ROOT / BACKBONES["clip-mini"].hub_id
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    trained = ContrastiveTraining(model, AutoProcessor.from_pretrained(folder), split)
    expected_pictures, texts = trained.embed()
    pictures, captions = labelled(load_backbone("clip-mini", device="cpu", dtype="float32"), split, limit=5)
    for found, expected in ((pictures, expected_pictures[:5]), (captions, texts[:25:5])):
        unit = F.normalize(torch.from_numpy(found.vectors), dim=-1)
        torch.testing.assert_close(unit, expected, atol=1e-4, rtol=0)
        assert (found.truth == truth_table(split)[:5]).all()


@pytest.mark.parametrize("tool", [probes.main, measure.main, agreement.main])
def test_a_tool_says_in_one_sentence_what_is_not_there(tool, tmp_path):
    given = [str(tmp_path), "--scenes", __file__] if tool is agreement.main else [str(tmp_path)]
    given += ["--data", str(tmp_path)] if tool is probes.main else []
    found = CliRunner().invoke(tool, given)
    assert found.exit_code == 1
    assert found.output.splitlines()[-1].startswith("Error: ")
    assert tmp_path.name in found.output


def test_a_probe_finds_planted_attributes_and_none_in_shuffled_truth():
    there = [planted(n, seed, noise=0.3) for seed, n in enumerate((2000, 500, 500))]
    assert probe_f1(*there, steps=100).min() > 0.9
    absent = [planted(n, seed, noise=0.3, shuffled=True) for seed, n in enumerate((2000, 500, 500))]
    assert probe_f1(*absent, steps=100).max() < 0.5  # naming everything reaches 0.33


def test_the_threshold_comes_from_val_and_the_figure_from_test():
    val = np.array([[0.9], [0.8], [0.2]]), np.array([[1.0], [1.0], [0.0]])
    test = np.array([[0.85], [0.79], [0.1], [0.7]]), np.array([[1.0], [1.0], [0.0], [0.0]])
    assert threshold_f1(*val, *test) == [2 / 3]  # threshold 0.8: one of two found, none said wrongly


def test_additive_r2_is_one_for_sums_and_low_for_products():
    train, test = (planted(n, seed, noise=0.0) for seed, n in enumerate((1000, 400)))
    assert additive_r2(train, test) > 0.999

    def product(part: Labelled) -> Labelled:
        pairs = part.truth[:, :4] * part.truth[:, 4:]
        return Labelled(np.where(pairs.sum(1, keepdims=True) % 2, 1.0, -1.0), part.truth)

    assert additive_r2(product(train), product(test)) < 0.5
