"""Automatic names: the words that set a concept's strongest examples apart from all captions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from analysis.concepts.postings import build_postings
from analysis.sae.codes import Codes

EXAMPLES = 20  # strongest samples a name is made of
WORDS = 3  # words in a name
PRIOR = 0.05  # pseudo-counts a word of the background gets in an average name's text: shrinks rare words
STOP_WORDS = frozenset(  # articles, prepositions, pronouns, and what captions of any picture say
    "a an the and or of in on at to by with from for is are be there it its this that these those as into some two "
    "one has have his her their while he she they we you can seen picture image photo scene showing shows".split()
)


def words_of(text: str) -> list[str]:
    """Lower-case words of a caption without stop words; letters of any script and digits count."""
    return [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in STOP_WORDS]


def name_concepts(
    codes: Codes, captions: Sequence[Sequence[str]], *, n_concepts: int, examples: int = EXAMPLES, words: int = WORDS
) -> list[str]:
    """One name per concept: its most characteristic words, "" for a concept that never fires or has no words.

    codes: N samples; captions: for each sample its own text, or the captions of its picture. A word counts once a
    sample, weighted by the concept's activation there. Words are ranked by the log-odds of the strongest `examples`
    against all samples, each standardised by its variance under an informative Dirichlet prior (Monroe et al. 2008),
    so that neither frequent nor unique words win by themselves. Words must stand in at least two examples, where there
    are two.
    """
    vocabulary: dict[str, int] = {}
    matrix = _word_matrix(captions, vocabulary)
    if not vocabulary:
        return [""] * n_concepts
    background = np.asarray(matrix.sum(axis=0), np.float64).ravel()
    spelled = np.asarray(list(vocabulary))
    postings = build_postings(codes)
    names = []
    for concept in range(n_concepts):
        rows, values = postings.rows(concept)
        names.append(_name(rows[:examples], values[:examples], matrix, background, spelled, words))
    return names


def _name(
    rows: np.ndarray,
    values: np.ndarray,
    matrix: sp.csr_array,
    background: np.ndarray,
    spelled: np.ndarray,
    words: int,
) -> str:
    if not len(rows):
        return ""
    found = matrix[rows]
    weight = np.asarray(values, np.float64) * len(values) / max(float(values.sum()), 1e-12)
    counts = found.T @ weight
    candidates = np.flatnonzero(counts)
    if not len(candidates):
        return ""
    spread = np.bincount(found.indices, minlength=len(background))[candidates]
    if len(rows) > 1 and (spread > 1).any():
        candidates = candidates[spread > 1]
    total, n_background = counts.sum(), background.sum()
    prior = PRIOR * total * background[candidates] / n_background + 1e-9
    mine, theirs = counts[candidates] + prior, background[candidates] + prior
    mass = PRIOR * total
    odds = np.log(mine / np.maximum(total + mass - mine, 1e-9)) - np.log(
        theirs / np.maximum(n_background + mass - theirs, 1e-9)
    )
    z = odds / np.sqrt(1 / mine + 1 / theirs)
    chosen: list[str] = []
    for place in np.lexsort((candidates, -z))[: 4 * words]:
        word = str(spelled[candidates[place]])
        if z[place] > 0 and len(chosen) < words and not any(_same_noun(word, other) for other in chosen):
            chosen.append(word)
    return ", ".join(chosen)


def _same_noun(a: str, b: str) -> bool:
    """ "cat" and "cats", "box" and "boxes": one of them says enough."""
    short, long = sorted((a, b), key=len)
    return long in (short, f"{short}s", f"{short}es")


def _word_matrix(captions: Sequence[Sequence[str]], vocabulary: dict[str, int]) -> sp.csr_array:
    """(N, V) presence of words, filling the vocabulary in order of first appearance."""
    indices: list[int] = []
    ends = [0]
    for texts in captions:
        present = {word for text in texts for word in words_of(text)}
        indices.extend(vocabulary.setdefault(word, len(vocabulary)) for word in sorted(present))
        ends.append(len(indices))
    shape = (len(captions), max(len(vocabulary), 1))
    return sp.csr_array(
        (np.ones(len(indices), np.float32), np.asarray(indices, np.int64), np.asarray(ends)), shape=shape
    )
