"""dictionary_learning (saprmarks and colleagues, `dictionary.py`, `trainers/`): ae.pt and config.json, whose
`trainer.dict_class` says which of the classes it is. sae-for-vlm and vision-interp write the same.

z = rule((h - shift) W^T + b) and h_hat = z D + bias, where shift and bias are one vector or there is no shift.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.errors import CheckpointError
from analysis.sae.form import GATED, RELU, THRESHOLD, TOP_K
from analysis.sae.formats.files import Checkpoint
from analysis.sae.formats.found import Foreign, Tensors, above, array, missing, number, oriented, whole

TOOL = "dictionary_learning"
TOP_K_CLASSES = ("AutoEncoderTopK", "TopKSAE")
JUMP_CLASSES = ("JumpReluAutoEncoder",)


def recognises(tensors: Tensors, checkpoint: Checkpoint) -> bool:
    linear = "encoder.weight" in tensors and ("decoder.weight" in tensors or "decoder_bias" in tensors)
    return linear or ("W_enc" in tensors and ("group_sizes" in tensors or _class(checkpoint) in JUMP_CLASSES))


def read(tensors: Tensors, checkpoint: Checkpoint, *, rule: str | None, delta: float | None) -> Foreign:
    name, kind = checkpoint.name, _class(checkpoint)
    if any(word in kind.lower() for word in ("cross", "transcoder", "identity")):
        raise CheckpointError(
            f"{name} is a {kind} of dictionary_learning, not an SAE of one layer's states; choose one."
        )
    if "W_enc" in tensors:
        return _plain_parameters(name, tensors, checkpoint, kind)
    missing(name, tensors, ("decoder.weight",), TOOL)
    weight = array(name, tensors, "encoder.weight", ndim=2)
    dictionary = oriented(array(name, tensors, "decoder.weight", ndim=2).T, len(weight))
    if "gate_bias" in tensors:
        return _gated(name, tensors, weight, dictionary)
    missing(name, tensors, ("encoder.bias",), TOOL)
    bias = array(name, tensors, "encoder.bias", ndim=1)
    if "decoder.bias" in tensors:  # AutoEncoderNew, the "April update": no shift
        out = array(name, tensors, "decoder.bias", ndim=1)
        return Foreign(TOOL, weight, bias, dictionary, RELU, bias=out, meta={"encoder": kind or "AutoEncoderNew"})
    key = "b_dec" if "b_dec" in tensors else "bias"
    missing(name, tensors, (key,), TOOL)
    shift = array(name, tensors, key, ndim=1)
    found: dict[str, Any] = {"rule": RELU, "meta": {"encoder": kind or "AutoEncoder"}}
    if key == "b_dec":
        found = _selecting(tensors, checkpoint, kind, rule)
    return Foreign(TOOL, weight, bias - weight @ shift, dictionary, bias=shift, **found)


def _selecting(tensors: Tensors, checkpoint: Checkpoint, kind: str, rule: str | None) -> dict[str, Any]:
    """AutoEncoderTopK and BatchTopKSAE save the same tensors, a threshold among them, which only the second uses."""
    config_k = (checkpoint.config.get("trainer") or {}).get("k")
    top_k = whole(tensors.get("k")) or whole(config_k)
    if "BatchTopK" in kind or (not kind and rule == "batch-topk"):
        return {**_batch_top_k(tensors), "top_k": top_k}
    if kind in TOP_K_CLASSES or "threshold" not in tensors or (not kind and rule == "top-k"):
        return {"rule": TOP_K, "top_k": top_k, "meta": {"encoder": kind or "AutoEncoderTopK"}}
    if kind:
        raise CheckpointError(
            f"config.json beside {checkpoint.name} names the class {kind!r}, which is not known; expected AutoEncoderTopK or "
            "BatchTopKSAE for these tensors."
        )
    raise CheckpointError(
        f"{checkpoint.name} may be an AutoEncoderTopK or a BatchTopKSAE of dictionary_learning, which save the same tensors, "
        "and config.json is not beside it: copy that, or say --rule top-k or --rule batch-topk."
    )


def _batch_top_k(tensors: Tensors) -> dict[str, Any]:
    """Its threshold is -1 until training has set it: then every positive score is kept, as the library's encode does."""
    least = number(tensors.get("threshold"))
    if least is None:
        return {"rule": THRESHOLD, "threshold": None, "meta": {"encoder": "batch_top_k"}}
    notes = ("Its threshold was never set in training, so every positive score counts; --l0 with --sample sets one.",)
    return {
        "rule": THRESHOLD if least > 0 else RELU,
        "threshold": above(max(least, 0.0)),
        "notes": notes if least < 0 else (),
        "meta": {"encoder": "batch_top_k"},
    }


def _plain_parameters(name: str, tensors: Tensors, checkpoint: Checkpoint, kind: str) -> Foreign:
    """MatryoshkaBatchTopKSAE and JumpReluAutoEncoder: W_enc (D, K), W_dec (K, D)."""
    missing(name, tensors, ("b_enc", "W_dec", "b_dec", "threshold"), TOOL)
    bias, out = array(name, tensors, "b_enc", ndim=1), array(name, tensors, "b_dec", ndim=1)
    weight = oriented(array(name, tensors, "W_enc", ndim=2).T, len(bias))
    dictionary = oriented(array(name, tensors, "W_dec", ndim=2), len(bias))
    if "group_sizes" in tensors:
        top_k = whole(tensors.get("k")) or whole((checkpoint.config.get("trainer") or {}).get("k"))
        return Foreign(
            TOOL, weight, bias - weight @ out, dictionary, bias=out, top_k=top_k, **_batch_top_k(tensors)
        )  # fmt: skip
    least = above(np.maximum(array(name, tensors, "threshold", ndim=1), 0))
    return Foreign(TOOL, weight, bias, dictionary, THRESHOLD, threshold=least, bias=out, meta={"encoder": kind})


def _gated(name: str, tensors: Tensors, weight: np.ndarray, dictionary: np.ndarray) -> Foreign:
    """z = [p + gate_bias > 0] relu(exp(r_mag) p + mag_bias), p = (h - decoder_bias) W^T. The gate is open where the magnitude
    exceeds mag_bias - exp(r_mag) gate_bias, so it is a threshold on it."""
    missing(name, tensors, ("r_mag", "mag_bias", "decoder_bias"), TOOL)
    r_mag, gate, magnitude = (array(name, tensors, key, ndim=1) for key in ("r_mag", "gate_bias", "mag_bias"))
    shift = array(name, tensors, "decoder_bias", ndim=1)
    weight, threshold = fold_gate(weight, np.exp(r_mag), gate, magnitude)
    return Foreign(
        TOOL,
        *(weight, magnitude - weight @ shift, dictionary, GATED),
        threshold=threshold,
        bias=shift,
        meta={"encoder": "GatedAutoEncoder"},
    )


def fold_gate(
    weight: np.ndarray, slope: np.ndarray, gate: np.ndarray, magnitude: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(encoder of the magnitude, threshold on it) of a gated encoder with shared weights; slope > 0, all (K,)."""
    threshold = above(np.maximum(magnitude - slope * gate, 0))
    return weight * slope[:, None].astype(np.float32), np.broadcast_to(
        np.asarray(threshold, np.float32), gate.shape
    ).copy()


def _class(checkpoint: Checkpoint) -> str:
    trainer = checkpoint.config.get("trainer")
    return str((trainer if isinstance(trainer, dict) else checkpoint.config).get("dict_class") or "")
