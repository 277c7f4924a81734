"""SAELens (sae-lens 6.54, and the keys it had before 6): a folder with cfg.json and sae_weights.safetensors.

z = rule((s h - [apply_b_dec_to_input] b_dec) W_enc + b_enc), h_hat = (z W_dec + b_dec) / s, s from the scaling of inputs.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from analysis.errors import CheckpointError
from analysis.sae.form import GATED, RELU, THRESHOLD, TOP_K, row_norms
from analysis.sae.formats.dictionary_learning import fold_gate
from analysis.sae.formats.files import Checkpoint
from analysis.sae.formats.found import Foreign, Tensors, above, array, missing, number, oriented, whole

TOOL = "SAELens"
SCALER = "activation_scaler.json"
REFUSED = {
    "transcoder": "it predicts another layer than it reads",
    "crosscoder": "it reads several layers at once",
    "temporal": "its codes depend on the tokens before",
    "abstopk": "its codes have signs, which codes here cannot hold",
    "matching_pursuit": "its codes are found step by step and not by one linear encoder",
}
PER_VECTOR = {
    "layer_norm": "every vector is centred and scaled by its own values",
    "constant_norm_rescale": "every vector is scaled by its own length",
    "covariance_whitening": "the whitening is not folded into the weights",
}


def recognises(tensors: Tensors, _: Checkpoint) -> bool:
    return "W_enc" in tensors and "W_dec" in tensors


def read(tensors: Tensors, checkpoint: Checkpoint, *, rule: str | None, delta: float | None) -> Foreign:
    name, config = checkpoint.name, _modern(checkpoint.config)
    if not config:
        raise CheckpointError(
            f"cfg.json is not beside {name}, and it says whether b_dec is subtracted from the input and what limits the "
            "codes: copy both files."
        )
    architecture = _architecture(name, config, tensors)
    missing(name, tensors, ("b_dec", *(() if architecture == GATED else ("b_enc",))), TOOL)
    out = array(name, tensors, "b_dec", ndim=1)
    weight = oriented(array(name, tensors, "W_enc", ndim=2).T, _size(config, tensors))
    dictionary = oriented(array(name, tensors, "W_dec", ndim=2), len(weight))
    shift = out if config.get("apply_b_dec_to_input", True) else np.zeros_like(out)
    found: dict[str, Any] = {"meta": {"encoder": architecture}}
    if architecture == GATED:
        missing(name, tensors, ("b_gate", "b_mag", "r_mag"), TOOL)
        gate, bias, r_mag = (array(name, tensors, key, ndim=1) for key in ("b_gate", "b_mag", "r_mag"))
        weight, threshold = fold_gate(weight, np.exp(r_mag), gate, bias)
        found |= {"rule": GATED, "threshold": threshold}
    else:
        bias = array(name, tensors, "b_enc", ndim=1)
        found |= _rule(name, architecture, config, tensors)
    bias = bias - weight @ shift
    if config.get("rescale_acts_by_decoder_norm") and "topk" in architecture:  # it selects among scaled scores
        norms = row_norms(dictionary).astype(np.float32)
        weight, bias, dictionary = weight * norms[:, None], bias * norms, dictionary / np.maximum(norms, 1e-8)[:, None]
    scale = _input_scale(checkpoint, config)
    return Foreign(TOOL, weight * np.float32(scale), bias, dictionary, bias=out / scale, scale=1 / scale, **found)


def _architecture(name: str, config: dict[str, Any], tensors: Tensors) -> str:
    architecture = str(config.get("architecture", "standard")).lower()
    for word, reason in REFUSED.items():
        if word in architecture:
            raise CheckpointError(f"{name} is a {architecture} of SAELens, which cannot be read: {reason}.")
    factor = tensors.get("scaling_factor", tensors.get("finetuning_scaling_factor"))
    if factor is not None and not np.allclose(array(name, {"s": factor}, "s", ndim=1), 1):
        raise CheckpointError(
            f"{name} has a finetuning scaling factor, which SAELens 6 no longer applies; fold it there."
        )
    activation = str(config.get("activation_fn") or "relu")
    if activation not in ("relu", "topk"):
        raise CheckpointError(f"{name} has the activation {activation!r}; relu and topk are read.")
    return architecture


def _rule(name: str, architecture: str, config: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    top_k = whole(config.get("k"))
    if architecture == "topk":
        return {"rule": TOP_K, "top_k": top_k}
    if "topk_threshold" in tensors:  # a training checkpoint of BatchTopK; as saved for inference it is jumprelu
        return {"rule": THRESHOLD, "threshold": above(number(tensors["topk_threshold"]) or 0.0), "top_k": top_k}
    if architecture == "jumprelu":
        if "log_threshold" in tensors:
            return {"rule": THRESHOLD, "threshold": above(np.exp(array(name, tensors, "log_threshold", ndim=1)))}
        missing(name, tensors, ("threshold",), TOOL)
        return {"rule": THRESHOLD, "threshold": above(np.maximum(array(name, tensors, "threshold", ndim=1), 0))}
    if architecture in ("batchtopk", "matryoshka_batchtopk"):
        return {"rule": THRESHOLD, "threshold": None, "top_k": top_k}
    if architecture == "standard":
        return {"rule": RELU}
    raise CheckpointError(
        f"{name} has SAELens' architecture {architecture!r}; standard, topk, batchtopk, matryoshka_batchtopk, jumprelu and "
        "gated are read."
    )


def _input_scale(checkpoint: Checkpoint, config: dict[str, Any]) -> float:
    """What every input is multiplied by: 1, or the one factor of a training folder. 1 where it is folded already."""
    normalisation = config.get("normalize_activations") or "none"
    if normalisation == "none":
        return 1.0
    if normalisation in PER_VECTOR:
        raise CheckpointError(
            f"{checkpoint.name} normalises its input by {normalisation!r}: {PER_VECTOR[normalisation]}, so it is no linear "
            "encoder of the embedding; choose an SAE without it."
        )
    path = checkpoint.path.parent / SCALER
    try:
        found = number(json.loads(path.read_text(encoding="utf-8")).get("scaling_factor"))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{checkpoint.name} scales its input ({normalisation}) by a factor that should stand in {SCALER} beside it "
            f"({type(error).__name__}): copy that file, or fold the factor with SAELens."
        ) from error
    if not found or found <= 0:
        raise CheckpointError(f"{SCALER} beside {checkpoint.name} holds no scaling factor; fold it with SAELens.")
    return found


def _size(config: dict[str, Any], tensors: Tensors) -> int:
    for key in ("b_enc", "b_gate"):
        if key in tensors:
            return int(tensors[key].shape[0])
    return int(config.get("d_sae") or tensors["W_dec"].shape[0])


def _modern(config: dict[str, Any]) -> dict[str, Any]:
    """The keys of version 6, as SAELens' own handle_pre_6_0_config renames those before."""
    if not config:
        return {}
    config = {{"activation_fn_str": "activation_fn", "hook_point": "hook_name"}.get(k, k): v for k, v in config.items()}
    k = (config.get("activation_fn_kwargs") or {}).get("k")
    if config.get("activation_fn") == "topk" and k is not None:
        config |= {"architecture": "topk", "k": k}
    if isinstance(config.get("normalize_activations"), bool):
        config["normalize_activations"] = "expected_average_only_in" if config["normalize_activations"] else "none"
    return config
