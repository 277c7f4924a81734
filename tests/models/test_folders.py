"""Folders that people have: adapters, caches, quantised, pointers, half a download. Read, or one sentence and the next step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from analysis.errors import BackboneError
from analysis.models.backbones import load_backbone
from tests.fake_hub import sharded
from tests.models.samples import sample

COMMIT = "c0ffee" * 6 + "beef"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 123456\n"


@pytest.fixture
def copy(checkpoint, tmp_path):
    def make(architecture: str = "clip") -> Path:
        return Path(shutil.copytree(checkpoint(architecture), tmp_path / architecture))

    return make


def refusal(folder: Path) -> str:
    with pytest.raises(BackboneError) as caught:
        load_backbone(folder, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def cache_of(checkpoint: Path, outer: Path, commit: str = COMMIT) -> Path:
    """As the hub client lays it out: blobs by hash, a snapshot of links."""
    snapshot, blobs = outer / "snapshots" / commit, outer / "blobs"
    for folder in (snapshot, blobs, outer / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(sorted(checkpoint.iterdir())):
        shutil.copy(file, blobs / f"{commit[:6]}{number:04d}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{commit[:6]}{number:04d}")
    (outer / "refs" / "main").write_text(commit)
    return snapshot


def test_a_snapshot_of_the_hub_cache_loads(checkpoint, tmp_path):
    snapshot = cache_of(checkpoint("clip"), tmp_path / "models--me--clip-mini")
    loaded = load_backbone(snapshot, device="cpu")
    assert loaded.embed([sample("text", "a cat")]).vectors["mean"].shape == (1, loaded.width)


def test_the_outer_folder_names_the_snapshot_of_main(checkpoint, tmp_path):
    outer = tmp_path / "models--me--clip-mini"
    cache_of(checkpoint("clip"), outer, "a" * 40)
    snapshot = cache_of(checkpoint("clip"), outer)
    for given in (outer, outer / "snapshots"):
        assert "snapshots/" in refusal(given)
    assert str(snapshot) in refusal(outer)
    assert str(snapshot) in refusal(tmp_path)  # the whole cache


def test_a_link_into_a_cache_whose_blob_is_gone_is_named(checkpoint, tmp_path):
    snapshot = cache_of(checkpoint("clip"), tmp_path / "models--me--clip-mini")
    (snapshot / "model.safetensors").resolve().unlink()
    assert "model.safetensors" in refusal(snapshot)
    assert "gone" in refusal(snapshot)


@pytest.mark.parametrize("with_config", [False, True])
@pytest.mark.parametrize(
    "content", [{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2-VL-2B-Instruct"}, None]
)
def test_an_adapter_is_called_one_with_its_base(copy, content, with_config):
    folder = copy("qwen2_vl")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    if not with_config:
        (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps(content) if content else "{torn")
    (folder / "adapter_model.safetensors").write_bytes(b"weights of the adapter")
    said = refusal(folder)
    assert "LoRA adapter" in said
    assert "merge" in said
    assert content is None or "Qwen/Qwen2-VL-2B-Instruct" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq, 4 bits"),
        ({"quant_method": "gptq", "bits": 8}, "gptq, 8 bits"),
        ({"bnb_4bit_quant_type": "nf4", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "fp8"}, "fp8"),
    ],
)
@pytest.mark.parametrize("inner", [False, True])
def test_quantised_weights_are_refused_with_their_method(copy, settings, words, inner):
    folder = copy("qwen2_vl")
    config = json.loads((folder / "config.json").read_text())
    (config["text_config"] if inner else config)["quantization_config"] = settings
    (folder / "config.json").write_text(json.dumps(config))
    assert words in refusal(folder)
    assert "quantised" in refusal(folder)


@pytest.mark.parametrize("gone", [1, 3])
def test_missing_shards_are_named_and_counted(checkpoint, tmp_path, gone):
    folder = sharded(checkpoint("clip"), tmp_path / "sharded", 4)
    for number in range(5 - gone, 5):
        (folder / f"model-{number:05d}-of-00004.safetensors").unlink()
    assert f"{gone} of its 4" in refusal(folder)
    assert f"model-{5 - gone:05d}-of-00004.safetensors" in refusal(folder)


def test_an_index_that_is_torn_is_named(checkpoint, tmp_path):
    folder = sharded(checkpoint("clip"), tmp_path / "sharded", 2)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": [')
    assert "model.safetensors.index.json" in refusal(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_lfs_pointers_are_called_by_their_name(copy, name):
    folder = copy()
    (folder / name).write_text(POINTER)
    said = refusal(folder)
    assert name in said
    assert "Git LFS pointer" in said
    assert "git lfs pull" in said


def test_an_empty_weight_file_is_a_stopped_download(copy):
    folder = copy()
    (folder / "model.safetensors").write_bytes(b"")
    assert "model.safetensors" in refusal(folder)
    assert "empty" in refusal(folder)


@pytest.mark.parametrize("architecture", ["qwen2_vl", "clip", "gemma3"])
def test_a_missing_image_processor_is_called_so(copy, architecture):
    folder = copy(architecture)
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    assert "image processor" in refusal(folder)
    assert "preprocessor_config.json" in refusal(folder)


def test_a_missing_tokenizer_is_called_so(copy):
    folder = copy()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer" in refusal(folder)


def test_a_gguf_file_and_a_folder_around_the_model_are_recognised(checkpoint, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.Q4_K_M.gguf").write_bytes(b"GGUF")
    assert "llama.cpp" in refusal(tmp_path / "a")
    shutil.copytree(checkpoint("clip"), tmp_path / "b" / "clip-mini")
    assert str(tmp_path / "b" / "clip-mini") in refusal(tmp_path / "b")


def test_a_config_that_is_no_object_is_refused(copy):
    folder = copy()
    (folder / "config.json").write_text("[1, 2]")
    assert "config.json cannot be read" in refusal(folder)


@pytest.mark.parametrize("left", ["", "model.onnx", "model.safetensors.incomplete"])
def test_a_folder_without_weights_says_what_lies_there(copy, left):
    folder = copy()
    (folder / "model.safetensors").unlink()
    if left:
        (folder / left).write_bytes(b"x")
    said = refusal(folder)
    assert "a config.json and no weights" in said
    assert left in said


def test_folders_of_other_tools_and_of_training_are_recognised(checkpoint, copy, tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "consolidated.00.pth").write_bytes(b"x")
    assert "consolidated.00.pth and no config.json, the layout of another tool" in refusal(tmp_path / "meta")
    for step in (10, 200, 30):
        shutil.copytree(checkpoint("clip"), tmp_path / "run" / f"checkpoint-{step}")
    said = refusal(tmp_path / "run")
    assert "3 of its subfolders do (checkpoint-10, checkpoint-30, checkpoint-200)" in said
    assert said.endswith("checkpoint-200.")
    (tmp_path / "tuned" / "checkpoint-7").mkdir(parents=True)
    (tmp_path / "tuned" / "checkpoint-7" / "adapter_config.json").write_text('{"base_model_name_or_path": "a/base"}')
    assert "checkpoint-7 is a LoRA adapter of a/base" in refusal(tmp_path / "tuned")
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization": {"group_size": 64, "bits": 4}}))
    assert "quantised weights (unnamed, 4 bits)" in refusal(folder)
    assert "is a file; expected the folder of a model" in refusal(folder / "config.json")
