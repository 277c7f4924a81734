"""Reading other tools' SAE checkpoints without running code from them: the authors' `.pt` files, overcomplete's."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import CheckpointError

WEIGHT, BIAS = "encoder.final_block.0.weight", "encoder.final_block.0.bias"
DICTIONARY, MULTIPLIER = "dictionary._weights", "dictionary.multiplier"
THRESHOLD = "running_threshold"
CURVE_POINTS = 200  # of a training curve in the file, as many are kept


@dataclass(frozen=True)
class Foreign:
    """What a checkpoint holds: raw arrays in float32 and the facts beside them (None: not stored)."""

    encoder_weight: np.ndarray
    encoder_bias: np.ndarray
    dictionary: np.ndarray
    top_k: int | None
    threshold: float
    meta: dict[str, Any]


def read_foreign(path: Path) -> Foreign:
    """Find the SAE in a checkpoint; CheckpointError names what is missing, unknown or unsafe."""
    content = _load(path)
    state = content
    for key in ("model_state", "model_state_dict", "state_dict"):
        if isinstance(content.get(key), dict):
            state = content[key]
            break
    state = {str(key).removeprefix("module.").removeprefix("_orig_mod."): value for key, value in state.items()}
    absent = [key for key in (WEIGHT, BIAS, DICTIONARY) if key not in state]
    if absent:
        raise CheckpointError(
            f"{path.name} lacks {', '.join(absent)} (found: {', '.join(list(state)[:6]) or 'nothing'}); "
            "expected an overcomplete TopKSAE or BatchTopKSAE with its linear encoder."
        )
    known = {WEIGHT, BIAS, DICTIONARY, MULTIPLIER, THRESHOLD}
    foreign = [key for key in state if key.startswith(("encoder.", "dictionary.")) and key not in known]
    if foreign:
        raise CheckpointError(
            f"{path.name} has {foreign[0]!r}: an encoder with hidden layers or normalisation, or another dictionary; "
            "only a linear encoder, z = TopK(ReLU(h W^T + b)), can be imported."
        )
    weight, bias, dictionary = (_array(path, key, state[key]) for key in (WEIGHT, BIAS, DICTIONARY))
    # exp(multiplier) scales the decoder. z -> s z commutes with TopK and ReLU, so the encoder can carry it instead.
    scale = float(np.exp(_number(state.get(MULTIPLIER)) or 0.0))
    if scale != 1.0:
        weight, bias = weight * np.float32(scale), bias * np.float32(scale)
    threshold = _number(state.get(THRESHOLD, content.get(THRESHOLD)))
    top_k = _number(content.get("top_k"))
    norms = np.sqrt(np.einsum("ij,ij->i", dictionary, dictionary, dtype=np.float64)) if dictionary.ndim == 2 else [0.0]
    meta = {
        "source": path.name,
        "raw_norms": [round(float(np.min(norms)), 6), round(float(np.max(norms)), 6)],
        "multiplier_folded_into_encoder": scale,
        "encoder": "top_k" if threshold is None else "batch_top_k",
    }
    epoch = _number(content.get("epoch"))
    if epoch is not None:
        meta["epoch"] = int(epoch)
    if isinstance(content.get("logs"), dict):
        meta["training_curve"] = _curves(content["logs"])
    return Foreign(
        *(weight, bias, dictionary),
        top_k=None if top_k is None else int(top_k),
        threshold=0.0 if threshold is None else max(threshold * scale, 0.0),
        meta=meta,
    )


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"No file {path}; expected a checkpoint (.pt or .safetensors).")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path.name} cannot be read ({error}); download it again.") from error
    import torch

    # The authors' logs are a defaultdict(list). Its pickle builds the class with `list` as argument and then sets
    # items, which torch's restricted unpickler allows for plain dicts only: hence the stand-in.
    stand_ins: list[Any] = [(_plain_dict, "collections.defaultdict"), (list, "builtins.list")]
    try:
        with torch.serialization.safe_globals(stand_ins):
            # mmap: of a file with optimizer state (three times the weights) only what is used is read
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), "")
        raise CheckpointError(
            f"{path.name} was refused: it is damaged or holds more than tensors and numbers "
            f"({reason.strip() or type(error).__name__}), and such a file could run code; "
            "expected a state dict as torch.save writes it."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path.name} cannot be read ({first}); download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}; expected a dictionary of tensors.")
    return content


def _plain_dict(*_: object) -> dict[Any, Any]:
    return {}


def _array(path: Path, key: str, value: Any) -> np.ndarray:
    """A float32 copy in memory of our own: the memory map ends with the file."""
    if hasattr(value, "detach"):
        value = value.detach().float().numpy()
    if not isinstance(value, np.ndarray):
        raise CheckpointError(f"{key} in {path.name} is a {type(value).__name__}; expected a tensor.")
    array = np.array(value, np.float32, order="C")
    if not np.isfinite(array).all():
        raise CheckpointError(f"{key} in {path.name} holds NaN or infinity; the training it comes from diverged.")
    return array


def _number(value: Any) -> float | None:
    if hasattr(value, "detach"):
        value = value.detach().float().numpy()
    if isinstance(value, np.ndarray):
        return float(value.reshape(-1)[0]) if value.size == 1 else None
    return float(value) if isinstance(value, Real) else None


def _curves(logs: dict[Any, Any]) -> dict[str, list[float]]:
    """Numeric lists of the training log, thinned evenly; whatever else it holds is left out."""
    curves = {}
    for name, values in logs.items():
        if isinstance(values, list) and values and all(isinstance(v, Real) for v in values):
            at = np.unique(np.linspace(0, len(values) - 1, CURVE_POINTS).astype(int))
            curves[str(name)] = [round(float(values[i]), 6) for i in at]
    return curves
