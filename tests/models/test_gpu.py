"""What a CUDA device computes is what the CPU computes: embeddings, codes and a training step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.models.backbones import load_backbone
from analysis.sae.checkpoint import Sae
from analysis.sae.encode import encode
from analysis.sae.train import TrainConfig, train_sae
from tests.models.samples import mixed_samples

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]


@pytest.mark.parametrize("architecture", ["clip", "siglip", "qwen2_vl", "qwen3_vl", "paligemma", "chameleon"])
def test_embeddings_are_those_of_the_cpu(backbone, checkpoint, architecture):
    fusion = "sum_of_unit_vectors"
    expected = backbone(architecture, fusion=fusion).embed(mixed_samples()).vectors["mean"]
    loaded = load_backbone(checkpoint(architecture), device=DEVICE, dtype="float32", fusion=fusion)
    assert loaded.device.startswith(DEVICE)
    found = loaded.embed(mixed_samples()).vectors["mean"]
    loaded.unload()
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_codes_are_those_of_the_cpu():
    rng = np.random.default_rng(0)
    weight, dictionary = rng.standard_normal((2, 300, 24)).astype(np.float32)
    sae = Sae(weight, np.zeros(300, np.float32), dictionary, 8)
    h = rng.standard_normal((200, 24)).astype(np.float32)
    there, here = encode(sae, h, device=DEVICE), encode(sae, h)
    np.testing.assert_allclose(there.to_csr().toarray(), here.to_csr().toarray(), atol=1e-4)


def test_training_there_leads_to_the_loss_of_the_cpu():
    x = np.random.default_rng(1).standard_normal((512, 16)).astype(np.float32)
    config = TrainConfig(n_concepts=64, top_k=4, batch_size=128, steps=20)
    here, there = (train_sae(x, config, device=device).meta["training_curve"]["loss"] for device in ("cpu", DEVICE))
    np.testing.assert_allclose(there, here, rtol=1e-3)
