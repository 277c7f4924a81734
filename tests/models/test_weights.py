"""What is said when a hub model cannot be had, without a network."""

from __future__ import annotations

import errno
import json

import huggingface_hub
import pytest
from huggingface_hub import errors as hub

from analysis.errors import BackboneError
from analysis.models.backbones import load_backbone
from analysis.models.weights import cached_folder, count_parameters, explain, fingerprint, open_hub


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

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(BackboneError, match=sentence):
        load_backbone("paligemma2-3b", device="cpu")


def test_the_reason_is_found_behind_the_error_that_wraps_it():
    wrapped = OSError("You are trying to access a gated repo.\nMake sure ...")
    wrapped.__cause__ = _http(hub.GatedRepoError)
    assert "hf auth login" in str(explain(wrapped, "google/paligemma2-3b-mix-224"))


def test_a_pinned_commit_in_the_cache_is_used_without_the_network(monkeypatch, tmp_path):
    commit = "a" * 40
    file = tmp_path / "snapshots" / commit / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"model_type": "clip"}))
    asked = []

    def download(hub_id, name, *, revision, local_files_only=False):
        asked.append(local_files_only)
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    found = open_hub("somebody/model", commit)
    assert (found.revision, found.hub_revision, found.config) == (commit, commit, {"model_type": "clip"})
    assert asked == [True]
    open_hub("somebody/model", "main")
    assert asked == [True, False], "a branch may have moved: the hub is asked"


def test_an_unsupported_hub_model_is_refused_before_its_weights_are_fetched(monkeypatch, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llava"}))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(file))
    with pytest.raises(BackboneError, match="model_type 'llava', which is not supported"):
        load_backbone("llava-hf/llava-1.5-7b-hf", device="cpu")


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


def test_parameters_are_counted_without_the_head(checkpoint, tmp_path):
    assert count_parameters(tmp_path) is None
    folder = checkpoint("qwen2_vl")
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        sizes = {name: file.get_tensor(name).numel() for name in file.keys()}  # noqa: SIM118 (not a dict)
    assert "lm_head.weight" in sizes
    assert count_parameters(folder) == sum(sizes.values()) - sizes["lm_head.weight"]


def test_a_fingerprint_ignores_notes_and_sees_everything_else(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    first = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("about")
    assert fingerprint(tmp_path) == first
    (tmp_path / "tokenizer.json").write_text("{}")
    assert fingerprint(tmp_path) != first
