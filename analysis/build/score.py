"""Codes -> the tables of a store: which samples the scores are about, concept scores, bridge pairs, neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.concepts.scores import PairRows, ScoreInputs, compute
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.store.schema import NO_PAIRS, concept_columns

NEIGHBOURS_KEPT = 16
FROM_CAPTIONS = "image-caption pairs"


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
    inputs = ScoreInputs(codes, dictionary, rows, weighting)
    table = pd.DataFrame(compute(inputs))
    table = table.assign(bridge_partner=bridge_partner(inputs), map_x=np.nan, map_y=np.nan, name="")
    return table.loc[:, list(concept_columns())], inputs.bridges[1]


def bridge_partner(inputs: ScoreInputs) -> np.ndarray:
    """(K,) the concept of the other side with which each has its strongest bridge; -1 where it has none."""
    return inputs.bridges[0]["max"].partner if inputs.has_pairs else np.full(inputs.n_concepts, -1)


def words_of_samples(texts: Sequence[str], rows: PairRows) -> list[list[str]]:
    """For each sample the text that names its concepts: its own, or those it is paired with."""
    of_image: dict[int, list[str]] = {}
    for image, text in zip(rows.pair_image.tolist(), rows.pair_text.tolist(), strict=True):
        of_image.setdefault(image, []).append(texts[text])
    return [[text] if text else of_image.get(row, []) for row, text in enumerate(texts)]


def neighbour_table(sae: Sae) -> np.ndarray:
    from analysis.concepts.neighbours import nearest_concepts

    return nearest_concepts(sae.dictionary, m=min(NEIGHBOURS_KEPT, sae.n_concepts - 1))
