"""overcomplete 0.3: the authors' released `.pt` files, TopKSAE, BatchTopKSAE, JumpSAE, and the relaxed archetypal ones.

TopKSAE, BatchTopKSAE and the base class SAE save the same four tensors: BatchTopKSAE keeps its threshold outside its
state dict, and top_k is never inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.errors import CheckpointError
from analysis.sae.form import THRESHOLD, TOP_K
from analysis.sae.formats.files import Checkpoint
from analysis.sae.formats.found import Foreign, Tensors, array, missing, number, whole

TOOL = "overcomplete"
WEIGHT, BIAS = "encoder.final_block.0.weight", "encoder.final_block.0.bias"
TIEABLE, TIEABLE_BIAS, TIED = "encoder.weight", "encoder.bias", "encoder.tied_to."
DICTIONARY, MULTIPLIER = "dictionary._weights", "dictionary.multiplier"
ARCHETYPES, POINTS, RELAX = "dictionary.W", "dictionary.C", "dictionary.Relax"
RUNNING, LOGARITHMS = "running_threshold", "thresholds"
DELTA = 1.0  # the library's default bound on the rows of Relax; not stored
CURVE_POINTS = 200  # of a training curve in the file, as many are kept


def recognises(tensors: Tensors, _: Checkpoint) -> bool:
    return any(key.startswith(("dictionary.", "encoder.final_block.")) for key in tensors)


def read(tensors: Tensors, checkpoint: Checkpoint, *, rule: str | None, delta: float | None) -> Foreign:
    name = checkpoint.name
    _refuse(name, tensors)
    dictionary, unit_rows, notes = _dictionary(name, tensors, delta)
    scale = float(np.exp(number(tensors.get(MULTIPLIER)) or 0.0))
    weight, bias = _encoder(name, tensors, dictionary, unit_rows, scale)
    running = number(tensors.get(RUNNING, checkpoint.fact(RUNNING)))
    found: dict[str, Any] = {"rule": TOP_K, "ambiguous": "a BatchTopKSAE"}
    if LOGARITHMS in tensors:
        found = {"rule": THRESHOLD, "threshold": np.exp(array(name, tensors, LOGARITHMS, ndim=1))}
    elif running is not None:
        found = {"rule": THRESHOLD, "threshold": max(running, 0.0)}
    norms = np.sqrt(np.einsum("ij,ij->i", dictionary, dictionary, dtype=np.float64))
    encoder = "jump_relu" if LOGARITHMS in tensors else "top_k" if running is None else "batch_top_k"
    meta: dict[str, Any] = {
        "raw_norms": [round(float(norms.min()), 6), round(float(norms.max()), 6)],
        "multiplier": scale,
        "encoder": encoder,
    }
    epoch = whole(checkpoint.fact("epoch"))
    if epoch is not None:
        meta["epoch"] = epoch
    if isinstance(checkpoint.content.get("logs"), dict):
        meta["training_curve"] = _curves(checkpoint.content["logs"])
    return Foreign(
        TOOL,
        *(weight, bias, dictionary),
        top_k=whole(checkpoint.fact("top_k", "k")),
        unit_rows=unit_rows,
        scale=scale,
        notes=notes,
        meta=meta,
        **found,
    )


def _refuse(name: str, tensors: Tensors) -> None:
    if "Q" in tensors:
        raise CheckpointError(
            f"{name} is a QSAE, whose codes are quantised; only linear encoders with a rule are read."
        )
    if not any(key.startswith("encoder.") for key in tensors):
        raise CheckpointError(
            f"{name} has a dictionary and no encoder: codes of matching pursuit (MpSAE, OMPSAE) are found step by step and "
            "have signs, which codes here cannot hold; train a TopKSAE."
        )
    known = {WEIGHT, BIAS, TIEABLE, TIEABLE_BIAS, DICTIONARY, MULTIPLIER, ARCHETYPES, POINTS, RELAX}
    mine = [key for key in tensors if key.startswith(("encoder.", "dictionary.")) and not key.startswith(TIED)]
    odd = [key for key in mine if key not in known]
    if odd:
        raise CheckpointError(
            f"{name} has {odd[0]!r}: an encoder with hidden layers or normalisation, or another dictionary; "
            "only a linear encoder, z = rule(h W^T + b), can be imported."
        )
    dictionary = (ARCHETYPES, POINTS, RELAX) if ARCHETYPES in tensors else (DICTIONARY,)
    tieable = TIEABLE in tensors or any(key.startswith(TIED) for key in tensors)
    encoder = () if tieable else (WEIGHT, BIAS)
    missing(name, tensors, (*encoder, *dictionary), TOOL)


def _dictionary(name: str, tensors: Tensors, delta: float | None) -> tuple[np.ndarray, bool, tuple[str, ...]]:
    """(raw rows, whether the library sets them to length 1, notes). An archetypal atom is a convex combination of points plus a
    short vector, so its length means something (archetypal_dictionary.py)."""
    if ARCHETYPES not in tensors:
        return array(name, tensors, DICTIONARY, ndim=2), True, ()
    shares = np.maximum(array(name, tensors, ARCHETYPES, ndim=2), 0)
    shares /= shares.sum(axis=1, keepdims=True) + 1e-8
    relax = array(name, tensors, RELAX, ndim=2)
    bound, lengths = DELTA if delta is None else delta, np.linalg.norm(relax, axis=1)
    long = lengths > bound
    relax[long] *= (bound / lengths[long])[:, None]
    notes: tuple[str, ...] = ()
    if delta is None and (lengths > bound * 1.01).any():  # an optimiser's last step may leave them a little longer
        notes = (
            f"{int(long.sum())} rows of Relax are longer than delta = {bound:g}, overcomplete's default, and were cut to "
            "it; the file does not say its own delta: give --delta if it was larger.",
        )
    return shares @ array(name, tensors, POINTS, ndim=2) + relax, False, notes


def _encoder(
    name: str, tensors: Tensors, dictionary: np.ndarray, unit_rows: bool, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    if WEIGHT in tensors:
        return array(name, tensors, WEIGHT, ndim=2), array(name, tensors, BIAS, ndim=1)
    if TIEABLE in tensors:
        weight = array(name, tensors, TIEABLE, ndim=2)
    else:  # tied: the dictionary as it is used is the encoder
        lengths = np.linalg.norm(dictionary, axis=1, keepdims=True) + 1e-8 if unit_rows else 1.0
        weight = dictionary / lengths * np.float32(scale)
    bias = array(name, tensors, TIEABLE_BIAS, ndim=1) if TIEABLE_BIAS in tensors else np.zeros(len(weight), np.float32)
    return weight, bias


def _curves(logs: dict[Any, Any]) -> dict[str, list[float]]:
    """Numeric lists of the training log, thinned evenly; whatever else it holds is left out."""
    curves = {}
    for name, values in logs.items():
        numbers = [number(value) for value in values] if isinstance(values, list) else []
        if numbers and all(value is not None for value in numbers):
            at = np.unique(np.linspace(0, len(numbers) - 1, CURVE_POINTS).astype(int))
            curves[str(name)] = [round(float(numbers[i]), 6) for i in at]
    return curves
