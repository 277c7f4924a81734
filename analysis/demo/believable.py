"""How much of an SAE's energy lies in concepts that one word of the captions describes, on scenes not used for choosing.

A concept's word is the one with the best F1 for "fires at half of its maximum or more" on validation scenes; believed is
what reaches F1 >= 0.7 on other scenes. An untrained SAE belongs beside every figure: coverage of top examples and
monosemanticity do not tell it from a trained one (docs/log.md), this does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from analysis.concepts.held_out import word_f1
from analysis.concepts.metrics import CONSTANT
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.sae.encode import decode, encode

BELIEVABLE = 0.7  # F1 from which a read-out, or a concept, is called one of an attribute


@dataclass(frozen=True)
class Believable:
    """energy_share: of the energy outside constant concepts, the part in believable ones; objects: attributes of
    `n_objects` that some believable concept stands for; n_concepts, n_constant: believable and constant concepts."""

    r2_image: float
    r2_text: float
    energy_share: float
    objects: int
    n_concepts: int
    n_constant: int


@dataclass(frozen=True)
class Scenes:
    """Vectors (N, D) of pictures and captions of some scenes, and the words (N, V) that stand in their captions."""

    vectors: np.ndarray
    is_image: np.ndarray
    words: np.ndarray


def believable(sae: Sae, val: Scenes, test: Scenes, object_words: np.ndarray) -> Believable:
    """Words chosen on `val`, everything reported on `test`; both modalities weigh equally. object_words: columns of the
    words that name objects."""
    chosen, report = encode(sae, val.vectors), encode(sae, test.vectors)
    word = _f1(chosen, val).argmax(1)
    held_out = _f1(report, test)[np.arange(sae.n_concepts), word]
    believed = held_out >= BELIEVABLE
    weight = np.where(test.is_image, 0.5 / test.is_image.sum(), 0.5 / (~test.is_image).sum())[:, None]
    energy = np.bincount(report.indices.ravel(), (report.values * weight).ravel(), sae.n_concepts)
    fires = [
        np.bincount(report.indices[part][report.values[part] > 0], minlength=sae.n_concepts) / part.sum()
        for part in (test.is_image, ~test.is_image)
    ]
    constant = np.maximum(*fires) > CONSTANT
    counted = energy * ~constant
    rebuilt = decode(sae, report)
    return Believable(
        r2_image=_r2(test.vectors[test.is_image], rebuilt[test.is_image]),
        r2_text=_r2(test.vectors[~test.is_image], rebuilt[~test.is_image]),
        energy_share=float(counted[believed].sum() / counted.sum()),
        objects=len(np.intersect1d(word[believed], object_words)),
        n_concepts=int(believed.sum()),
        n_constant=int(constant.sum()),
    )


def _f1(codes: Codes, scenes: Scenes) -> np.ndarray:
    """(K, V) F1 of "fires at half of its maximum or more" for "the word is there", modalities weighing equally."""
    share = np.where(scenes.is_image, (~scenes.is_image).sum() / scenes.is_image.sum(), 1.0)
    return word_f1(codes.to_csr().astype(np.float64), sp.csr_array(scenes.words.astype(np.float64)), share)


def _r2(vectors: np.ndarray, rebuilt: np.ndarray) -> float:
    left = np.square(vectors - rebuilt).sum(dtype=np.float64)
    return float(1 - left / np.square(vectors - vectors.mean(0)).sum(dtype=np.float64))
