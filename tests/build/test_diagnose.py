"""A poor SAE: which reading of the samples it fits is found and said; a good one starts no search."""

import numpy as np
import pytest

from analysis.build.build import build
from analysis.build.corpus import load_corpus
from analysis.build.diagnose import TRIED, diagnose
from analysis.build.plan import DataPlan, SaePlan
from analysis.errors import BackboneError
from analysis.models.backbones import load_backbone
from analysis.sae.checkpoint import Sae, save_sae
from analysis.store import open_store
from tests.build.folders import small_plan

WIDTH = 64


def remembering(vectors):
    """An SAE that gives back exactly these vectors: their mean as an atom that always fires, and the directions in which
    they differ from it, in both signs. Vectors of another length or another subspace it does not give back."""
    vectors = np.asarray(vectors, np.float64)
    mean = vectors.mean(axis=0)
    _, singular, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    directions = directions[singular > 1e-5 * singular[0]][:20]  # few: a map of 50 concepts costs a minute
    length = np.linalg.norm(mean)
    encoder = np.concatenate([np.zeros((1, WIDTH)), directions, -directions])
    bias = np.concatenate([[length], -directions @ mean, directions @ mean])
    return Sae(encoder, bias, np.concatenate([mean[None] / length, directions, -directions]), len(bias))


@pytest.fixture(scope="module")
def qwen(checkpoint):
    return load_backbone(checkpoint("qwen2_vl"), device="cpu")


@pytest.fixture(scope="module")
def samples(coco_folder):
    found = load_corpus(DataPlan(str(coco_folder)), "uniform").samples
    return [sample for sample in found if sample.modality == "text"] + [found[0], found[3]]


def test_the_tap_that_an_sae_was_trained_at_is_found(qwen, samples):
    pre = qwen.with_tap("pre_norm").embed(samples).vectors["mean"]
    found = diagnose(qwen, remembering(pre), samples)
    best = max((r for r in found.readings if r.r2 is not None), key=lambda r: r.r2)
    assert (best.tap, best.unit, best.scale) == ("pre_norm", "mean", "as it is")
    assert "build with --tap pre_norm" in found.sentence


def test_an_sae_of_last_tokens_is_recognised(qwen, samples):
    last = qwen.embed(samples, variants=("last",)).vectors["last"]
    found = diagnose(qwen, remembering(last), samples)
    assert "trained on last-token vectors" in found.sentence


def test_an_sae_of_unit_vectors_is_recognised(qwen, samples):
    mean = qwen.embed(samples).vectors["mean"]
    found = diagnose(qwen, remembering(mean / np.linalg.norm(mean, axis=1, keepdims=True)), samples)
    assert "trained on vectors of unit length" in found.sentence


def test_an_sae_that_fits_no_reading_is_said_to_be_of_another_model(qwen, samples):
    found = diagnose(qwen, remembering(np.random.default_rng(0).normal(size=(20, WIDTH))), samples)
    assert "another model or other data" in found.sentence
    assert len(found.readings) == 12  # three taps of mean, mean of unit length, last, tokens


def test_at_most_64_samples_are_read_again(qwen, samples):
    found = diagnose(qwen, remembering(np.eye(WIDTH)[:8]), samples * 10)
    assert found.readings[0].vectors <= TRIED < len(samples * 10)


def test_two_taps_share_one_model_in_memory(qwen, samples):
    other = qwen.with_tap("pre_norm")
    assert other._model is qwen._model
    assert (other.spec.tap, qwen.spec.tap) == ("pre_norm", "post_norm")
    assert not np.allclose(other.embed(samples[:1]).vectors["mean"], qwen.embed(samples[:1]).vectors["mean"])


def test_a_dual_encoder_has_no_other_tap(checkpoint):
    with pytest.raises(BackboneError, match="no tap"):
        load_backbone(checkpoint("clip"), device="cpu").with_tap("pre_norm")


def test_build_says_which_tap_fits_and_that_tap_can_be_built(checkpoint, coco_folder, tmp_path, qwen):
    samples = load_corpus(DataPlan(str(coco_folder)), "uniform").samples
    pre = qwen.with_tap("pre_norm").embed(samples, on_error="skip").vectors["mean"]
    save_sae(remembering(pre[np.isfinite(pre).all(axis=1)]), tmp_path / "sae-of-pre-norm")
    said = []
    options = {"sae": SaePlan(str(tmp_path / "sae-of-pre-norm"))}
    poor = build(small_plan(coco_folder, checkpoint("qwen2_vl"), tmp_path / "cache", **options), say=said.append)
    facts = open_store(poor).facts
    assert any("--tap pre_norm" in line for line in said)
    assert "--tap pre_norm" in facts["diagnosis"]["sentence"]
    plan = small_plan(coco_folder, checkpoint("qwen2_vl"), tmp_path / "cache", tap="pre_norm", **options)
    good = open_store(build(plan, say=said.append))
    assert good.config["backbone"]["tap"] == "pre_norm"
    assert good.facts["diagnosis"] is None
    assert good.facts["quality"]["all"]["r2_per_dimension"] > facts["quality"]["all"]["r2_per_dimension"] + 0.1
