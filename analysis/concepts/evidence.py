"""What the names of concepts are tested on: the words of every sample, and two halves of the samples that share no pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from analysis.concepts.names import words_of

LEAST = 10  # samples that a word must stand in to be a candidate: about five in each half


@dataclass(frozen=True)
class Evidence:
    """words (N, V) float32 of 0 and 1: which word stands in the text of a sample, or in a caption of its picture; spelled
    (V,); half (N,) int8: 0 or 1, -1 for a sample that does not count (in no pair, or without words); is_image (N,) bool."""

    words: sp.csr_array
    spelled: np.ndarray
    half: np.ndarray
    is_image: np.ndarray


def gather_evidence(texts: Sequence[Sequence[str]], group: np.ndarray, is_image: np.ndarray) -> Evidence:
    """texts: for each sample its own text, or the captions of its picture; group (N,): samples of one pair share a number,
    -1 does not count. Groups are halved in turn, in the order of their numbers. Words without content (articles,
    pronouns, prepositions ...) and those in fewer than LEAST samples are left out."""
    vocabulary: dict[str, int] = {}
    columns: list[int] = []
    ends = [0]
    for row, said in enumerate(texts):
        if group[row] >= 0:
            present = {word for text in said for word in words_of(text)}
            columns.extend(vocabulary.setdefault(word, len(vocabulary)) for word in sorted(present))
        ends.append(len(columns))
    shape = (len(texts), max(len(vocabulary), 1))
    words = sp.csr_array(
        (np.ones(len(columns), np.float32), np.asarray(columns, np.int64), np.asarray(ends)), shape=shape
    )
    spelled = np.asarray([*vocabulary, *([] if vocabulary else [""])])
    often = np.bincount(words.indices, minlength=shape[1]) >= LEAST
    words, spelled = sp.csr_array(words[:, np.flatnonzero(often)]), spelled[often]
    counts = (np.asarray(group) >= 0) & (np.diff(ends) > 0)
    half = np.full(len(texts), -1, np.int8)
    place = np.unique(np.asarray(group)[counts], return_inverse=True)[1]
    half[counts] = place % 2
    return Evidence(words, spelled, half, np.asarray(is_image, bool))
