"""What a second, contrastive model would call a concept: soft-WPMI of CLIP-Dissect (Oikarinen and Weng, arXiv 2204.10965).

CLIP-Dissect embeds each word by CLIP's text encoder. Here no model is loaded: a word is the mean of the caption embeddings
that hold it, and words and samples are centred in their modality, which closes the modality gap as well. Words are made from
one half of the pairs and asked about samples of the other, both ways: what a picture's own captions say does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.concepts.coherence import Centred
from analysis.concepts.evidence import Evidence
from analysis.concepts.held_out import place_of
from analysis.concepts.postings import build_postings
from analysis.sae.codes import Codes

TOP = 100  # strongest samples of a half; their weights fall from STRONGEST to WEAKEST, as in the published code
STRONGEST, WEAKEST = 0.998, 0.97
SHARPNESS = 10.0  # of the softmax over words
LEAST = 5  # samples of each half on which a concept must fire
MOST_WORDS, MOST_SAMPLES = 1000, 50_000  # the most frequent words; samples asked of each half
_TINY = 1e-7
_CELLS = 2**24


@dataclass(frozen=True)
class Dissection:
    """words (V,): columns of the evidence, the most frequent first; score (K, V): soft-WPMI, larger = fits better, rows of NaN
    for concepts that fire on too few samples."""

    words: np.ndarray
    score: np.ndarray

    def best(self) -> np.ndarray:
        """(K,) column of the word that fits best, -1 where nothing is known."""
        known = ~np.isnan(self.score).any(axis=1) if self.score.shape[1] else np.zeros(len(self.score), bool)
        found = np.full(len(self.score), -1, np.int64)
        found[known] = self.words[self.score[known].argmax(axis=1)]
        return found

    def standing(self, word: np.ndarray) -> np.ndarray:
        """(K,) share of the other words that fit less than a given one (column of the evidence): 1 = the best, about 0.5 = one
        that was drawn. NaN without a word, or where nothing is known."""
        place = {int(column): slot for slot, column in enumerate(self.words)}
        slot = np.asarray([place.get(int(column), -1) for column in word], np.int64)
        if len(self.words) < 2:
            return np.full(len(slot), np.nan)
        own = np.take_along_axis(self.score, np.maximum(slot, 0)[:, None], axis=1)
        below = (self.score < own).sum(axis=1) + 0.5 * ((self.score == own).sum(axis=1) - 1)
        return np.where((slot >= 0) & ~np.isnan(own[:, 0]), below / (len(self.words) - 1), np.nan)


def dissect(codes: Codes, evidence: Evidence, centred: Centred, modality: np.ndarray) -> Dissection:
    """soft-WPMI(w, k) = log p(w | B_k) - log p(w).

    p(w | B_k) is the product, over the strongest samples x of concept k, of 1 + p(x in B_k) (p(w | x) - 1); p(w | x) the
    softmax over words of SHARPNESS times the cosine; p(w) the mean of p(w | B_k) over concepts. A concept that fires on fewer
    than TOP samples of a half counts as if they were TOP, by the mean of the logarithms; the halves are averaged.

    codes (N, K); centred: the second model's embeddings, groups pictures and captions; modality (K,): a concept is asked
    about where it lives, see `held_out.place_of`.
    """
    often = np.asarray(evidence.words[evidence.half >= 0].sum(axis=0)).ravel()
    words = np.argsort(-often, kind="stable")[:MOST_WORDS]
    given = np.zeros((codes.n_concepts, len(words)), np.float32)
    told = np.zeros(codes.n_concepts, np.int64)
    there = centred.present() & (evidence.half >= 0)
    place = place_of(np.asarray(modality, float))
    for half in (0, 1) if len(words) else ():
        named = _named(evidence, words, centred, np.flatnonzero(there & (evidence.half != half) & ~evidence.is_image))
        asked = np.flatnonzero(there & (evidence.half == half))
        if len(asked) > MOST_SAMPLES:
            asked = np.sort(np.random.default_rng(half).choice(asked, MOST_SAMPLES, replace=False))
        chance = _chance(evidence, centred, asked, named)
        for where, counts in enumerate(
            (evidence.is_image[asked], ~evidence.is_image[asked], np.ones(len(asked), bool))
        ):
            here = np.flatnonzero(counts)
            _add(given, told, codes[asked[here]], chance[here], np.flatnonzero(place == where))
    known = told == 2
    score = np.full(given.shape, np.nan, np.float32)
    if known.any():
        given = given[known] / 2
        loudest = given.max(axis=0)
        score[known] = given - loudest - np.log(np.exp(given - loudest).mean(axis=0, dtype=np.float64))
    return Dissection(words, score)


def _named(evidence: Evidence, words: np.ndarray, centred: Centred, captions: np.ndarray) -> np.ndarray:
    """(V, D) unit direction of every word: the mean of the captions that hold it."""
    holds = evidence.words[captions][:, words]
    total = holds.T.tocsr() @ centred.unit(1, captions)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 1e-12)


def _chance(evidence: Evidence, centred: Centred, rows: np.ndarray, named: np.ndarray) -> np.ndarray:
    """(n, V) float32 p(w | x) of some samples."""
    found = np.empty((len(rows), len(named)), np.float32)
    for group, which in enumerate((evidence.is_image[rows], ~evidence.is_image[rows])):
        here = np.flatnonzero(which)
        for start in range(0, len(here), 8192):
            part = here[start : start + 8192]
            cosine = SHARPNESS * (centred.unit(group, rows[part]) @ named.T)
            cosine = np.exp(cosine - cosine.max(axis=1, keepdims=True, initial=-np.inf))
            found[part] = cosine / cosine.sum(axis=1, keepdims=True)
    return found


def _add(given: np.ndarray, told: np.ndarray, codes: Codes, chance: np.ndarray, concepts: np.ndarray) -> None:
    """Add log p(w | B_k) of some concepts, from the samples of one half and place."""
    posted = build_postings(codes)
    counts = np.minimum(np.diff(posted.offsets)[concepts], TOP)
    step = max(1, _CELLS // max(chance.shape[1], 1))
    for n in np.unique(counts[counts >= LEAST]):
        weight = (STRONGEST - np.arange(n) / TOP * (STRONGEST - WEAKEST)).astype(np.float32)[:, None]
        ids = concepts[counts == n]
        for start in range(0, len(ids), max(1, step // int(n))):
            block = ids[start : start + max(1, step // int(n))]
            rows = posted.sample_rows[posted.offsets[block][:, None] + np.arange(n)]
            fits = np.log(1 + weight * (chance[rows] - 1) + _TINY)
            given[block] += TOP / n * fits.sum(axis=1)
            told[block] += 1
