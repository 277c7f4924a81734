"""Why does an SAE reconstruct a backbone's embeddings poorly? The usual reasons, tried on a few samples: another tap, token
states instead of pooled vectors, the last token instead of the mean, vectors of unit length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.data.samples import Sample
from analysis.models.backbones import Backbone
from analysis.models.families import TAPS
from analysis.sae.checkpoint import Sae
from analysis.sae.encode import encode
from analysis.sae.quality import R2_WARN, reconstruction

TRIED = 64  # samples that are embedded again
MARGIN = 0.1  # by how much R² must rise before another reading is called the probable one
FITS = 0.5  # what it must reach for that: of two readings that an SAE does not fit, neither is what it was trained on
TIE = 0.05  # readings whose R² are this close fit equally well; the one that changes least is named
# Reading of a sample -> what to change in the command to analyse that.
_REMEDY = {
    "tap": "build with --tap {tap}",
    "tokens": "it was trained on token states: train one on the pooled vectors (--sae train), or read its token views only",
    "last": "it was trained on last-token vectors: train one on the mean (--sae train)",
    "unit": "it was trained on vectors of unit length: train one on the vectors as they are (--sae train)",
}


@dataclass(frozen=True)
class Reading:
    """One way to read the samples, and how well the SAE reconstructs what it gives."""

    tap: str
    unit: str  # "mean" | "last" | "tokens"
    scale: str  # "as it is" | "unit length"
    r2: float | None  # per dimension; None where nothing varies
    vectors: int


@dataclass(frozen=True)
class Diagnosis:
    """Every reading, the present one first, and one sentence about the most probable reason."""

    readings: tuple[Reading, ...]
    sentence: str

    def as_facts(self) -> dict[str, Any]:
        return {"sentence": self.sentence, "readings": [asdict(reading) for reading in self.readings]}


TRAINED_HERE = Diagnosis(
    (),
    "It was trained on these very vectors, so it is too small or was trained too little: raise --concepts, --top-k or "
    "--sae-steps, or give more training data (--sae-data, --sae-limit).",
)


def diagnose(backbone: Backbone, sae: Sae, samples: Sequence[Sample]) -> Diagnosis:
    """Embed up to TRIED of the samples again in every other way that the backbone has and compare R². For samples that
    could be embedded once; they are taken evenly from all of them, so both modalities are among them."""
    chosen = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, min(TRIED, len(samples))).astype(int))]
    taps = [str(backbone.spec.tap)]
    if not backbone.contrastive:
        taps += [tap for tap in TAPS if tap not in taps]
    readings = []
    for tap in taps:
        view = backbone if tap == taps[0] else backbone.with_tap(tap)
        for unit, vectors in _vectors(view, chosen).items():
            readings.append(_reading(sae, tap, unit, "as it is", vectors))
            if unit == "mean":
                length = np.linalg.norm(vectors, axis=1, keepdims=True)
                readings.append(_reading(sae, tap, unit, "unit length", vectors / np.maximum(length, 1e-12)))
    return Diagnosis(tuple(readings), _sentence(readings))


def _vectors(backbone: Backbone, samples: Sequence[Sample]) -> Mapping[str, np.ndarray]:
    """unit -> (n, D): pooled means, last tokens and single tokens, from one pass over the samples."""
    found: dict[str, list[np.ndarray]] = {"mean": [], "last": [], "tokens": []}
    for _, tokens in backbone.stream_tokens(samples):
        found["mean"].append(backbone.pool(tokens)[None])
        if not backbone.contrastive:
            found["last"].append(backbone.pool(tokens, "last")[None])
        found["tokens"].append(tokens.states[tokens.roles > 0])
    return {unit: np.concatenate(parts) for unit, parts in found.items() if parts}


def _reading(sae: Sae, tap: str, unit: str, scale: str, vectors: np.ndarray) -> Reading:
    if vectors.shape[1] != sae.width:  # a tower's own token states may have another width than its embeddings
        return Reading(tap, unit, scale, None, len(vectors))
    vectors = np.asarray(vectors, np.float32)
    r2 = reconstruction(sae, vectors, encode(sae, vectors)).r2_per_dimension
    return Reading(tap, unit, scale, None if r2 != r2 else round(r2, 4), len(vectors))


def _sentence(readings: Sequence[Reading]) -> str:
    present = readings[0]
    here = "not defined" if present.r2 is None else f"{present.r2:.2f}"
    highest = max((reading.r2 for reading in readings if reading.r2 is not None), default=0.0)
    equal = [reading for reading in readings if reading.r2 is not None and reading.r2 >= highest - TIE]
    best = min(equal, key=lambda reading: _changes(reading, present), default=present)
    if best is present or highest < FITS or (present.r2 is not None and highest < present.r2 + MARGIN):
        return (
            f"No other tap, pooling, unit or scale fits better than what is analysed (R² {here} on a sample; the best of "
            f"{len(readings)} readings {highest:.2f}): the SAE was probably trained on another model or other data."
        )
    reasons = []
    if best.tap != present.tap:
        reasons.append(_REMEDY["tap"].format(tap=best.tap))
    if best.unit != present.unit:
        reasons.append(_REMEDY[best.unit])
    if best.scale != present.scale:
        reasons.append(_REMEDY["unit"])
    still = "" if (best.r2 or 0.0) >= R2_WARN else f" Even that is below {R2_WARN}."
    return (
        f"The SAE fits {_words(best)} better (R² {best.r2:.2f} on a sample) than {_words(present)} (R² {here}): "
        f"{'; '.join(reasons)}.{still}"
    )


def _changes(reading: Reading, present: Reading) -> int:
    return sum(getattr(reading, name) != getattr(present, name) for name in ("tap", "unit", "scale"))


def _words(reading: Reading) -> str:
    unit = {"mean": "mean-pooled vectors", "last": "last-token vectors", "tokens": "single token states"}[reading.unit]
    length = " of unit length" if reading.scale == "unit length" else ""
    return f"{unit}{length} at tap {reading.tap}"
