"""Loading: what goes right, and one sentence for everything that can go wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.errors import BackboneError
from analysis.models import backbones
from analysis.models.backbones import estimate_memory, load_backbone, open_backbone
from analysis.models.specs import BACKBONES
from tests.models.samples import DUAL, MLLMS, sample


@pytest.fixture
def copy(checkpoint, tmp_path):
    """copy("clip") -> a folder that the test may damage."""

    def make(architecture: str) -> Path:
        return Path(shutil.copytree(checkpoint(architecture), tmp_path / architecture))

    return make


@pytest.mark.parametrize("architecture", [*DUAL, *MLLMS])
def test_a_folder_of_every_supported_architecture_loads(backbone, checkpoint, architecture):
    loaded = backbone(architecture)
    assert loaded.spec.model_type == architecture
    assert loaded.key == checkpoint(architecture).name
    assert (loaded.device, loaded.dtype) == ("cpu", "float32")
    assert loaded.contrastive == (architecture in DUAL)
    assert loaded.embed([sample("text", "a cat")]).vectors["mean"].shape == (1, loaded.width)


@pytest.mark.parametrize("architecture", [*DUAL, *MLLMS])
def test_what_a_backbone_is_is_known_without_its_weights(backbone, copy, architecture):
    folder = copy(architecture)
    (folder / "model.safetensors").unlink()
    opened, loaded = open_backbone(folder), backbone(architecture)
    assert opened.spec.width == loaded.width == loaded.embed([sample("text", "a cat")]).vectors["mean"].shape[1]
    for field in ("model_type", "tap", "contrastive", "key"):
        assert getattr(opened.spec, field) == getattr(loaded.spec, field)


def test_a_width_that_config_json_leaves_to_the_library_is_known_too(copy):
    folder = copy("siglip")
    config = json.loads((folder / "config.json").read_text())
    del config["vision_config"]["hidden_size"]  # as google/siglip2-base-patch16-512 does
    (folder / "config.json").write_text(json.dumps(config))
    assert open_backbone(folder).spec.width == 768


def test_a_config_that_its_library_refuses_is_one_sentence(copy):
    folder = copy("clip")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "projection_dim": "wide"}))
    with pytest.raises(BackboneError, match=r"config\.json of .* cannot be used .*expected that of a CLIP checkpoint"):
        open_backbone(folder)


def test_the_memory_estimate_is_what_the_loaded_weights_take(backbone, checkpoint):
    for architecture in (*DUAL, *MLLMS):
        loaded = sum(p.numel() for p in backbone(architecture)._model.parameters())
        estimated = estimate_memory(checkpoint(architecture), "float32")
        assert loaded * 4 <= estimated <= loaded * 4.3, architecture  # buffers and unused heads come on top
        assert estimate_memory(checkpoint(architecture), "float16") == estimated // 2


def test_the_memory_of_a_row_is_known_without_its_weights():
    assert estimate_memory("qwen2-vl-7b") == pytest.approx(16.6e9, rel=0.01)
    assert estimate_memory("qwen2-vl-7b", "float32") == pytest.approx(33.2e9, rel=0.01)
    with pytest.raises(BackboneError, match="hf download somebody/unknown-model"):
        estimate_memory("somebody/unknown-model")


def test_a_row_can_read_its_weights_from_a_folder(checkpoint):
    loaded = load_backbone("qwen3-vl-8b", weights=checkpoint("qwen3_vl"), device="cpu")
    assert (loaded.key, loaded.spec.label, loaded.spec.tap) == ("qwen3-vl-8b", "Qwen3-VL-8B-Instruct", "pre_norm")
    assert loaded.spec.hub_id == str(checkpoint("qwen3_vl").resolve())  # where they are found again
    assert loaded.revision.startswith("local-")
    assert estimate_memory("qwen3-vl-8b", weights=checkpoint("qwen3_vl")) < 10**7 < estimate_memory("qwen3-vl-8b")
    with pytest.raises(BackboneError, match="There is no model folder"):
        estimate_memory("qwen3-vl-8b", weights="no-such-folder")
    with pytest.raises(BackboneError, match="has model_type 'clip'; qwen3-vl-8b expects 'qwen3_vl'"):
        load_backbone("qwen3-vl-8b", weights=checkpoint("clip"), device="cpu")


def test_the_revision_of_a_folder_follows_its_content(copy):
    folder = copy("clip")
    first = load_backbone(folder, device="cpu").revision
    assert first.startswith("local-")
    assert load_backbone(folder, device="cpu").revision == first
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_backbone(folder, device="cpu").revision != first


def test_an_unsupported_architecture_is_told_which_are_supported(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    with pytest.raises(BackboneError, match=r"model_type 'llava'.*expected one of clip, .*siglip2, qwen2_vl"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("content", [None, "{broken", ""])
def test_a_folder_without_a_readable_config_is_no_model(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(BackboneError, match=r"config\.json"):
        load_backbone(tmp_path)


def test_a_missing_weight_is_never_replaced_by_random_numbers(copy):
    folder = copy("qwen2_vl")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in sorted(weights) if "layers.1" in name)
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lacks 1 weights, first '.*layers\.1"):
        load_backbone(folder, device="cpu")


def test_a_weight_of_the_wrong_shape_is_refused(copy):
    folder = copy("clip")
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"] = torch.zeros(3, 3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_backbone(folder, device="cpu")


def test_a_truncated_weight_file_is_one_sentence(copy):
    folder = copy("clip")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(BackboneError, match=r"model\.safetensors is damaged|cannot be loaded"):
        load_backbone(folder, device="cpu")


def test_a_folder_without_weights_is_one_sentence(copy):
    folder = copy("clip")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match="no weights; expected"):
        load_backbone(folder, device="cpu")


@pytest.mark.parametrize("architecture", [*DUAL, *MLLMS])
def test_a_folder_without_its_tokenizer_is_one_sentence(copy, architecture):
    # transformers 5 would go on with an empty tokenizer for some of them
    folder = copy(architecture)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BackboneError, match=r"tokenizer|cannot be loaded"):
        load_backbone(folder, device="cpu")


def test_a_chat_model_without_a_chat_template_is_refused(copy):
    folder = copy("qwen2_vl")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BackboneError, match="chat template cannot be rendered"):
        load_backbone(folder, device="cpu")


def test_code_in_a_checkpoint_never_runs(copy, tmp_path):
    folder, marker = copy("clip"), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel", "AutoProcessor", "AutoTokenizer"), "evil.Evil")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    load_backbone(folder, device="cpu")
    assert not marker.exists()


def test_a_device_that_does_not_exist_is_answered_with_those_that_do(checkpoint):
    for device in ("cuda:99", "tpu"):
        with pytest.raises(BackboneError, match=rf"'{device}' does not exist here; expected auto or one of .*cpu"):
            load_backbone(checkpoint("clip"), device=device)


def test_choices_that_do_not_exist_are_answered_with_those_that_do(checkpoint):
    folder = checkpoint("clip")
    with pytest.raises(BackboneError, match="expected one of float32, bfloat16, float16"):
        load_backbone(folder, device="cpu", dtype="int8")
    with pytest.raises(BackboneError, match="expected one of post_norm, pre_norm"):
        load_backbone(folder, device="cpu", tap="layer_3")
    with pytest.raises(BackboneError, match=r"dual encoder.*no tap"):
        load_backbone(folder, device="cpu", tap="pre_norm")
    with pytest.raises(BackboneError, match="expected one of None, sum_of_unit_vectors"):
        load_backbone(folder, device="cpu", fusion="mean")
    with pytest.raises(BackboneError, match="expected one of exclude, include"):
        load_backbone(folder, device="cpu", dummy_image="white")


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(checkpoint, monkeypatch):
    monkeypatch.setattr(backbones, "free_memory", lambda device: 1000)
    monkeypatch.setattr(backbones, "_from_pretrained", lambda *_: pytest.fail("was read"))
    with pytest.raises(
        BackboneError, match=r"needs about 0\.\d GB in float32 and cpu has 0\.0 GB free; choose dtype bf"
    ):
        load_backbone(checkpoint("qwen2_vl"), device="cpu")


def test_memory_that_runs_out_while_loading_is_one_sentence(checkpoint, monkeypatch):
    from transformers import AutoModel

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(AutoModel, "from_pretrained", full)
    with pytest.raises(BackboneError, match="does not fit into the memory of cpu"):
        load_backbone(checkpoint("clip"), device="cpu")


def test_a_demo_model_that_is_not_trained_yet_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(backbones, "ROOT", tmp_path)
    with pytest.raises(BackboneError, match="make demo"):
        load_backbone("clip-mini")
    with pytest.raises(BackboneError, match="make demo"):
        estimate_memory("clip-mini")


def test_demo_models_load_where_they_are_trained():
    trained = [spec for spec in BACKBONES.values() if spec.demo and (backbones.ROOT / spec.hub_id).is_dir()]
    if not trained:
        pytest.skip("the demo models are not trained yet; run `make demo`")
    for spec in trained:
        loaded = load_backbone(spec.key, device="cpu")
        assert loaded.width == spec.width
        assert np.isfinite(loaded.embed([sample("text", "a cat")]).vectors["mean"]).all()
