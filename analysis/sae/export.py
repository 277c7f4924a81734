"""SAEs back into other tools: overcomplete state dicts, SAELens folders. What a tool cannot hold is refused, not dropped."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import CheckpointError
from analysis.sae.form import RELU, TOP_K, Sae, has_threshold

SAELENS_WEIGHTS, SAELENS_CONFIG = "sae_weights.safetensors", "cfg.json"
SAELENS_VERSION = "6.0.0"  # the layout that is written; readers convert anything older


@dataclass(frozen=True)
class Exported:
    """constructor: what loads the file in its tool; note: what the tool has no place for, "" where nothing."""

    constructor: str
    note: str = ""


def to_overcomplete_state_dict(sae: Sae) -> dict[str, Any]:
    """The torch state dict that overcomplete loads; the large tensors share memory with the SAE.

    rule top_k: `TopKSAE(D, nb_concepts=K, top_k=top_k)`; threshold and gated: `JumpSAE` (its thresholds are logarithms);
    relu: the base class `SAE`. Raises CheckpointError for a decoder bias, which no class of overcomplete has, and for
    decoder rows of different length under top_k, where the length must not enter the selection.
    """
    import torch

    if sae.bias is not None:
        raise CheckpointError(
            "This SAE has a decoder bias, for which overcomplete has no place: export it for SAELens (--format saelens)."
        )
    weight, bias, threshold, multiplier = sae.encoder_weight, sae.encoder_bias, np.asarray(sae.threshold), 0.0
    if sae.norms is not None and (sae.norms == sae.norms[0]).all() and sae.norms[0] > 0:
        multiplier = float(np.log(sae.norms[0]))
    elif sae.norms is not None and sae.rule == TOP_K:
        raise CheckpointError(
            "The decoder rows of this SAE have different lengths, which overcomplete's TopKSAE sets to 1: export it for "
            "SAELens (--format saelens)."
        )
    elif sae.norms is not None:  # without a competition between concepts the encoder can carry the lengths
        weight, bias = weight * sae.norms[:, None], bias * sae.norms
        threshold = threshold * sae.norms
    state = {
        "encoder.final_block.0.weight": torch.from_numpy(weight),
        "encoder.final_block.0.bias": torch.from_numpy(bias),
        "dictionary._weights": torch.from_numpy(sae.dictionary),
        "dictionary.multiplier": torch.tensor(multiplier),
    }
    if has_threshold(sae):
        least = np.finfo(np.float32).tiny  # a threshold of 0: whatever is positive
        logarithms = np.log(np.maximum(np.broadcast_to(threshold, (sae.n_concepts,)), least))
        state["thresholds"] = torch.from_numpy(logarithms.astype(np.float32))
    return state


def export_overcomplete(sae: Sae, path: str | Path) -> Exported:
    """Write the state dict as a `.pt` file; load it with torch.load(..., weights_only=True), then call `.eval()`."""
    import torch

    path = Path(path)
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is no file that could be replaced; expected the name of a new `.pt` file.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    state = to_overcomplete_state_dict(sae)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        raise CheckpointError(f"The state dict could not be written to {path} ({error}): free space there.") from error
    size = f"{sae.width}, nb_concepts={sae.n_concepts}"
    if sae.rule == TOP_K:
        return Exported(f"TopKSAE({size}, top_k={sae.top_k})")
    return Exported(f"{'JumpSAE' if has_threshold(sae) else 'SAE'}({size})", _no_cap(sae))


def export_saelens(sae: Sae, folder: str | Path) -> Exported:
    """Write a folder that SAELens 6 loads (`SAE.load_from_disk`): cfg.json and sae_weights.safetensors.

    rule top_k is its architecture "topk", relu "standard", threshold and gated "jumprelu". Its codes are ours divided by
    `norms` (see form.Sae), its reconstructions are ours.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    architecture = {TOP_K: "topk", RELU: "standard"}.get(sae.rule, "jumprelu")
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": sae.width,
        "d_sae": sae.n_concepts,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": SAELENS_VERSION, "model_name": str(sae.meta.get("backbone", "")),
                     "hook_name": str(sae.meta.get("tap", ""))},
    }  # fmt: skip
    norms = np.float32(1) if sae.norms is None else sae.norms[:, None]
    tensors = {
        "W_enc": np.ascontiguousarray(sae.encoder_weight.T),
        "b_enc": sae.encoder_bias,
        "W_dec": np.ascontiguousarray(sae.dictionary * norms),
        "b_dec": np.zeros(sae.width, np.float32) if sae.bias is None else sae.bias,
    }
    if architecture == "topk":
        config |= {"k": sae.top_k, "rescale_acts_by_decoder_norm": False}
    if architecture == "jumprelu":  # there a score has to exceed the threshold, here to reach it
        threshold = np.broadcast_to(np.asarray(sae.threshold, np.float32), (sae.n_concepts,))
        tensors["threshold"] = np.where(threshold > 0, np.nextafter(threshold, np.float32(-1)), np.float32(0))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / f".{SAELENS_WEIGHTS}.new")
        os.replace(folder / f".{SAELENS_WEIGHTS}.new", folder / SAELENS_WEIGHTS)
        (folder / SAELENS_CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"The SAE could not be written to {folder} ({error}): free space there.") from error
    return Exported(f'SAE.load_from_disk("{folder}")  # {architecture}', "" if sae.rule == TOP_K else _no_cap(sae))


def _no_cap(sae: Sae) -> str:
    return (
        f"codes there are not limited to the {sae.top_k} largest, as they are held here."
        if sae.top_k < sae.n_concepts
        else ""
    )
