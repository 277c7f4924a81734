"""Does the SAE reconstruct what is analysed? Measured by modality; a poor one is said, with what probably differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.concepts.scores import PairRows
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.sae.quality import R2_WARN, Quality, reconstruction

MEASURED = 100_000  # samples a modality; more would cost minutes and change no digit that is shown


def measure(sae: Sae, vectors: np.ndarray, codes: Codes, rows: PairRows) -> dict[str, Quality]:
    """Reconstruction of exactly what the scores are about: "all", "image", "text". vectors (N, D), possibly a memory map."""
    parts = {"image": _spread(rows.images), "text": _spread(rows.texts), "both": _spread(rows.both)}
    everything = np.concatenate(list(parts.values()))
    return {
        name: reconstruction(sae, _RowsOf(vectors, where), codes[where])  # type: ignore[arg-type]
        for name, where in {"all": everything, "image": parts["image"], "text": parts["text"]}.items()
        if len(where)
    }


def is_poor(quality: Mapping[str, Quality]) -> bool:
    """Below R2_WARN concepts mean little. Where nothing varies (one sample) R² is not defined, and not poor."""
    return "all" in quality and quality["all"].r2_per_dimension < R2_WARN


def as_facts(quality: Mapping[str, Quality]) -> dict[str, dict[str, Any]]:
    """For the manifest, which knows no NaN."""
    return {
        name: {key: None if value != value else value for key, value in vars(found).items()}
        for name, found in quality.items()
    }


@dataclass(frozen=True)
class _RowsOf:
    """Some rows of a large array, read block by block: what `reconstruction` needs of an array."""

    vectors: np.ndarray
    where: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.where), self.vectors.shape[1]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self.vectors[self.where[rows]], np.float32)


def _spread(rows: np.ndarray) -> np.ndarray:
    """At most MEASURED of the rows, evenly spread over them."""
    if len(rows) <= MEASURED:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MEASURED).astype(np.int64)]
