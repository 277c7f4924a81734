"""A model of the hub: fetched with bytes that are told, and what is said when it cannot be had, without a network."""

from __future__ import annotations

import errno
import json

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors as hub

from analysis.errors import BackboneError
from analysis.models import backbones
from analysis.models import hub as hub_module
from analysis.models.backbones import load_backbone
from analysis.models.hub import ask_hub, cached_folder, explain, fetch, open_hub
from analysis.models.weights import count_parameters
from tests.fake_hub import COMMIT, serving_hub, sharded, use_hub
from tests.models.samples import sample

HUB_ID = "somebody/tiny-qwen"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


def _http(kind: type[hub.HfHubHTTPError]) -> hub.HfHubHTTPError:
    """An error of the hub client without the response object of whichever HTTP library it uses."""
    error = kind.__new__(kind)
    error.args = ("no",)
    return error


def _missing(cause: Exception) -> hub.LocalEntryNotFoundError:
    error = hub.LocalEntryNotFoundError("not in the cache")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (_http(hub.GatedRepoError), "is gated: accept its licence at https://huggingface.co/google/paligemma2"),
        (_http(hub.RepositoryNotFoundError), "hub has no model .* that you may read"),
        (_http(hub.RevisionNotFoundError), "has no revision '8e40"),
        (_missing(hub.OfflineModeIsEnabled("offline")), "offline mode is on .HF_HUB_OFFLINE.; run `hf download google"),
        (_missing(ConnectionError("no route")), "the hub cannot be reached; run `hf download google"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk filled up"),
        (ValueError("odd"), "cannot be loaded .ValueError: odd.; run `hf download google"),
    ],
)
def test_every_way_to_miss_a_hub_model_has_a_next_step(monkeypatch, error, sentence):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(hub_module, "_info", fail)
    with pytest.raises(BackboneError, match=sentence):
        load_backbone("paligemma2-3b", device="cpu")


def test_the_reason_is_found_behind_the_error_that_wraps_it():
    wrapped = OSError("You are trying to access a gated repo.\nMake sure ...")
    wrapped.__cause__ = _http(hub.GatedRepoError)
    assert "hf auth login" in str(explain(wrapped, "google/paligemma2-3b-mix-224"))


def test_an_unsupported_hub_model_is_refused_before_its_weights_are_fetched(repository):
    repository.files["config.json"] = json.dumps({"model_type": "llava"}).encode()
    with pytest.raises(BackboneError, match="model_type 'llava', which is not supported"):
        load_backbone(HUB_ID, device="cpu")
    assert not any(repository.fetched(name) for name in repository.files if name.endswith(".safetensors"))


def test_a_partly_downloaded_model_is_not_taken_for_a_complete_one(monkeypatch, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}))
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda hub_id, name, revision: str(index) if "index" in name else None,
    )
    assert cached_folder("somebody/model", "main") is None
    (tmp_path / "model-2.safetensors").write_bytes(b"")
    assert cached_folder("somebody/model", "main") == tmp_path


@pytest.fixture
def repository(checkpoint, tmp_path, monkeypatch):
    """A hub with one sharded checkpoint that takes about a second and a half to arrive, and an empty local cache."""
    folder = sharded(checkpoint("qwen2_vl"), tmp_path / "repository", 5)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    (folder / "pytorch_model.bin").write_bytes(b"the same weights in the old format")
    (folder / "model.onnx").write_bytes(b"and in another one")
    with serving_hub(folder, HUB_ID, rate=size / 1.5) as server:
        use_hub(monkeypatch, server.address, tmp_path / "cache")
        yield server


def test_a_download_is_told_in_bytes_as_they_arrive(repository, checkpoint):
    told = []
    loaded = load_backbone(HUB_ID, device="cpu", told=lambda done, total: told.append((done, total)))
    assert (loaded.revision, loaded.width) == (COMMIT, 64)
    done, totals = zip(*told, strict=True)
    weights = sum(len(data) for name, data in repository.files.items() if name.endswith(".safetensors"))
    settings = sum(len(data) for name, data in repository.files.items() if name.endswith((".json", ".jinja", ".txt")))
    assert set(totals) == {weights + settings}
    assert list(done) == sorted(done)
    assert done[0] < totals[0] / 2
    assert len(set(done)) >= 5  # one step a shard at least
    assert done[-1] == totals[-1]
    assert not repository.fetched("pytorch_model.bin")
    assert not repository.fetched("model.onnx")

    text = [sample("text", "a cat on a car")]
    local = load_backbone(checkpoint("qwen2_vl"), device="cpu")
    np.testing.assert_array_equal(loaded.embed(text).vectors["mean"], local.embed(text).vectors["mean"])


def test_a_second_load_asks_the_hub_for_nothing_it_has(repository, monkeypatch, tmp_path):
    load_backbone(HUB_ID, device="cpu").unload()
    asked, told = len(repository.asked), []
    load_backbone(HUB_ID, device="cpu", told=lambda *now: told.append(now)).unload()
    assert told == []
    assert max(repository.fetched(name) for name in repository.files) == 1
    assert len(repository.asked) > asked  # a branch may have moved
    asked = len(repository.asked)
    load_backbone(HUB_ID, device="cpu", revision=COMMIT).unload()
    assert len(repository.asked) == asked  # a commit has not
    use_hub(monkeypatch, NOWHERE, tmp_path / "cache")
    for revision in (COMMIT, "main"):
        assert load_backbone(HUB_ID, device="cpu", revision=revision).revision == COMMIT


def test_what_is_already_here_counts_as_here(repository):
    shard = "model-00001-of-00005.safetensors"
    huggingface_hub.hf_hub_download(HUB_ID, shard)
    opened = open_hub(HUB_ID, "main")
    model = ask_hub(opened)
    assert model.total - sum(model.missing.values()) == len(repository.files[shard]) + len(
        repository.files["config.json"]
    )
    told = []
    fetch(opened, lambda done, total: told.append((done, total)))
    assert told[0][0] > len(repository.files[shard])
    assert told[-1] == (model.total, model.total)
    assert repository.fetched(shard) == 1


def test_the_hub_says_how_large_a_model_is_before_its_weights_are_fetched(repository, checkpoint):
    model = ask_hub(open_hub(HUB_ID, "main"))
    assert model.parameters == pytest.approx(count_parameters(checkpoint("qwen2_vl")), rel=0.15)  # with its head
    assert not any(repository.fetched(name) for name in model.weights)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_settings_larger_than_any_models_are_refused_before_they_are_fetched(repository, monkeypatch, name):
    most = {"config.json": "MAX_CONFIG", "tokenizer.json": "MAX_SETTINGS"}[name]
    repository.files[name] = b" " * 3000 + repository.files[name]
    monkeypatch.setattr(hub_module, most, len(repository.files[name]) - 1)
    with pytest.raises(BackboneError, match=r"expected at most [\d,]+: check that this is the model you mean"):
        load_backbone(HUB_ID, device="cpu")
    assert not any(repository.fetched(file) for file in repository.files)


def test_a_model_too_large_for_the_memory_is_refused_before_it_is_fetched(repository, monkeypatch):
    monkeypatch.setattr(backbones, "free_memory", lambda device: 1000)
    with pytest.raises(BackboneError, match=r"needs about 0\.\d GB in float32 and cpu has 0\.0 GB free"):
        load_backbone(HUB_ID, device="cpu")
    assert not any(repository.fetched(name) for name in repository.files if name.endswith(".safetensors"))


def test_a_hub_that_cannot_be_reached_and_a_model_that_is_not_there_are_sentences(repository, monkeypatch, tmp_path):
    with pytest.raises(BackboneError, match="hub has no model 'somebody/else' that you may read"):
        load_backbone("somebody/else", device="cpu")
    opened = open_hub(HUB_ID, "main")
    use_hub(monkeypatch, NOWHERE, tmp_path / "cache")
    for failing in (lambda: ask_hub(opened), lambda: fetch(opened), lambda: load_backbone("other/one", device="cpu")):
        with pytest.raises(BackboneError, match=r"not in the local cache and the hub cannot be reached; run `hf down"):
            failing()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match=r"offline mode is on .HF_HUB_OFFLINE.; run `hf download"):
        fetch(opened)
