"""Every format and variant: the codes are those of the tool's own encode, the reconstructions those of its decode."""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.errors import CheckpointError
from analysis.sae.checkpoint import Sae, import_checkpoint, load_sae, save_sae
from analysis.sae.encode import decode, encode
from analysis.sae.export import export_overcomplete, export_saelens
from tests.sae import needs_overcomplete
from tests.sae.foreign import CASES, TOP_K, Case, D, K, Parts, tensors

X = np.random.default_rng(9).standard_normal((400, D)).astype(np.float32) * 2


def same(sae: Sae, theirs: np.ndarray, reconstruction: np.ndarray) -> None:
    """On every path of encode: few rows, compiled, a device."""
    norms = np.ones(sae.n_concepts) if sae.norms is None else sae.norms
    for rows, device in ((slice(None), "cpu"), (slice(0, 20), "cpu"), (slice(None), "cpu:0")):
        codes = encode(sae, X[rows], device=device)
        np.testing.assert_allclose(codes.to_csr().toarray() / norms, theirs[rows], atol=2e-5)
        np.testing.assert_allclose(decode(sae, codes), reconstruction[rows], atol=1e-4)
        assert (np.diff(codes.values, axis=1) <= 0).all()


def message(path: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_codes_and_reconstructions_are_the_tool_s_own(case: Case, tmp_path: Path) -> None:
    sae = import_checkpoint(case.write(tmp_path), backbone_width=D, **case.options)
    theirs = case.codes(X)
    assert 0 < np.count_nonzero(theirs) < theirs.size
    same(sae, theirs, case.reconstruction(theirs))
    assert sae.rule == case.rule
    np.testing.assert_allclose(np.linalg.norm(sae.dictionary, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_was_imported_is_saved_and_exported_without_loss(case: Case, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    sae = import_checkpoint(case.write(tmp_path / "theirs"), **case.options)
    save_sae(sae, tmp_path / "ours")
    loaded = load_sae(tmp_path / "ours")
    assert (loaded.sha256, loaded.rule) == (sae.sha256, sae.rule)
    export_saelens(sae, tmp_path / "lens")
    again = import_checkpoint(tmp_path / "lens", top_k=sae.top_k)
    expected, found = encode(sae, X), encode(again, X)
    np.testing.assert_allclose(found.to_csr().toarray(), expected.to_csr().toarray(), atol=1e-4)
    np.testing.assert_allclose(decode(again, found), decode(sae, expected), atol=1e-4)
    with pytest.raises(CheckpointError, match="decoder bias"):
        export_overcomplete(sae, tmp_path / "x.pt")


def overcomplete_models() -> dict[str, Any]:
    """overcomplete's own classes in eval mode, beside the options that its state dict needs."""
    needs_overcomplete()
    from overcomplete.sae import SAE, BatchTopKSAE, JumpSAE, RAJumpSAE, RATopKSAE, TopKSAE  # 8 seconds, hence here

    torch.manual_seed(0)
    points = torch.randn(60, D) * 2
    models: dict[str, tuple[Any, dict[str, Any]]] = {
        "TopK": (TopKSAE(D, nb_concepts=K, top_k=TOP_K), {"top_k": TOP_K}),
        "TopK with a multiplier": (
            TopKSAE(D, nb_concepts=K, top_k=TOP_K, dictionary_params={"use_multiplier": True}),
            {"top_k": TOP_K},
        ),
        "TopK, tied": (TopKSAE(D, nb_concepts=K, top_k=TOP_K).tied(bias=True), {"top_k": TOP_K}),
        "TopK, untied": (TopKSAE(D, nb_concepts=K, top_k=TOP_K).untied(), {"top_k": TOP_K}),
        "BatchTopK": (BatchTopKSAE(D, nb_concepts=K, top_k=TOP_K * len(X)), {"top_k": K, "rule": "batch-topk"}),
        "Jump": (JumpSAE(D, nb_concepts=K), {"top_k": K}),
        "SAE": (SAE(D, nb_concepts=K), {"top_k": K, "rule": "relu"}),
        "RATopK": (RATopKSAE(D, nb_concepts=K, points=points, top_k=TOP_K, delta=1.0), {"top_k": TOP_K}),
        "RATopK, delta 3": (
            RATopKSAE(D, nb_concepts=K, points=points, top_k=TOP_K, delta=3.0),
            {"top_k": TOP_K, "delta": 3.0},
        ),
        "RAJump": (RAJumpSAE(D, nb_concepts=K, points=points), {"top_k": K}),
    }
    for model, options in models.values():
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(
                    torch.randn_like(parameter) * (0.4 if "multiplier" in name or "thresholds" in name else 1)
                )
            if isinstance(model, BatchTopKSAE):
                model.encode(torch.from_numpy(X))
                options["threshold"] = float(model.running_threshold)
        model.eval()
    return models


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return overcomplete_models()


VARIANTS = (
    "TopK",
    "TopK with a multiplier",
    "TopK, tied",
    "TopK, untied",
    "BatchTopK",
    "Jump",
    "SAE",
    "RATopK",
    "RATopK, delta 3",
    "RAJump",
)


@pytest.mark.parametrize("name", VARIANTS)
def test_overcomplete_s_own_classes(models: dict[str, Any], name: str, tmp_path: Path) -> None:
    model, options = models[name]
    with torch.no_grad():
        theirs = model.encode(torch.from_numpy(X))[1]
        reconstruction = model.decode(theirs).numpy()
    assert 0 < theirs.count_nonzero() < theirs.numel()
    torch.save(model.state_dict(), tmp_path / "s.pt")
    sae = import_checkpoint(tmp_path / "s.pt", **options)
    same(sae, theirs.numpy(), reconstruction)
    if name == "RATopK, delta 3":  # without it, the library's default of 1 cuts, and that is said
        plain = import_checkpoint(tmp_path / "s.pt", top_k=TOP_K)
        assert any("--delta" in note for note in plain.meta["notes"])
    if name.startswith("RATopK"):
        with pytest.raises(CheckpointError, match="lengths"):
            export_overcomplete(sae, tmp_path / "x.pt")
        return
    back = export_overcomplete(sae, tmp_path / "back.pt")
    again = _load_into_overcomplete(back.constructor, torch.load(tmp_path / "back.pt", weights_only=True))
    with torch.no_grad():
        codes = again.encode(torch.from_numpy(X))[1]
        np.testing.assert_allclose(
            codes.numpy(), encode(sae, X).to_csr().toarray(), atol=1e-4
        ) if sae.norms is None else None
        np.testing.assert_allclose(again.decode(codes).numpy(), reconstruction, atol=1e-4)


def _load_into_overcomplete(constructor: str, state: dict[str, torch.Tensor]) -> Any:
    needs_overcomplete()
    import overcomplete.sae as library

    kind, arguments = constructor.rstrip(")").split("(")
    width, *named = arguments.split(", ")
    model = getattr(library, kind)(
        int(width), **{key: int(value) for key, value in (part.split("=") for part in named)}
    )
    model.load_state_dict(state)
    return model.eval()


def plain_state() -> dict[str, torch.Tensor]:
    p = Parts(11)
    return tensors(
        encoder__final_block__0__weight=p.weight,
        encoder__final_block__0__bias=p.bias,
        dictionary___weights=p.decoder,
        dictionary__multiplier=np.float32(0),
    )


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.sae.", "sae.module._orig_mod."],
)
def test_prefixes_of_wrappers_come_off_in_any_order(prefix: str, tmp_path: Path) -> None:
    expected = import_checkpoint(_saved(plain_state(), tmp_path / "a.pt"), top_k=4).sha256
    wrapped = {prefix + key: value for key, value in plain_state().items()}
    assert import_checkpoint(_saved(wrapped, tmp_path / "b.pt"), top_k=4).sha256 == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_any_float_type_is_read_in_either_container(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {key: value.to(dtype) for key, value in plain_state().items()}
    path = tmp_path / f"s{suffix}"
    write = save_file if suffix == ".safetensors" else torch.save
    write(state, path)
    rounded = import_checkpoint(path, top_k=4)
    np.testing.assert_array_equal(rounded.encoder_weight, state["encoder.final_block.0.weight"].float().numpy())


@pytest.mark.parametrize(
    "key", ["model_state", "model_state_dict", "state_dict", "model", "sae", "weights_of_anything"]
)
def test_training_checkpoints_with_numbers_paths_and_settings_are_read(key: str, tmp_path: Path) -> None:
    checkpoint = {
        "epoch": np.int64(3),
        "best_loss": np.float64(0.5),
        "lr": np.float32(1e-3),
        "history": np.arange(6.0).reshape(2, 3),
        "args": argparse.Namespace(top_k=7, out=Path("runs/x")),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "logs": {"loss": [np.float64(2.0), np.float32(1.0)]},
        key: plain_state(),
    }
    sae = import_checkpoint(_saved(checkpoint, tmp_path / "c.pt"))
    assert (sae.top_k, sae.meta["top_k_source"], sae.meta["epoch"]) == (7, "checkpoint", 3)
    assert sae.meta["training_curve"] == {"loss": [2.0, 1.0]}


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_paths_of_another_python_are_read(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13 saves pathlib._local.PosixPath, all others pathlib.PosixPath; each reads the other's files."""
    named = types.ModuleType(module)
    named.PosixPath = type(
        "PosixPath", (), {"__module__": module, "__reduce__": lambda self: (type(self), ("runs", "x"))}
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module, named)
        path = _saved({"out": named.PosixPath(), "state_dict": plain_state()}, tmp_path / "c.pt")
    assert (
        import_checkpoint(path, top_k=4).n_concepts
        == import_checkpoint(_saved(plain_state(), tmp_path / "t.pt"), top_k=4).n_concepts
    )


def test_numpy_arrays_in_place_of_tensors_are_read(tmp_path: Path) -> None:
    state = {key: np.asfortranarray(value.numpy()) for key, value in plain_state().items()}
    assert (
        import_checkpoint(_saved(state, tmp_path / "n.pt"), top_k=4).sha256
        == import_checkpoint(_saved(plain_state(), tmp_path / "t.pt"), top_k=4).sha256
    )


def test_an_object_array_is_not_unpickled(tmp_path: Path) -> None:
    """NumPy would unpickle what lies in it; the stand-in does not look."""
    assert "weight" in message(
        _saved({**plain_state(), "encoder.final_block.0.weight": np.array([{}], object)}, tmp_path / "o.pt"), top_k=4
    )


def test_batch_top_k_of_overcomplete_is_asked_for_and_never_passed_over(tmp_path: Path) -> None:
    path = _saved(plain_state(), tmp_path / "b.pt")
    silent = import_checkpoint(path, top_k=4)
    assert any("BatchTopKSAE" in note and "--rule batch-topk" in note for note in silent.meta["notes"])
    assert not import_checkpoint(path, top_k=4, rule="top-k").meta["notes"]
    assert "--threshold" in message(path, rule="batch-topk")
    assert "--sample" in message(path, rule="batch-topk", l0=5)
    counted = message(_saved({"state": plain_state(), "top_k": 9000}, tmp_path / "c.pt"))
    assert "9000" in counted
    assert "--rule batch-topk" in counted
    assert "positive" in message(path, rule="batch-topk", threshold=-1.0)
    assert import_checkpoint(path, threshold=1.5).rule == "threshold"


@pytest.mark.parametrize("l0", [0.5, 3, 11])
def test_a_threshold_is_found_at_the_l0_that_was_asked_for(l0: float, tmp_path: Path) -> None:
    path = _saved(plain_state(), tmp_path / "b.pt")
    sae = import_checkpoint(path, rule="batch-topk", l0=l0, sample=lambda: X, top_k=K)
    assert np.count_nonzero(encode(sae, X).values) == round(l0 * len(X))
    assert any(f"{l0:g} concepts" in note for note in sae.meta["notes"])
    held = import_checkpoint(path, rule="batch-topk", l0=l0, sample=lambda: X)
    assert held.top_k == int(np.ceil(4 * l0))
    assert any("cuts" in note for note in held.meta["notes"])
    assert "cannot be reached" in message(path, rule="batch-topk", l0=K, sample=lambda: X)
    assert f"({len(X)}, {D - 1})" in message(path, rule="batch-topk", l0=l0, sample=lambda: X[:, 1:])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"architecture": "transcoder"}, "another layer"),
        ({"architecture": "jumprelu_skip_transcoder"}, "another layer"),
        ({"architecture": "abstopk", "k": 3}, "signs"),
        ({"architecture": "matching_pursuit"}, "step by step"),
        ({"architecture": "temporal"}, "tokens before"),
        ({"architecture": "lista"}, "lista"),
        ({"architecture": "topk"}, "--top-k"),
        ({"architecture": "batchtopk", "k": 3}, "--threshold"),
        ({"architecture": "jumprelu"}, "threshold"),
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
        ({"normalize_activations": "constant_norm_rescale"}, "length"),
        ({"normalize_activations": "covariance_whitening"}, "whitening"),
        ({"normalize_activations": "expected_average_only_in"}, "activation_scaler.json"),
        ({"activation_fn_str": "tanh-relu"}, "tanh-relu"),
    ],
)
def test_what_saelens_has_and_the_inner_form_has_not_is_refused(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = next(case for case in CASES if case.name == "SAELens standard").write(tmp_path)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**config, **change}))
    assert reason in message(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"transcode": True}, "transcoder"),
        ({"skip_connection": True}, "skip"),
        ({"activation": "groupmax"}, "groupmax"),
        (None, "cfg.json"),
    ],
)
def test_what_sparsify_has_and_the_inner_form_has_not_is_refused(change: Any, reason: str, tmp_path: Path) -> None:
    folder = next(case for case in CASES if case.name == "sparsify topk").write(tmp_path)
    config = json.loads((folder / "cfg.json").read_text())
    if change is None:
        (folder / "cfg.json").unlink()
    else:
        (folder / "cfg.json").write_text(json.dumps({**config, **change}))
    assert reason in message(folder)


def test_ambiguous_signed_and_quantised_files_say_what_they_are(tmp_path: Path) -> None:
    p = Parts()
    twins = next(case for case in CASES if case.name.endswith("AutoEncoderTopK without config.json")).write(tmp_path)
    assert "--rule batch-topk" in message(twins)
    (tmp_path / "config.json").write_text('{"trainer": {"dict_class": "CrossCoder"}}')
    assert "CrossCoder" in message(twins)
    (tmp_path / "config.json").write_text('{"trainer": {"dict_class": "BatchTopKSAE"}}')
    assert "--rule" in message(twins, rule="top-k")
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in message(twins)
    (tmp_path / "config.json").unlink()
    pursuit = tensors(dictionary___weights=p.decoder, dictionary__multiplier=np.float32(0))
    assert "signs" in message(_saved(pursuit, tmp_path / "mp.pt"))
    assert "quantised" in message(_saved({**plain_state(), "Q": torch.linspace(0, 1, 4)}, tmp_path / "q.pt"))
    quantised = {**plain_state()}
    quantised["encoder.final_block.0.weight"] = torch.quantize_per_tensor(torch.randn(K, D), 0.1, 0, torch.qint8)
    assert "quantised" in message(_saved(quantised, tmp_path / "q8.pt"), top_k=3)
    assert "known layout" in message(_saved({"lm_head.weight": torch.zeros(3, 4)}, tmp_path / "lm.pt"))
    three = next(case for case in CASES if case.name == "dictionary_learning AutoEncoder").write(tmp_path)
    state = torch.load(three, weights_only=True)
    assert "dimensions" in message(_saved({**state, "encoder.weight": torch.zeros(2, K, D)}, three))


def test_folders_pointers_and_web_pages(tmp_path: Path) -> None:
    assert "no checkpoint" in message(tmp_path)
    for layer in ("layers.3", "layers.4"):
        (tmp_path / layer).mkdir()
        next(case for case in CASES if case.name == "sparsify topk").write(tmp_path / layer)
    assert "layers.3, layers.4" in message(tmp_path)
    assert import_checkpoint(tmp_path / "layers.4").top_k == TOP_K
    _saved(plain_state(), tmp_path / "one.pt")
    assert import_checkpoint(tmp_path, top_k=3).n_concepts == K
    _saved(plain_state(), tmp_path / "two.pt")
    assert "one.pt, two.pt" in message(tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 29380000\n"
    for name in ("p.pt", "p.safetensors"):
        (tmp_path / name).write_text(pointer)
        assert "git lfs pull" in message(tmp_path / name)
        assert "29 MB" in message(tmp_path / name)
    (tmp_path / "w.pt").write_text("<!DOCTYPE html><html></html>")
    assert "web page" in message(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("sae-bf16-safetensors/sae_bf16.safetensors", {"top_k": 50}),
        ("sae-dictionary-learning/ae.pt", {"top_k": 8}),
        ("sae-dictionary-learning", {"top_k": 8}),
        ("sae-numpy-scalar/sae_np.pt", {"top_k": 8}),
        ("sae-whole-module/sae_module.pt", "state_dict"),
        ("lfs-pointer/sae_clip.pt", "git lfs pull"),
    ],
)
def test_files_that_people_have(case: str, expected: Any) -> None:
    path = Path(__file__).parents[2].parent / "shared" / "cases" / case
    if not path.exists():
        pytest.skip("the folder of cases is not beside the repository")
    if isinstance(expected, str):
        assert expected in message(path)
    else:
        assert import_checkpoint(path, backbone_width=128).top_k == expected["top_k"]


def _saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def _four_tensors(k=48, d=32):
    generator = torch.Generator().manual_seed(0)
    weight, atoms = (torch.randn(k, d, generator=generator) for _ in range(2))
    return {
        "encoder.final_block.0.weight": weight,
        "encoder.final_block.0.bias": torch.zeros(k),
        "dictionary._weights": atoms / atoms.norm(dim=1, keepdim=True),
        "dictionary.multiplier": torch.tensor(0.0),
    }


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {f"net.{key}": value for key, value in state.items()},
        lambda state: {"model": {f"ema_model.module.{key}": value for key, value in state.items()}},
        lambda state: {"a": {"b": {"c": state}}},
    ],
    ids=["any name before", "an average of a model", "deep inside"],
)
def test_an_sae_is_found_under_any_wrapper(tmp_path, wrapped):
    state, file = _four_tensors(), tmp_path / "sae.pt"
    torch.save(wrapped(state), file)
    found = import_checkpoint(file, top_k=8)
    np.testing.assert_array_equal(found.encoder_weight, state["encoder.final_block.0.weight"].numpy())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda state: {"layer_1": state, "layer_2": state}, r"holds 2 SAEs \(layer_1, layer_2\); save the one"),
        (lambda state: {k: (10 * v).to(torch.int8) for k, v in state.items()}, "whole numbers .int8., as quantised"),
        (lambda state: state, "the paper's 50 are more than its 48 concepts; give --top-k"),
    ],
)
def test_what_would_be_a_guess_is_asked(tmp_path, content, reason):
    torch.save(content(_four_tensors()), tmp_path / "sae.pt")
    with pytest.raises(CheckpointError, match=reason):
        import_checkpoint(tmp_path / "sae.pt")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("params.npz", b"PK", "NumPy arrays; SAEs are read from .pt and .safetensors"),
        ("sae.tar.gz", b"\x1f\x8b" + b"\0" * 50, "is packed; unpack it"),
        ("model-00001-of-00002.safetensors", b"\0" * 50, "one of 2 shards"),
    ],
)
def test_files_of_other_kinds_get_their_next_step(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=reason):
        import_checkpoint(tmp_path / name)
