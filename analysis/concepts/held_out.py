"""May the name of a concept be believed? Its word is chosen on one half of the samples and tested on the other, both ways.

Naive measures deceive: top examples of an untrained SAE share words and directions, too. A word that says on *unseen*
samples where a concept fires is what tells a trained one from it. A concept is judged where it lives: one of pictures
on pictures, one of captions on captions, one of both on both, each modality weighing the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from analysis.concepts.evidence import Evidence
from analysis.concepts.metrics import IMAGE_TO, TEXT_FROM
from analysis.concepts.names import same_noun, words_of
from analysis.sae.codes import Codes

FIRES = 0.5  # of its maximum: what counts as firing when a word is judged
SUPPORTED_F1, SUPPORTED_AUROC = 0.5, 0.75  # what a word must reach on samples that did not choose it, to be a name
CANDIDATES = 3  # best words of each half that may become part of a name
_CELLS = 2**24  # of a block concepts x words


@dataclass(frozen=True)
class HeldOut:
    """Per concept, NaN (word: -1, name: "") where it cannot be tested: it never fires in a half, or there are no words.

    f1, auroc, purity (K,): means over both directions. f1: of "fires at half its maximum or more" for "the word is
    there"; auroc: of the activation for the word; purity: share of the activation on samples with the word, less chance
    (0 = as everywhere, 1 = always), the word being the one with the largest such share in the other half. word (K,) the
    better of the two chosen words, a column of the evidence; name (K,): up to three supported words.
    """

    f1: np.ndarray
    auroc: np.ndarray
    purity: np.ndarray
    word: np.ndarray
    name: np.ndarray


def place_of(modality: np.ndarray) -> np.ndarray:
    """(K,) where a concept is judged, from its modality score: 0 = pictures, 1 = captions, 2 = both (also without a score)."""
    return np.where(modality <= IMAGE_TO, 0, np.where(modality >= TEXT_FROM, 1, 2))


def hold_out(codes: Codes, evidence: Evidence, modality: np.ndarray) -> HeldOut:
    """Choose and test the words of every concept. codes (N, K); modality (K,): modality scores, NaN where there is none."""
    n_concepts = codes.n_concepts
    f1, auroc, purity = np.full((3, 2, n_concepts), np.nan)  # [half on which the word was chosen]
    chosen = np.full((2, n_concepts), -1, np.int64)
    names = np.full(n_concepts, "", object)
    if len(evidence.spelled):
        for place, weight in enumerate(_weights(evidence)):
            concepts = np.flatnonzero(place_of(np.asarray(modality, float)) == place)
            sides = [np.flatnonzero((evidence.half == half) & (weight > 0)) for half in (0, 1)]
            if len(concepts) and all(map(len, sides)):
                halves = [_Half(codes, evidence, weight, rows, concepts) for rows in sides]
                for ids, found in _compare(halves):
                    f1[:, concepts[ids]], auroc[:, concepts[ids]], purity[:, concepts[ids]] = found.numbers
                    chosen[:, concepts[ids]] = found.best
                    names[concepts[ids]] = found.names(evidence.spelled)
    better = np.where(np.nan_to_num(f1[1], nan=-1) > np.nan_to_num(f1[0], nan=-1), chosen[1], chosen[0])
    return HeldOut(f1.mean(axis=0), auroc.mean(axis=0), purity.mean(axis=0), better, names.astype(str))


def word_f1(
    strength: sp.csr_array, words: sp.csr_array, weight: np.ndarray, peak: np.ndarray | None = None
) -> np.ndarray:
    """(K, V) F1 of "fires at half of its maximum or more" for "the word is there". strength (N, K) activations, words
    (N, V) of 0 and 1, weight (N,) of the samples; peak (K,): the maxima, of these samples unless given."""
    return _f1(*_overlap(_fires(strength, weight, peak), words, weight))


def label_f1(codes: Codes, evidence: Evidence, concept: int, modality: float, label: str) -> float:
    """F1 of "fires at half its maximum or more" for the words of a label whose giver saw the first half alone: on the second
    half. Which of its words, or all together, is chosen on the first. NaN where none of them is known, or the concept
    fires in one half only."""
    wanted = words_of(label)
    columns = [[slot for slot, word in enumerate(evidence.spelled) if same_noun(str(word), one)] for one in wanted]
    columns = [found for found in columns if found]
    if not columns:
        return float("nan")
    there = [np.asarray(evidence.words[:, found].sum(axis=1)).ravel() > 0 for found in columns]
    candidates = sp.csr_array(np.stack([*there, np.all(there, axis=0)], axis=1).astype(np.float64))
    weight = _weights(evidence)[int(place_of(np.asarray([modality]))[0])]
    found = []
    for half in (0, 1):
        rows = np.flatnonzero((evidence.half == half) & (weight > 0))
        strength = sp.csr_array(sp.csc_array(codes[rows].to_csr().astype(np.float64))[:, [concept]])
        if not strength.nnz or not len(rows):
            return float("nan")
        found.append(word_f1(strength, sp.csr_array(candidates[rows]), weight[rows])[0])
    return float(found[1][int(np.argmax(found[0]))])


def _weights(evidence: Evidence) -> list[np.ndarray]:
    """Weights of the samples for concepts of pictures, of captions, and of both: modalities then weigh the same."""
    counts = evidence.half >= 0
    image, text = counts & evidence.is_image, counts & ~evidence.is_image
    ratio = text.sum() / max(image.sum(), 1) if text.any() else 1.0
    return [image.astype(float), text.astype(float), np.where(image, ratio, text.astype(float))]


def _fires(strength: sp.csr_array, weight: np.ndarray, peak: np.ndarray | None = None) -> sp.csr_array:
    """(N, K) the weight of a sample where a concept fires at half of its maximum or more."""
    found = strength.tocoo()
    if peak is None:
        peak = np.zeros(strength.shape[1])
        np.maximum.at(peak, found.col, found.data)
    keep = (found.data > 0) & (found.data >= FIRES * peak[found.col])
    return sp.csr_array((weight[found.row[keep]], (found.row[keep], found.col[keep])), shape=strength.shape)


def _overlap(fires: sp.csr_array, words: sp.csr_array, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """((K, V) weight of both, (K,) of firing, (V,) of the word)."""
    both = (fires.T.tocsr() @ words).toarray()
    return both, np.asarray(fires.sum(axis=0)).ravel(), np.asarray(weight @ words).ravel()


def _f1(both: np.ndarray, fired: np.ndarray, there: np.ndarray) -> np.ndarray:
    return 2 * both / np.maximum(fired[:, None] + there[None], 1e-12)


class _Half:
    """One half of the samples of one place, as seen by its concepts (numbered from 0)."""

    def __init__(
        self, codes: Codes, evidence: Evidence, weight: np.ndarray, rows: np.ndarray, concepts: np.ndarray
    ) -> None:
        self.words = sp.csr_array(evidence.words[rows].astype(np.float64))
        self.weight = weight[rows]
        self.strength = sp.csc_array(codes[rows].to_csr().astype(np.float64))[:, concepts]
        self.there = np.asarray(self.weight @ self.words).ravel()
        self.total = float(self.weight.sum())

    def block(self, ids: slice) -> _Block:
        strength = sp.csr_array(self.strength[:, ids])
        both, fired, there = _overlap(_fires(strength, self.weight), self.words, self.weight)
        chance = fired[:, None] * there[None] / max(self.total, 1e-12)
        f1 = _f1(both, fired, there)
        mass = sp.csr_array(strength.multiply(self.weight[:, None]))
        inside = (mass.T.tocsr() @ self.words).toarray()
        share = inside / np.maximum(np.asarray(mass.sum(axis=0)).ravel(), 1e-12)[:, None]
        base = there / max(self.total, 1e-12)
        purity = (share - base) / np.maximum(1 - base, 1e-12)
        return _Block(self, strength, f1, f1 - _f1(chance, fired, there), purity, fired > 0)


@dataclass(frozen=True)
class _Block:
    """Some concepts in one half: f1, lift (F1 less that of a concept that fires as often at random) and purity (k, V)."""

    half: _Half
    strength: sp.csr_array
    f1: np.ndarray
    lift: np.ndarray
    purity: np.ndarray
    fires: np.ndarray

    def auroc(self, word: np.ndarray) -> np.ndarray:
        """(k,) weighted AUROC of the activation of concept i for word[i]; ties (mostly 0) count half. NaN where the word
        stands in no sample, or in all."""
        half, n = self.half, self.strength.shape[1]
        positives = half.there[word]
        negatives = half.total - positives
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(
                (positives > 0) & (negatives > 0),
                self._won(word, n, positives, negatives) / (positives * negatives),
                np.nan,
            )

    def _won(self, word: np.ndarray, n: int, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        """(k,) weight of pairs (sample with the word, sample without) of which the first has the larger activation."""
        half, found = self.half, self.strength.tocoo()
        if not len(found.data):
            return positives * negatives / 2
        order = np.lexsort((-found.data, found.col))
        concept, row, value = found.col[order], found.row[order], found.data[order]
        hit = np.asarray(half.words[row, word[concept]]).ravel() * half.weight[row]
        # Groups of equal activation: each hit beats the misses below its group and half of those in it.
        start = np.flatnonzero(np.r_[True, (concept[1:] != concept[:-1]) | (value[1:] != value[:-1])])
        owner = concept[start]
        hits, misses = (np.add.reduceat(part, start) for part in (hit, half.weight[row] - hit))
        running = np.cumsum(misses)
        first = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
        before = np.zeros(n)
        before[owner[first]] = running[first] - misses[first]
        above = running - misses - before[owner]  # misses with a larger activation of the same concept
        won = np.bincount(owner, weights=hits * (negatives[owner] - above - misses / 2), minlength=n)
        silent = [
            total - np.bincount(owner, weights=part, minlength=n)
            for total, part in ((positives, hits), (negatives, misses))
        ]
        return won + silent[0] * silent[1] / 2


@dataclass(frozen=True)
class _Found:
    """numbers: f1, auroc, purity, (2, k) each, first index = the half that chose; best (2, k); candidates (2, k, c) columns
    with their F1 and AUROC in the other half."""

    numbers: tuple[np.ndarray, np.ndarray, np.ndarray]
    best: np.ndarray
    candidates: np.ndarray
    tested_f1: np.ndarray
    tested_auroc: np.ndarray

    def names(self, spelled: np.ndarray) -> list[str]:
        """Supported words, the best first; a word that one half rejects is no part of a name."""
        names = []
        for i in range(self.candidates.shape[1]):
            scores: dict[int, float] = {}
            refused: set[int] = set()
            for half in (0, 1):
                for word, f1, auroc in zip(
                    self.candidates[half, i], self.tested_f1[half, i], self.tested_auroc[half, i], strict=True
                ):
                    if f1 >= SUPPORTED_F1 and auroc >= SUPPORTED_AUROC:
                        scores[int(word)] = max(scores.get(int(word), 0), float(f1))
                    else:
                        refused.add(int(word))
            kept = sorted((word for word in scores if word not in refused), key=lambda word: (-scores[word], word))
            names.append(_joined([str(spelled[word]) for word in kept]))
        return names


def _joined(words: list[str]) -> str:
    chosen: list[str] = []
    for word in words:
        if len(chosen) < CANDIDATES and not any(same_noun(word, other) for other in chosen):
            chosen.append(word)
    return ", ".join(chosen)


def _compare(halves: list[_Half]) -> Iterator[tuple[slice, _Found]]:
    n_concepts, n_words = halves[0].strength.shape[1], halves[0].words.shape[1]
    step = max(1, _CELLS // n_words)
    for start in range(0, n_concepts, step):
        ids = slice(start, min(start + step, n_concepts))
        blocks = [half.block(ids) for half in halves]
        yield ids, _judge(blocks)


def _judge(blocks: list[_Block]) -> _Found:
    k, n_words = blocks[0].f1.shape
    at, many = np.arange(k), min(CANDIDATES, n_words)
    known = blocks[0].fires & blocks[1].fires
    f1, auroc, purity = np.full((3, 2, k), np.nan)
    best = np.full((2, k), -1, np.int64)
    candidates = np.zeros((2, k, many), np.int64)
    tested_f1, tested_auroc = np.zeros((2, 2, k, many))
    for half, (here, there) in enumerate((blocks, blocks[::-1])):
        top = (
            np.argpartition(-here.lift, many - 1, axis=1)[:, :many]
            if n_words > many
            else np.tile(np.arange(many), (k, 1))
        )
        order = np.lexsort((top, -np.take_along_axis(here.lift, top, axis=1)), axis=1)
        candidates[half] = np.take_along_axis(top, order, axis=1)
        for slot in range(many):
            word = candidates[half, :, slot]
            tested_f1[half, :, slot] = np.where(known, there.f1[at, word], 0)
            tested_auroc[half, :, slot] = np.where(known, np.nan_to_num(there.auroc(word)), 0)
        best[half] = np.where(known, candidates[half, :, 0], -1)
        f1[half] = np.where(known, tested_f1[half, :, 0], np.nan)
        auroc[half] = np.where(known, there.auroc(candidates[half, :, 0]), np.nan)
        purity[half] = np.where(known, there.purity[at, here.purity.argmax(axis=1)], np.nan)
    return _Found((f1, auroc, purity), best, candidates, tested_f1, tested_auroc)
