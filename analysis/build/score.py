"""Codes -> the tables of a store: which samples the scores are about, concept scores, bridge pairs, neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.concepts.bridges import bridges
from analysis.concepts.metrics import attribution_score, energy, frequency, modality_score
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.store.schema import CONCEPT_COLUMNS, NO_PAIRS

BRIDGES_KEPT = 2000
NEIGHBOURS_KEPT = 16
FROM_CAPTIONS = "image-caption pairs"


@dataclass(frozen=True)
class PairRows:
    """Positions of the samples that the concept scores are computed on.

    images (I,), texts (T,), both (B,): each image, text and image + text sample once; `both` counts in the energy over all
    samples, in neither modality. pair_image, pair_text (P,): the pairs over which bridges and attribution are averaged,
    one entry a pair. source: where the pairs come from.
    """

    images: np.ndarray
    texts: np.ndarray
    both: np.ndarray
    pair_image: np.ndarray
    pair_text: np.ndarray
    source: str


def caption_pairs(pair_id: np.ndarray, modality: np.ndarray) -> PairRows:
    """Image-caption pairs, from the columns of the sample table. Samples with pair_id -1 belong to retrieval only and do
    not count."""
    images = np.flatnonzero((pair_id >= 0) & (modality == "image"))
    texts = np.flatnonzero((pair_id >= 0) & (modality == "text"))
    image_of = np.full(int(pair_id.max(initial=-1)) + 1, -1, np.int64)
    image_of[pair_id[images]] = images
    partner = image_of[pair_id[texts]]
    paired = partner >= 0
    none = np.empty(0, np.int64)
    return PairRows(images, texts, none, partner[paired], texts[paired], FROM_CAPTIONS if paired.any() else NO_PAIRS)


def retrieval_pairs(
    modality: np.ndarray, tasks: Sequence[tuple[str, np.ndarray, np.ndarray, sp.csr_array]]
) -> PairRows:
    """Data without captions: every sample counts by its modality, and a query with its target is a pair where one is an
    image and the other a text. tasks: (name, query rows, candidate rows, qrels)."""
    pairs: list[np.ndarray] = []
    used = []
    for name, queries, candidates, qrels in tasks:
        found = qrels.tocoo()
        query, target = np.asarray(queries, np.int64)[found.row], np.asarray(candidates, np.int64)[found.col]
        forward = (modality[query] == "image") & (modality[target] == "text")
        backward = (modality[query] == "text") & (modality[target] == "image")
        if forward.any() or backward.any():
            used.append(name)
            pairs.append(np.stack([query[forward], target[forward]], axis=1))
            pairs.append(np.stack([target[backward], query[backward]], axis=1))
    together = np.unique(np.concatenate([np.empty((0, 2), np.int64), *pairs]), axis=0)
    return PairRows(
        np.flatnonzero(modality == "image"),
        np.flatnonzero(modality == "text"),
        np.flatnonzero(modality == "image_text"),
        together[:, 0],
        together[:, 1],
        f"queries and targets of {', '.join(used)}" if used else NO_PAIRS,
    )


def score_tables(
    codes: Codes, dictionary: np.ndarray, rows: PairRows, *, weighting: str = "samples"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(concepts, bridges), from one pass over the bridge matrix.

    concepts: every score of every concept, one row a concept; map and name are filled in later. Without pairs bridges
    and attribution are NaN. The modality score is NaN for concepts that fire on no image and no text, and for all where
    the data lack one of the two. bridges: the strongest pairs of an image concept and a text concept beside their
    permutation null.
    """
    image, text = codes[rows.pair_image], codes[rows.pair_text]
    reductions, pairs = bridges(image, text, dictionary, n=BRIDGES_KEPT, groups=rows.pair_image)
    table = _energies(codes, rows, weighting)
    if len(rows.pair_image):
        for reduction, bridge in reductions.items():
            table[f"bridge_{reduction}"] = bridge.score
        table["bridge_partner"] = reductions["max"].partner
        attribution = attribution_score(image, text, dictionary)
        table["attribution"] = attribution.total
        table["attribution_image"] = attribution.image
        table["attribution_text"] = attribution.text
    for column in CONCEPT_COLUMNS:
        if column not in table:
            table[column] = {"name": "", "bridge_partner": -1}.get(column, np.nan)
    return table.loc[:, list(CONCEPT_COLUMNS)], pairs


def words_of_samples(texts: Sequence[str], rows: PairRows) -> list[list[str]]:
    """For each sample the text that names its concepts: its own, or those it is paired with."""
    of_image: dict[int, list[str]] = {}
    for image, text in zip(rows.pair_image.tolist(), rows.pair_text.tolist(), strict=True):
        of_image.setdefault(image, []).append(texts[text])
    return [[text] if text else of_image.get(row, []) for row, text in enumerate(texts)]


def neighbour_table(sae: Sae) -> np.ndarray:
    from analysis.concepts.neighbours import nearest_concepts

    return nearest_concepts(sae.dictionary, m=min(NEIGHBOURS_KEPT, sae.n_concepts - 1))


def _energies(codes: Codes, rows: PairRows, weighting: str) -> pd.DataFrame:
    parts = {name: codes[found] for name, found in (("image", rows.images), ("text", rows.texts), ("both", rows.both))}
    energies = {name: energy(part) for name, part in parts.items()}
    frequencies = {name: frequency(part) for name, part in parts.items()}
    counts = {name: len(part) for name, part in parts.items()}
    equal = dict.fromkeys((name for name, count in counts.items() if count), 1)
    modality = modality_score(energies["image"], energies["text"])
    if not counts["image"] or not counts["text"]:
        modality = np.full(codes.n_concepts, np.nan)
    return pd.DataFrame(
        {
            "energy": _mean(energies, equal if weighting == "balanced" else counts),
            "energy_image": energies["image"],
            "energy_text": energies["text"],
            "modality_score": modality,
            "frequency": _mean(frequencies, counts),
            "frequency_image": frequencies["image"],
            "frequency_text": frequencies["text"],
        }
    )


def _mean(parts: dict[str, np.ndarray], weights: dict[str, int]) -> np.ndarray:
    total = np.zeros(len(next(iter(parts.values()))))
    for name, weight in weights.items():
        total += parts[name] * weight
    return total / max(sum(weights.values()), 1)
