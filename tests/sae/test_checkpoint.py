"""Saving, loading and importing SAEs: what comes back is what was there, and damaged or hostile files are refused."""

import json
import os
import pickle
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.errors import CheckpointError
from analysis.sae import checkpoint
from analysis.sae.checkpoint import (
    Sae,
    export_overcomplete,
    import_checkpoint,
    load_sae,
    save_sae,
    to_overcomplete_state_dict,
)
from analysis.sae.encode import decode, encode
from tests.sae import needs_overcomplete


def small_sae(seed=0, n_concepts=40, width=12, top_k=5):
    rng = np.random.default_rng(seed)
    weight, dictionary = rng.standard_normal((2, n_concepts, width)).astype(np.float32)
    return Sae(weight, rng.standard_normal(n_concepts).astype(np.float32), dictionary, top_k, {"backbone": "toy"})


def authors_checkpoint(n_concepts=40, width=12, seed=0):
    """The structure of the released .pt files, optimizer state and defaultdict logs included."""
    g = torch.Generator().manual_seed(seed)
    weight, dictionary = torch.randn(2, n_concepts, width, generator=g)
    logs = defaultdict(list)
    logs["r2"] += [0.5, 0.75]
    return {
        "epoch": 3,
        "model_state": {
            "encoder.final_block.0.weight": weight,
            "encoder.final_block.0.bias": torch.randn(n_concepts, generator=g),
            "dictionary._weights": dictionary / dictionary.norm(dim=1, keepdim=True) * 1.003,
            "dictionary.multiplier": torch.tensor(0.0),
        },
        "optimizer_state": {"state": {0: {"exp_avg": torch.zeros_like(weight)}}, "param_groups": [{"lr": 8e-4}]},
        "logs": logs,
    }


def overcomplete_codes(state, x, top_k):
    needs_overcomplete()
    from overcomplete.sae import TopKSAE  # 8 seconds, hence here

    n_concepts, width = state["dictionary._weights"].shape
    model = TopKSAE(width, nb_concepts=n_concepts, top_k=top_k)
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        codes = model.encode(torch.from_numpy(x))[1]
        return codes.numpy(), model.decode(codes).numpy()


@pytest.fixture(params=["read", "mapped"])
def opening(request, monkeypatch):
    """Small files are read whole, large ones mapped."""
    if request.param == "mapped":
        monkeypatch.setattr(checkpoint, "MAPPED_FROM", 0)


def test_saved_sae_loads_with_the_same_bits(tmp_path, opening):
    sae = small_sae()
    save_sae(sae, tmp_path / "sae")
    loaded = load_sae(tmp_path / "sae")
    assert loaded.sha256 == sae.sha256
    assert (loaded.top_k, loaded.meta) == (5, {"backbone": "toy"})
    for name in ("encoder_weight", "encoder_bias", "dictionary"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(sae, name))
        assert getattr(loaded, name).dtype == np.float32
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sae"]  # no temporary folder stays


def test_float16_file_is_smaller_close_and_consistent(tmp_path, opening):
    sae = small_sae(n_concepts=200, width=64)
    save_sae(sae, tmp_path / "full")
    stored = save_sae(sae, tmp_path / "half", dtype="float16")
    loaded = load_sae(tmp_path / "half")
    assert loaded.sha256 == stored.sha256 != sae.sha256
    np.testing.assert_allclose(np.linalg.norm(loaded.dictionary, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(loaded.encoder_weight, sae.encoder_weight, atol=2e-3)
    sizes = [(tmp_path / name / "sae.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]
    with pytest.raises(CheckpointError, match="65504"):
        save_sae(replace(sae, encoder_bias=np.full(200, 1e6, np.float32)), tmp_path / "x", dtype="float16")


def test_saving_over_an_sae_replaces_it_whole(tmp_path):
    save_sae(small_sae(0), tmp_path / "sae")
    save_sae(small_sae(1), tmp_path / "sae")
    assert load_sae(tmp_path / "sae").sha256 == small_sae(1).sha256


def test_failed_save_leaves_the_old_sae(tmp_path, monkeypatch):
    save_sae(small_sae(0), tmp_path / "sae")

    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        save_sae(small_sae(1), tmp_path / "sae")
    monkeypatch.undo()
    assert load_sae(tmp_path / "sae").sha256 == small_sae(0).sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sae"]


def test_dictionary_rows_become_unit_and_dead_rows_stay_zero():
    raw = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    sae = Sae(raw, np.zeros(2, np.float32), raw, 1)
    np.testing.assert_allclose(sae.dictionary, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert Sae(raw, np.zeros(2, np.float32), sae.dictionary, 1).sha256 == sae.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dictionary": np.ones((3, 12), np.float32)}, "differ in shape"),
        ({"encoder_bias": np.zeros(3, np.float32)}, "bias has shape"),
        ({"top_k": 41}, "top_k is 41"),
        ({"top_k": 0}, "top_k is 0"),
    ],
)
def test_inconsistent_sae_is_refused(change, message):
    with pytest.raises(CheckpointError, match=message):
        replace(small_sae(), **change)


def test_a_mapped_sae_is_mine_alone_and_survives_its_replacement(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "MAPPED_FROM", 0)
    save_sae(small_sae(0), tmp_path / "sae")
    loaded = load_sae(tmp_path / "sae")
    save_sae(small_sae(1), tmp_path / "sae")
    np.testing.assert_array_equal(loaded.dictionary, small_sae(0).dictionary)
    loaded.dictionary[:] = 0
    assert load_sae(tmp_path / "sae").sha256 == small_sae(1).sha256


def test_damage_is_one_sentence(tmp_path, opening):
    folder = tmp_path / "sae"
    with pytest.raises(CheckpointError, match="No SAE in"):
        load_sae(folder)
    save_sae(small_sae(), folder)
    tensors = folder / "sae.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-4] + b"\x00\x00\x00\x00")
    with pytest.raises(CheckpointError, match="altered"):
        load_sae(folder)
    tensors.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_sae(folder)
    tensors.write_bytes(whole)
    facts = json.loads((folder / "sae.json").read_text())
    older = {k: v for k, v in facts.items() if k != "digest"}  # as written before sae.json had a digest
    for broken, message in (
        ({**facts, "format": 99}, "format 99"),
        ({**facts, "top_k": 4}, "altered"),
        ({**facts, "meta": {"unit": "token"}}, "sae.json .* was altered"),
        ({**older, "digezt": facts["digest"]}, "sae.json .* was altered"),
        ({**older, "top_k": 4}, "altered"),
        ({k: v for k, v in older.items() if k != "top_k"}, "lacks 'top_k'"),
    ):
        (folder / "sae.json").write_text(json.dumps(broken))
        with pytest.raises(CheckpointError, match=message):
            load_sae(folder)
    (folder / "sae.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_sae(folder)


def test_authors_checkpoint_imports_and_codes_equal_overcomplete(tmp_path):
    checkpoint = authors_checkpoint()
    torch.save(checkpoint, tmp_path / "sae_toy.pt")
    sae = import_checkpoint(tmp_path / "sae_toy.pt", top_k=7, backbone_width=12)
    assert sae.meta["top_k_source"] == "argument"
    assert sae.meta["epoch"] == 3
    assert sae.meta["training_curve"] == {"r2": [0.5, 0.75]}
    np.testing.assert_allclose(sae.meta["raw_norms"], [1.003, 1.003], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(sae.dictionary, axis=1), 1, atol=1e-6)
    x = np.random.default_rng(1).standard_normal((300, 12)).astype(np.float32)
    codes, decoded = overcomplete_codes(checkpoint["model_state"], x, 7)
    for rows in (slice(None), slice(0, 9)):  # the blocked path and the one for few rows
        mine = encode(sae, x[rows])
        np.testing.assert_allclose(mine.to_csr().toarray(), codes[rows], atol=1e-5)
        np.testing.assert_allclose(decode(sae, mine), decoded[rows], atol=1e-5)


def test_export_goes_back_into_overcomplete(tmp_path):
    sae = small_sae()
    export_overcomplete(sae, tmp_path / "out" / "sae.pt")
    state = torch.load(tmp_path / "out" / "sae.pt", weights_only=True)
    x = np.random.default_rng(2).standard_normal((50, 12)).astype(np.float32)
    codes, _ = overcomplete_codes(state, x, sae.top_k)
    np.testing.assert_allclose(encode(sae, x).to_csr().toarray(), codes, atol=1e-5)
    again = import_checkpoint(tmp_path / "out" / "sae.pt", top_k=sae.top_k)
    assert again.sha256 == sae.sha256


def test_top_k_comes_from_the_registry_when_the_file_has_none(tmp_path):
    torch.save(authors_checkpoint(n_concepts=80), tmp_path / "a.pt")
    sae = import_checkpoint(tmp_path / "a.pt")
    assert (sae.top_k, sae.meta["top_k_source"]) == (50, "registry")
    torch.save({**authors_checkpoint(), "top_k": 9}, tmp_path / "b.pt")
    sae = import_checkpoint(tmp_path / "b.pt")
    assert (sae.top_k, sae.meta["top_k_source"]) == (9, "checkpoint")


def test_plain_state_dicts_half_precision_prefixes_and_old_files_import(tmp_path):
    state = authors_checkpoint()["model_state"]
    expected = import_checkpoint(_saved(state, tmp_path / "plain.pt"), top_k=3)
    wrapped = {f"module.{key}": value for key, value in state.items()}
    assert import_checkpoint(_saved(wrapped, tmp_path / "wrapped.pt"), top_k=3).sha256 == expected.sha256
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert import_checkpoint(tmp_path / "old.pt", top_k=3).sha256 == expected.sha256
    half = {key: value.bfloat16() for key, value in state.items()}
    rounded = import_checkpoint(_saved(half, tmp_path / "half.pt"), top_k=3)
    np.testing.assert_allclose(rounded.encoder_weight, expected.encoder_weight, rtol=4e-3)
    save_sae(expected, tmp_path / "folder")
    assert import_checkpoint(tmp_path / "folder").sha256 == expected.sha256


def test_multiplier_is_folded_without_changing_the_reconstruction(tmp_path):
    needs_overcomplete()
    from overcomplete.sae import TopKSAE

    torch.manual_seed(0)
    model = TopKSAE(6, nb_concepts=20, top_k=4, dictionary_params={"use_multiplier": True})
    model.dictionary.multiplier.data.fill_(0.7)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    sae = import_checkpoint(_saved(state, tmp_path / "m.pt"), top_k=4)
    x = np.random.default_rng(0).standard_normal((30, 6)).astype(np.float32)
    model.eval()
    with torch.no_grad():
        theirs = model.decode(model.encode(torch.from_numpy(x))[1]).numpy()
    np.testing.assert_allclose(decode(sae, encode(sae, x)), theirs, atol=1e-5)


def test_batch_top_k_codes_equal_overcomplete_in_eval(tmp_path):
    needs_overcomplete()
    from overcomplete.sae import BatchTopKSAE

    torch.manual_seed(0)
    model = BatchTopKSAE(8, nb_concepts=30, top_k=64)
    x = np.random.default_rng(3).standard_normal((32, 8)).astype(np.float32)
    model.encode(torch.from_numpy(x))  # in training mode: sets the running threshold
    model.eval()
    with torch.no_grad():
        theirs = model.encode(torch.from_numpy(x))[1].numpy()
    state = {**model.state_dict(), "running_threshold": model.running_threshold}
    sae = import_checkpoint(_saved(state, tmp_path / "b.pt"), top_k=30)
    assert sae.meta["encoder"] == "batch_top_k"
    np.testing.assert_allclose(encode(sae, x).to_csr().toarray(), theirs, atol=1e-6)
    save_sae(sae, tmp_path / "sae")
    assert load_sae(tmp_path / "sae").threshold == sae.threshold > 0


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_hostile_pickle_is_refused_and_runs_nothing(tmp_path, writer):
    proof = tmp_path / "it_ran"
    content = {**authors_checkpoint(), "logs": Hostile(proof)}
    path = tmp_path / "hostile.pt"
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps({"model_state": Hostile(proof)}))
    with pytest.raises(CheckpointError, match="refused"):
        import_checkpoint(path)
    assert not proof.exists()


def test_wrong_files_say_what_was_expected(tmp_path):
    def message(path, **options):
        with pytest.raises(CheckpointError) as caught:
            import_checkpoint(path, **options)
        return str(caught.value)

    assert "No file" in message(tmp_path / "absent.pt")
    assert "width 12; the backbone gives 16" in message(
        _saved(authors_checkpoint(), tmp_path / "a.pt"), top_k=3, backbone_width=16
    )
    state = authors_checkpoint()["model_state"]
    assert "lacks dictionary._weights" in message(
        _saved({k: v for k, v in state.items() if "dict" not in k}, tmp_path / "b.pt")
    )
    assert "normalisation" in message(
        _saved({**state, "encoder.final_block.1.running_mean": torch.zeros(40)}, tmp_path / "c.pt")
    )
    assert "NaN" in message(
        _saved({**state, "encoder.final_block.0.bias": torch.full((40,), torch.nan)}, tmp_path / "d.pt")
    )
    assert "holds a list" in message(_saved([1, 2], tmp_path / "e.pt"))
    assert "more than its 40 concepts" in message(
        _saved({**state, "dictionary._weights": torch.ones(40, 5)}, tmp_path / "f.pt")
    )
    whole = (tmp_path / "a.pt").read_bytes()
    for name, content in (("short.pt", whole[: len(whole) // 2]), ("text.pt", b"not a checkpoint"), ("none.pt", b"")):
        (tmp_path / name).write_bytes(content)
        assert "cannot be read" in message(tmp_path / name) or "refused" in message(tmp_path / name)


def test_import_reads_only_the_weights_of_a_file_with_optimizer_state(tmp_path):
    """Scaled down from 4096 x 32768: memory grows by the weights and their copies, not by Adam's state."""
    import subprocess
    import sys

    weight = torch.randn(8192, 1024)  # 32 MiB a matrix
    checkpoint = authors_checkpoint()
    checkpoint["model_state"] |= {
        "encoder.final_block.0.weight": weight,
        "encoder.final_block.0.bias": torch.zeros(8192),
        "dictionary._weights": weight.flip(0).contiguous(),
    }
    checkpoint["optimizer_state"]["state"] = {
        i: {"exp_avg": torch.zeros(8192, 1024), "exp_avg_sq": torch.zeros(8192, 1024)} for i in range(2)
    }
    torch.save(checkpoint, tmp_path / "big.pt")
    code = (
        "import sys, torch, resource\n"
        "from analysis.sae.checkpoint import import_checkpoint\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "sae = import_checkpoint(sys.argv[1])\n"
        "print(sae.dictionary.shape, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big.pt")], capture_output=True, text=True, check=True
    ).stdout
    extra_mib = int(out.split()[-1]) / 1024  # Linux counts ru_maxrss in KiB
    assert "(8192, 1024)" in out
    assert extra_mib < 6 * 32 + 40  # two mapped matrices, two copies, one of them normalised; the file holds 192


def test_state_dict_shares_memory_with_the_sae():
    sae = small_sae()
    tensor = to_overcomplete_state_dict(sae)["dictionary._weights"]
    assert tensor.data_ptr() == sae.dictionary.ctypes.data


def _saved(content, path):
    torch.save(content, path)
    return path
