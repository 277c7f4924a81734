"""Codes -> the tables of a store: which samples the scores are about, concept scores, bridge pairs, neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from analysis.concepts.evidence import Evidence, gather_evidence
from analysis.concepts.scores import PairRows, ScoreInputs, compute, of_untrained
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.sae.encode import encode
from analysis.store.schema import NO_PAIRS, concept_columns

NEIGHBOURS_KEPT = 16
CONTROL_SAMPLES = 50_000  # samples that the untrained SAE is encoded on; more would cost a second encoding of the data
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


def score_tables(inputs: ScoreInputs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(concepts, bridges), from one pass over the bridge matrix.

    concepts: every score and the name of every concept, one row a concept; the map is filled in later. Without pairs bridges
    and attribution are NaN. The modality score is NaN for concepts that fire on no image and no text, and for all where
    the data lack one of the two. bridges: the strongest pairs of an image concept and a text concept beside their
    permutation null.
    """
    table = pd.DataFrame(compute(inputs))
    table = table.assign(
        bridge_partner=bridge_partner(inputs),
        map_x=np.nan,
        map_y=np.nan,
        name=concept_names(inputs),
        **second_words(inputs),
    )
    return table.loc[:, list(concept_columns())], inputs.bridges[1]


def bridge_partner(inputs: ScoreInputs) -> np.ndarray:
    """(K,) the concept of the other side with which each has its strongest bridge; -1 where it has none."""
    return inputs.bridges[0]["max"].partner if inputs.has_pairs else np.full(inputs.n_concepts, -1)


def concept_names(inputs: ScoreInputs) -> list[str]:
    """The words that name each concept on samples that did not choose them; "" where none does."""
    return [""] * inputs.n_concepts if inputs.held_out is None else inputs.held_out.name.tolist()


def second_words(inputs: ScoreInputs) -> dict[str, list[str]]:
    """second_word: what a second, contrastive model would call each concept, "" where it cannot say; second_model: which."""
    found, evidence = inputs.dissection, inputs.evidence
    best = np.full(inputs.n_concepts, -1) if found is None else found.best()
    words = [str(evidence.spelled[word]) if evidence is not None and word >= 0 else "" for word in best]
    model = inputs.second.backbone if inputs.second is not None else ""
    return {"second_word": words, "second_model": [model if word else "" for word in words]}


def evidence_of(texts: Sequence[str], rows: PairRows) -> Evidence:
    """What names are tested on: pictures and captions, all that pairs join on one side of the two halves."""
    n = len(texts)
    ones = np.ones(len(rows.pair_image), bool)
    graph = sp.coo_array((ones, (rows.pair_image, rows.pair_text)), shape=(n, n))
    group = np.asarray(connected_components(graph, directed=False)[1], np.int64)
    is_image, counts = np.zeros((2, n), bool)
    is_image[rows.images] = True
    counts[rows.images] = counts[rows.texts] = True
    return gather_evidence(words_of_samples(texts, rows), np.where(counts, group, -1), is_image)


def untrained_table(inputs: ScoreInputs, start: Sae, vectors: np.ndarray) -> pd.DataFrame:
    """The scores of the SAE that training started from, one row a concept of the same number: only those that are kept of it
    (`scores.of_untrained`). inputs: of the trained SAE; of more than CONTROL_SAMPLES samples, evenly chosen ones."""
    rows, evidence = inputs.rows, inputs.evidence
    n = len(vectors)
    if n > CONTROL_SAMPLES:
        rows, evidence = _thinned(rows, evidence, n)
    used = np.unique(np.concatenate([rows.images, rows.texts, rows.both]))
    codes = Codes(np.zeros((n, start.top_k), np.int32), np.zeros((n, start.top_k), np.float32), start.n_concepts)
    found = encode(start, vectors[used])
    codes.indices[used], codes.values[used] = found.indices, found.values
    control = replace(inputs, codes=codes, dictionary=start.dictionary, rows=rows, evidence=evidence, effects=None)
    return pd.DataFrame(compute(control, of_untrained()))


def _thinned(rows: PairRows, evidence: Evidence | None, n: int) -> tuple[PairRows, Evidence | None]:
    """Two pictures of every so many with their captions, so that about CONTROL_SAMPLES samples of both halves stay."""
    step = -(-n // CONTROL_SAMPLES)
    kept = np.zeros(n, bool)
    kept[rows.images[np.arange(len(rows.images)) // 2 % step == 0]] = True
    paired = kept[rows.pair_image]
    kept[rows.pair_text[paired]] = True
    if not len(rows.pair_image):
        kept[rows.texts[np.arange(len(rows.texts)) // 2 % step == 0]] = True
    thin = PairRows(
        rows.images[kept[rows.images]], rows.texts[kept[rows.texts]], rows.both[::step], rows.pair_image[paired],
        rows.pair_text[paired], rows.source,
    )  # fmt: skip
    return thin, None if evidence is None else replace(evidence, half=np.where(kept, evidence.half, -1).astype(np.int8))


def words_of_samples(texts: Sequence[str], rows: PairRows) -> list[list[str]]:
    """For each sample the text that names its concepts: its own, or those it is paired with."""
    of_image: dict[int, list[str]] = {}
    for image, text in zip(rows.pair_image.tolist(), rows.pair_text.tolist(), strict=True):
        of_image.setdefault(image, []).append(texts[text])
    return [[text] if text else of_image.get(row, []) for row, text in enumerate(texts)]


def neighbour_table(sae: Sae) -> np.ndarray:
    from analysis.concepts.neighbours import nearest_concepts

    return nearest_concepts(sae.dictionary, m=min(NEIGHBOURS_KEPT, sae.n_concepts - 1))
