"""Codes -> the tables of a store: concept scores, bridge pairs, postings, neighbours, names and the map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.concepts.metrics import (
    attribution_score,
    bridge_all,
    bridge_pairs,
    energy,
    frequency,
    modality_score,
)
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.store.schema import CONCEPT_COLUMNS

BRIDGES_KEPT = 2000
NEIGHBOURS_KEPT = 16
NAME_EXAMPLES = 20


@dataclass(frozen=True)
class PairRows:
    """Positions of the samples that the concept scores are computed on.

    images (I,) and texts (T,): every image and every caption once. pair_image, pair_text (P,): one entry a
    caption, the position of its image and its own: the pairs over which bridges and attribution are averaged.
    """

    images: np.ndarray
    texts: np.ndarray
    pair_image: np.ndarray
    pair_text: np.ndarray


def pair_rows(pair_id: np.ndarray, modality: np.ndarray) -> PairRows:
    """From the columns of the sample table. Samples with pair_id -1 belong to retrieval only and do not count."""
    images = np.flatnonzero((pair_id >= 0) & (modality == "image"))
    texts = np.flatnonzero((pair_id >= 0) & (modality == "text"))
    image_of = np.full(int(pair_id.max(initial=-1)) + 1, -1, np.int64)
    image_of[pair_id[images]] = images
    partner = image_of[pair_id[texts]]
    paired = partner >= 0
    return PairRows(images, texts, partner[paired], texts[paired])


def concept_table(codes: Codes, dictionary: np.ndarray, rows: PairRows, *, weighting: str = "samples") -> pd.DataFrame:
    """Every score of every concept (design.md section 3), one row a concept; map and name are filled in later."""
    image, text = codes[rows.images], codes[rows.texts]
    energy_image, energy_text = energy(image), energy(text)
    n_image, n_text = len(rows.images), len(rows.texts)
    if weighting == "balanced":
        mean = (energy_image + energy_text) / 2
    else:
        mean = (energy_image * n_image + energy_text * n_text) / max(n_image + n_text, 1)
    frequency_image, frequency_text = frequency(image), frequency(text)
    table = pd.DataFrame(
        {
            "energy": mean,
            "energy_image": energy_image,
            "energy_text": energy_text,
            "modality_score": modality_score(energy_image, energy_text),
            "frequency": (frequency_image * n_image + frequency_text * n_text) / max(n_image + n_text, 1),
            "frequency_image": frequency_image,
            "frequency_text": frequency_text,
        }
    )
    paired_image, paired_text = codes[rows.pair_image], codes[rows.pair_text]
    bridges = bridge_all(paired_image, paired_text, dictionary)
    for reduction, bridge in bridges.items():
        table[f"bridge_{reduction}"] = bridge.score
    table["bridge_partner"] = bridges["max"].partner
    attribution = attribution_score(paired_image, paired_text, dictionary)
    table["attribution"] = attribution.total
    table["attribution_image"] = attribution.image
    table["attribution_text"] = attribution.text
    for column in CONCEPT_COLUMNS:
        if column not in table:
            table[column] = "" if column == "name" else np.nan
    return table.loc[:, list(CONCEPT_COLUMNS)]


def bridge_table(codes: Codes, dictionary: np.ndarray, rows: PairRows) -> pd.DataFrame:
    """The strongest image-concept/text-concept pairs beside their permutation null."""
    return bridge_pairs(codes[rows.pair_image], codes[rows.pair_text], dictionary, n=BRIDGES_KEPT)


def neighbour_table(sae: Sae) -> np.ndarray:
    from analysis.concepts.neighbours import nearest_concepts

    return nearest_concepts(sae.dictionary, m=min(NEIGHBOURS_KEPT, sae.n_concepts - 1))
