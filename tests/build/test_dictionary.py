"""The SAE that a build trains: its size, and where it is trained."""

import pytest

from analysis.build.build import build
from analysis.build.dictionary import sae_size
from analysis.build.plan import SaePlan
from analysis.errors import CheckpointError
from analysis.models.specs import BACKBONES, find_spec
from tests.build.folders import small_plan


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("clip-vit-b32", (7168, 50)),
        ("siglip2-b16-512", (7168, 50)),
        ("qwen2-vl-7b", (32768, 50)),
        ("qwen3-vl-8b", (32768, 50)),
        ("paligemma2-3b", (20736, 50)),
        ("chameleon-7b", (32768, 50)),
        ("clip-mini", (8 * 256, 16)),
    ],
)
def test_an_sae_of_a_known_backbone_has_the_size_of_the_released_one(backbone, size):
    spec = BACKBONES[backbone]
    assert sae_size(SaePlan(), spec, spec.width) == size
    assert sae_size(SaePlan(n_concepts=40, top_k=7), spec, spec.width) == (40, 7)
    assert sae_size(SaePlan(n_concepts=12), spec, spec.width) == (12, min(12, size[1]))


def test_a_backbone_of_the_users_own_gets_eight_concepts_a_dimension(checkpoint):
    assert sae_size(SaePlan(), find_spec(checkpoint("clip")), 32) == (256, 16)


def test_an_sae_is_trained_on_the_device_of_the_build(checkpoint, coco_folder, tmp_path, monkeypatch):
    from analysis.build import dictionary
    from analysis.sae import train

    asked, trained = [], train.train_sae

    def train_on(*args, device, **options):
        asked.append(device)
        return trained(*args, device="cpu", **options)

    monkeypatch.setattr(train, "train_sae", train_on)
    monkeypatch.setattr(dictionary, "cuda_or_cpu", lambda name: f"the GPU that {name} means")
    build(small_plan(coco_folder, checkpoint("clip"), tmp_path), until="train-sae", say=print)
    assert asked == ["the GPU that cpu means"]


def test_a_build_keeps_the_start_of_its_sae_beside_it(checkpoint, coco_folder, tmp_path):
    from analysis.build.dictionary import UNTRAINED
    from analysis.sae.checkpoint import load_sae

    plan = small_plan(coco_folder, checkpoint("clip"), tmp_path)
    build(plan, until="train-sae", say=print)
    (folder,) = [path.parent for path in (tmp_path / "sae").rglob("sae.json") if path.parent.name != UNTRAINED]
    trained, start = load_sae(folder), load_sae(folder / UNTRAINED)
    assert (start.n_concepts, start.top_k) == (trained.n_concepts, trained.top_k)
    assert start.sha256 != trained.sha256
    assert start.meta["train"]["seed"] == trained.meta["train"]["seed"]
    assert "training_curve" not in start.meta
    again = start.sha256
    (folder / UNTRAINED / "sae.json").unlink()  # as in a cache of an older version
    build(plan, until="train-sae", say=print)
    assert load_sae(folder / UNTRAINED).sha256 == again


@pytest.fixture(scope="module")
def batch_top_k(tmp_path_factory):
    """What overcomplete saves of a BatchTopKSAE for 32-dimensional embeddings: the same four tensors as of a TopKSAE."""
    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(48, 32)).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    state = {
        "encoder.final_block.0.weight": torch.from_numpy(atoms),
        "encoder.final_block.0.bias": torch.zeros(48),
        "dictionary._weights": torch.from_numpy(atoms),
        "dictionary.multiplier": torch.tensor(0.0),
    }
    file = tmp_path_factory.mktemp("trained") / "batch.pt"
    torch.save(state, file)
    return file


def test_a_build_finds_the_threshold_of_an_sae_on_its_own_embeddings(checkpoint, coco_folder, tmp_path, batch_top_k):
    import numpy as np

    from analysis.store import open_store

    said = []
    sae = SaePlan(str(batch_top_k), rule="batch-topk", l0=5.0)
    store = open_store(build(small_plan(coco_folder, checkpoint("clip"), tmp_path, sae=sae), say=said.append))
    assert (store.sae().rule, store.sae().top_k) == ("threshold", 20)
    active = np.count_nonzero(np.asarray(store.codes.values), axis=1)
    assert active.mean() == pytest.approx(5, abs=0.05)
    assert len(set(active.tolist())) > 1
    assert any("5 concepts are active on average" in line for line in said)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"rule": "batch-topk"}, "give --threshold T, or --l0 L"),
        ({"rule": "batch-topk", "l0": 5.0, "sae": "nowhere.pt"}, "There is no SAE at 'nowhere.pt'"),
        ({"sae": "train", "l0": 5.0}, "name it with --sae"),
        ({"rule": "batch-topk", "l0": 5.0, "width": 256}, "reads 32-dimensional vectors"),
    ],
)
def test_what_an_sae_needs_is_asked_before_anything_is_embedded(
    checkpoint, coco_folder, tmp_path, batch_top_k, asked, reason
):
    model = "qwen2-vl-mini" if asked.pop("width", None) else str(checkpoint("clip"))
    plan = small_plan(coco_folder, model, tmp_path, sae=SaePlan(**{"sae": str(batch_top_k), **asked}))
    with pytest.raises(CheckpointError, match=reason):
        build(plan, say=print)
    assert not (tmp_path / "work").exists()


def test_an_sae_without_a_word_about_its_rule_is_read_as_topk_and_the_note_names_the_options(
    checkpoint, coco_folder, tmp_path, batch_top_k
):
    said = []
    build(
        small_plan(coco_folder, checkpoint("clip"), tmp_path, sae=SaePlan(str(batch_top_k), top_k=4)),
        until="train-sae",
        say=said.append,
    )
    assert any("--rule batch-topk with --threshold T, or with --l0 L" in line for line in said)
