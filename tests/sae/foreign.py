"""Checkpoints of other tools as they write them, each with the tool's own encode and decode as an independent oracle.

overcomplete is installed and is its own oracle. The others would bring their own transformers and numpy; their formulas are
written out here in float64 from the source that each docstring names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

K, D, TOP_K = 48, 12, 6


@dataclass(frozen=True)
class Case:
    """write(folder) -> what to import; codes(x), reconstruction(z): the tool's own, float64; options of the import."""

    name: str
    write: Callable[[Path], Path]
    codes: Callable[[np.ndarray], np.ndarray]
    reconstruction: Callable[[np.ndarray], np.ndarray]
    options: dict[str, Any]
    rule: str


class Parts:
    """Random tensors (K, D) with decoder rows of length 1, or of various lengths."""

    def __init__(self, seed: int = 0, *, unit: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.weight = rng.standard_normal((K, D)).astype(np.float32)
        self.bias = (rng.standard_normal(K) * 0.3).astype(np.float32)
        self.decoder = rng.standard_normal((K, D)).astype(np.float32)
        self.decoder /= np.linalg.norm(self.decoder, axis=1, keepdims=True)
        if not unit:
            self.decoder *= rng.uniform(0.3, 3, (K, 1)).astype(np.float32)
        self.b_dec = rng.standard_normal(D).astype(np.float32)
        self.threshold = rng.uniform(0.5, 3, K).astype(np.float32)
        self.gate, self.magnitude = rng.standard_normal((2, K)).astype(np.float32)
        self.r_mag = (rng.standard_normal(K) * 0.5).astype(np.float32)

    def scores(self, x: np.ndarray, *, shifted: bool) -> np.ndarray:
        return (x.astype(np.float64) - (self.b_dec if shifted else 0)) @ self.weight.T.astype(np.float64) + self.bias

    def out(self, z: np.ndarray) -> np.ndarray:
        return z @ self.decoder.astype(np.float64) + self.b_dec


def top(z: np.ndarray, k: int = TOP_K) -> np.ndarray:
    edge = np.sort(z, axis=1)[:, -k][:, None]
    return np.where(z >= edge, np.maximum(z, 0), 0)


def over(z: np.ndarray, threshold: Any) -> np.ndarray:
    return np.where(z > threshold, np.maximum(z, 0), 0)


def tensors(**arrays: Any) -> dict[str, torch.Tensor]:
    return {name.replace("__", "."): torch.as_tensor(np.array(value)) for name, value in arrays.items()}


def dictionary_learning_cases() -> list[Case]:
    """saprmarks/dictionary_learning 0.1.0: dictionary.py, trainers/top_k.py, batch_top_k.py, matryoshka_batch_top_k.py."""
    p, wide = Parts(1), Parts(2, unit=False)

    def linear(parts: Parts, **more: Any) -> dict[str, torch.Tensor]:
        return tensors(encoder__weight=parts.weight, encoder__bias=parts.bias, decoder__weight=parts.decoder.T, **more)

    def writer(kind: str | None, state: dict[str, torch.Tensor], k: int = TOP_K) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            torch.save(state, folder / "ae.pt")
            if kind:
                trainer = {"dict_class": kind, "k": k, "activation_dim": D, "dict_size": K, "layer": 3, "lm_name": "m"}
                (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
            return folder / "ae.pt"

        return write

    buffers = {"b_dec": p.b_dec, "k": TOP_K, "threshold": np.float32(1.7)}
    plain = tensors(W_enc=p.weight.T, b_enc=p.bias, W_dec=p.decoder, b_dec=p.b_dec)
    gated = tensors(
        encoder__weight=wide.weight,
        decoder__weight=wide.decoder.T,
        decoder_bias=wide.b_dec,
        r_mag=wide.r_mag,
        gate_bias=wide.gate,
        mag_bias=wide.magnitude,
    )

    def gated_codes(x: np.ndarray) -> np.ndarray:
        pre = (x.astype(np.float64) - wide.b_dec) @ wide.weight.T.astype(np.float64)
        return (pre + wide.gate > 0) * np.maximum(np.exp(wide.r_mag.astype(np.float64)) * pre + wide.magnitude, 0)

    def shifted(x: np.ndarray) -> np.ndarray:
        return p.scores(x, shifted=True)

    groups = {"group_sizes": torch.tensor([16, 32]), "k": torch.tensor(TOP_K), "threshold": torch.tensor(1.7)}
    name = "dictionary_learning"
    all_of = {"top_k": K}
    return [
        Case(
            f"{name} AutoEncoder",
            writer("AutoEncoder", linear(p, bias=p.b_dec)),
            lambda x: over(shifted(x), 0),
            p.out,
            all_of,
            "relu",
        ),
        Case(
            f"{name} AutoEncoder without config.json",
            writer(None, linear(p, bias=p.b_dec)),
            lambda x: over(shifted(x), 0),
            p.out,
            all_of,
            "relu",
        ),
        Case(
            f"{name} AutoEncoderNew",
            writer("AutoEncoderNew", linear(wide, decoder__bias=wide.b_dec)),
            lambda x: over(wide.scores(x, shifted=False), 0),
            wide.out,
            all_of,
            "relu",
        ),
        Case(
            f"{name} AutoEncoderTopK",
            writer("AutoEncoderTopK", linear(p, **buffers)),
            lambda x: top(shifted(x)),
            p.out,
            {},
            "top_k",
        ),
        Case(
            f"{name} AutoEncoderTopK without config.json",
            writer(None, linear(p, **buffers)),
            lambda x: top(shifted(x)),
            p.out,
            {"rule": "top-k"},
            "top_k",
        ),
        Case(
            f"{name} BatchTopKSAE",
            writer("BatchTopKSAE", linear(p, **buffers)),
            lambda x: over(shifted(x), 1.7),
            p.out,
            all_of,
            "threshold",
        ),
        Case(
            f"{name} BatchTopKSAE without config.json",
            writer(None, linear(p, **buffers)),
            lambda x: over(shifted(x), 1.7),
            p.out,
            {"rule": "batch-topk", **all_of},
            "threshold",
        ),
        Case(
            f"{name} BatchTopKSAE, threshold never set",
            writer("BatchTopKSAE", linear(p, **{**buffers, "threshold": np.float32(-1)})),
            lambda x: over(shifted(x), 0),
            p.out,
            all_of,
            "relu",
        ),
        Case(
            f"{name} MatryoshkaBatchTopKSAE",
            writer("MatryoshkaBatchTopKSAE", plain | groups),
            lambda x: over(shifted(x), 1.7),
            p.out,
            all_of,
            "threshold",
        ),
        Case(
            f"{name} MatroyshkaBatchTopKSAE (older spelling)",
            writer("MatroyshkaBatchTopKSAE", plain | groups),
            lambda x: over(shifted(x), 1.7),
            p.out,
            all_of,
            "threshold",
        ),
        Case(
            f"{name} JumpReluAutoEncoder",
            writer("JumpReluAutoEncoder", plain | tensors(threshold=p.threshold)),
            lambda x: over(p.scores(x, shifted=False), p.threshold),
            p.out,
            all_of,
            "threshold",
        ),
        Case(f"{name} GatedAutoEncoder", writer("GatedAutoEncoder", gated), gated_codes, wide.out, all_of, "gated"),
    ]


def saelens_cases() -> list[Case]:
    """sae-lens 6.54.12: saes/{standard,topk,jumprelu,gated,batchtopk}_sae.py; keys before 6 from loading/."""
    from safetensors.torch import save_file

    p, wide = Parts(3), Parts(4, unit=False)

    def state(parts: Parts, **more: Any) -> dict[str, torch.Tensor]:
        return tensors(W_enc=parts.weight.T, b_enc=parts.bias, W_dec=parts.decoder, b_dec=parts.b_dec, **more)

    def writer(found: dict[str, torch.Tensor], scaler: float | None = None, **config: Any) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            save_file({key: value.contiguous() for key, value in found.items()}, folder / "sae_weights.safetensors")
            facts = {"d_in": D, "d_sae": K, "dtype": "float32", "metadata": {"sae_lens_version": "6.54.12"}}
            (folder / "cfg.json").write_text(json.dumps({**facts, **config}))
            if scaler is not None:
                (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scaler}))
            return folder

        return write

    norms = np.linalg.norm(wide.decoder.astype(np.float64), axis=1)

    def gated_codes(x: np.ndarray) -> np.ndarray:
        pre = x.astype(np.float64) @ p.weight.T.astype(np.float64)
        return (pre + p.gate > 0) * np.maximum(pre * np.exp(p.r_mag.astype(np.float64)) + p.magnitude, 0)

    gated = state(p, b_gate=p.gate, b_mag=p.magnitude, r_mag=p.r_mag)
    del gated["b_enc"]
    old: dict[str, Any] = {"hook_point": "blocks.3.hook_resid_post", "normalize_activations": False, "metadata": {}}
    off: dict[str, Any] = {"apply_b_dec_to_input": False}
    every, name = {"top_k": K}, "SAELens"
    scale = 2.5
    return [
        Case(
            f"{name} standard",
            writer(state(wide), architecture="standard"),
            lambda x: over(wide.scores(x, shifted=True), 0),
            wide.out,
            every,
            "relu",
        ),
        Case(
            f"{name} standard, b_dec not subtracted",
            writer(state(p), architecture="standard", **off),
            lambda x: over(p.scores(x, shifted=False), 0),
            p.out,
            every,
            "relu",
        ),
        Case(
            f"{name} topk",
            writer(state(p), architecture="topk", k=TOP_K),
            lambda x: top(p.scores(x, shifted=True)),
            p.out,
            {},
            "top_k",
        ),
        Case(
            f"{name} topk, decoder rows not unit",
            writer(state(wide), architecture="topk", k=TOP_K),
            lambda x: top(wide.scores(x, shifted=True)),
            wide.out,
            {},
            "top_k",
        ),
        Case(
            f"{name} topk, rescale_acts_by_decoder_norm",
            writer(state(wide), architecture="topk", k=TOP_K, rescale_acts_by_decoder_norm=True),
            lambda x: top(wide.scores(x, shifted=True) * norms),
            lambda z: wide.out(z / norms),
            {},
            "top_k",
        ),
        Case(
            f"{name} jumprelu",
            writer(state(wide, threshold=wide.threshold), architecture="jumprelu", **off),
            lambda x: over(wide.scores(x, shifted=False), wide.threshold),
            wide.out,
            every,
            "threshold",
        ),
        Case(
            f"{name} batchtopk, training checkpoint",
            writer(state(p, topk_threshold=np.float32(1.3)), architecture="batchtopk", k=TOP_K, **off),
            lambda x: over(p.scores(x, shifted=False), 1.3),
            p.out,
            every,
            "threshold",
        ),
        Case(f"{name} gated", writer(gated, architecture="gated", **off), gated_codes, p.out, every, "gated"),
        Case(
            f"{name} before 6, topk",
            writer(state(p), activation_fn_str="topk", activation_fn_kwargs={"k": TOP_K}, **old),
            lambda x: top(p.scores(x, shifted=True)),
            p.out,
            {},
            "top_k",
        ),
        Case(
            f"{name} before 6, relu",
            writer(state(p), activation_fn_str="relu", **old),
            lambda x: over(p.scores(x, shifted=True), 0),
            p.out,
            every,
            "relu",
        ),
        Case(
            f"{name} input scaled by one factor",
            writer(state(p), scaler=scale, architecture="standard", normalize_activations="expected_average_only_in"),
            lambda x: over(p.scores(x * scale, shifted=True), 0),
            lambda z: p.out(z) / scale,
            every,
            "relu",
        ),
    ]


def sparsify_cases() -> list[Case]:
    """eai-sparsify 1.3.3: sparse_coder.py, fused_encoder.py (relu, then the k largest)."""
    from safetensors.torch import save_file

    def writer(parts: Parts, *, transposed: bool = False) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            decoder = parts.decoder.T if transposed else parts.decoder
            found = tensors(encoder__weight=parts.weight, encoder__bias=parts.bias, W_dec=decoder, b_dec=parts.b_dec)
            save_file({key: value.contiguous() for key, value in found.items()}, folder / "sae.safetensors")
            facts = {"d_in": D, "k": TOP_K, "num_latents": K, "activation": "topk", "transcode": False}
            (folder / "cfg.json").write_text(json.dumps({**facts, "skip_connection": False, "normalize_decoder": True}))
            return folder

        return write

    p, wide = Parts(5), Parts(6, unit=False)
    return [
        Case("sparsify topk", writer(p), lambda x: top(p.scores(x, shifted=True)), p.out, {}, "top_k"),
        Case(
            "sparsify topk, decoder rows not unit",
            writer(wide),
            lambda x: top(wide.scores(x, shifted=True)),
            wide.out,
            {},
            "top_k",
        ),
        Case(
            "sparsify topk, W_dec transposed",
            writer(p, transposed=True),
            lambda x: top(p.scores(x, shifted=True)),
            p.out,
            {},
            "top_k",
        ),
    ]


def saev_cases() -> list[Case]:
    """OSU-NLP-Group/saev schema 5: nn/modeling.py (b_dec is not subtracted; BatchTopK keeps x > threshold)."""

    def writer(parts: Parts, kind: str, schema: int = 5, **more: Any) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            activation = {"cls": kind, "params": {"top_k": TOP_K} if "TopK" in kind else {}}
            header = {
                "schema": schema,
                "cfg": {"d_model": D, "d_sae": K, "activation": activation},
                "commit": "",
                "lib": "",
            }
            state = tensors(W_enc=parts.weight.T, b_enc=parts.bias, W_dec=parts.decoder, b_dec=parts.b_dec, **more)
            with (folder / "sae.pt").open("wb") as handle:
                handle.write(json.dumps(header).encode() + b"\n")
                torch.save(state, handle)
            return folder / "sae.pt"

        return write

    p = Parts(7)

    def scores(x: np.ndarray) -> np.ndarray:
        return p.scores(x, shifted=False)

    least: dict[str, Any] = {"activation__threshold": np.float32(1.9)}
    return [
        Case("saev Relu", writer(p, "Relu"), lambda x: over(scores(x), 0), p.out, {"top_k": K}, "relu"),
        Case("saev TopK", writer(p, "TopK"), lambda x: top(scores(x)), p.out, {}, "top_k"),
        Case(
            "saev BatchTopK",
            writer(p, "BatchTopK", **least),
            lambda x: over(scores(x), 1.9),
            p.out,
            {"top_k": K},
            "threshold",
        ),
        Case("saev TopK, schema 2", writer(p, "TopK", 2), lambda x: top(scores(x)), p.out, {}, "top_k"),
    ]


CASES = [*dictionary_learning_cases(), *saelens_cases(), *sparsify_cases(), *saev_cases()]
