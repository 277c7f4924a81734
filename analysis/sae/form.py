"""The one inner form of every SAE: z = rule(h W^T + b), h_hat = z D + bias. NumPy only; files are in `checkpoint.py`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from analysis.errors import CheckpointError

TOP_K, THRESHOLD, RELU, GATED = RULES = ("top_k", "threshold", "relu", "gated")


@dataclass(frozen=True, eq=False)
class Sae:
    """A sparse autoencoder with a linear encoder.

    With s = h W^T + b, concept i is active where s_i > 0, s_i >= threshold_i and s_i is among the `top_k` largest of
    those; then z_i = norm_i s_i, else 0. h_hat = z D + bias. A subtracted mean and a scale of the input are part of W and
    b: ((h - shift) scale) W^T + b is linear in h.

    encoder_weight (K, D), encoder_bias (K,), dictionary (K, D): float32. Rows of the dictionary are made unit vectors
    here, as overcomplete does whenever it uses them (a row of zeros stays). `norms` (K,) are the lengths that the rows
    have in the tool the SAE comes from, None where all are 1: they change no selection, and make z_i a length along the
    unit row, so that concepts can be compared. `bias` (D,): what is added to every reconstruction, None for zero.

    `rule` says how the tool that trained it limits the active concepts: "top_k" of them; those above a `threshold` (one
    number, or one a concept); "relu", all positive ones; "gated", whose gate is a threshold as well (`formats/`). Of the
    last three `top_k` is only the width that codes are held in, and `quality.reconstruction` measures what it cuts.
    `meta`: JSON-able facts (backbone, unit, data, training curve, source ...).
    """

    encoder_weight: np.ndarray
    encoder_bias: np.ndarray
    dictionary: np.ndarray
    top_k: int
    meta: dict[str, Any] = field(default_factory=dict)
    threshold: float | np.ndarray = 0.0
    rule: str = TOP_K
    norms: np.ndarray | None = None
    bias: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("encoder_weight", "encoder_bias", "dictionary"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.float32))
        if self.dictionary.ndim != 2 or self.encoder_weight.shape != self.dictionary.shape:
            raise CheckpointError(
                f"Encoder {self.encoder_weight.shape} and dictionary {self.dictionary.shape} differ in shape; "
                "expected (K, D) for both: are they of one SAE?"
            )
        if self.encoder_bias.shape != (self.n_concepts,):
            raise CheckpointError(
                f"Encoder bias has shape {self.encoder_bias.shape}; expected ({self.n_concepts},), one a concept."
            )
        if not 1 <= self.top_k <= self.n_concepts:
            raise CheckpointError(
                f"top_k is {self.top_k}; expected between 1 and the number of concepts, {self.n_concepts}."
            )
        object.__setattr__(self, "norms", _vector("norms", self.norms, self.n_concepts, neutral=1))
        object.__setattr__(self, "bias", _vector("decoder bias", self.bias, self.width, neutral=0))
        object.__setattr__(self, "threshold", self._canonical_threshold())
        if self.rule == TOP_K and has_threshold(self):  # written before SAEs had rules: a BatchTopK encoder
            object.__setattr__(self, "rule", THRESHOLD)
        if self.rule not in RULES:
            raise CheckpointError(f"The rule of an SAE is {self.rule!r}; expected one of {', '.join(RULES)}.")
        object.__setattr__(self, "dictionary", _unit_rows(self.dictionary))

    @property
    def n_concepts(self) -> int:
        return self.dictionary.shape[0]

    @property
    def width(self) -> int:
        return self.dictionary.shape[1]

    @cached_property
    def sha256(self) -> str:
        """Identifies what the SAE computes: its float32 arrays, top_k and threshold (not its meta)."""
        per_concept = isinstance(self.threshold, np.ndarray)
        extra = {name: getattr(self, name) for name in ("threshold", "norms", "bias")}
        extra = {name: array for name, array in extra.items() if isinstance(array, np.ndarray)}
        facts = f"{self.dictionary.shape} {self.top_k} {'per concept' if per_concept else self.threshold}"
        digest = hashlib.sha256(f"{facts}{''.join(f' {name}' for name in extra)}".encode())
        for array in (self.encoder_weight, self.encoder_bias, self.dictionary, *extra.values()):
            digest.update(np.asarray(array, "<f4").data)
        return digest.hexdigest()

    def _canonical_threshold(self) -> float | np.ndarray:
        """One number where all are equal; never negative, because what is not positive is not active anyway."""
        given = np.asarray(self.threshold)
        if given.ndim == 0:
            return float(self.threshold)
        if given.shape != (self.n_concepts,):
            raise CheckpointError(
                f"The thresholds have shape {given.shape}; expected ({self.n_concepts},), one a concept."
            )
        given = np.maximum(np.ascontiguousarray(given, np.float32), 0)
        return float(given[0]) if (given == given[0]).all() else given


def scores(sae: Sae, h: np.ndarray) -> np.ndarray:
    """(N, K) float32 s of embeddings h (N, D) where the rule lets it pass, 0 elsewhere; `top_k` is not applied. Dense: for
    few rows."""
    found = h @ sae.encoder_weight.T
    found += sae.encoder_bias
    np.maximum(found, 0, out=found)
    if has_threshold(sae):
        found[found < sae.threshold] = 0
    return found


def has_threshold(sae: Sae) -> bool:
    return bool(np.any(np.asarray(sae.threshold) > 0))


def row_norms(matrix: np.ndarray) -> np.ndarray:
    """(K,) float64"""
    return np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))


def _vector(name: str, given: np.ndarray | None, length: int, *, neutral: float) -> np.ndarray | None:
    """Float32, or None where it changes nothing."""
    if given is None:
        return None
    given = np.ascontiguousarray(given, np.float32)
    if given.shape != (length,):
        raise CheckpointError(f"The {name} of the SAE has shape {given.shape}; expected ({length},).")
    return None if (given == neutral).all() else given


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows divided by their norm in float64, unless all are unit already: loading must not change a stored bit."""
    norms = row_norms(matrix)
    norms[norms == 0] = 1
    if (np.abs(norms - 1) < 1e-6).all():
        return matrix
    out = np.empty_like(matrix)
    for lo in range(0, len(matrix), 1024):
        out[lo : lo + 1024] = matrix[lo : lo + 1024] / norms[lo : lo + 1024, None]
    return out
