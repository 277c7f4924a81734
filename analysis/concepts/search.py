"""Ranked search over concepts: their names, and the captions they fire on, weighted by how strongly they do.

TF-IDF with cosine (scikit-learn) on whole words, singular and plural alike: a concept is a text in which a word counts as
much as the activation of the samples that say it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from analysis.concepts.names import FUNCTION_WORDS

EXAMPLES = 20  # strongest samples whose words count
NAME_WEIGHT = 0.5  # of a word of the name, as a share of all that its captions can say of a word
LABEL_SCORE = 2.0  # a word in somebody's label outranks whatever captions say


def tokens(text: str) -> list[str]:
    """Lower-case words, plurals as their singulars: "Two boxes, dogs" -> two, box, dog."""
    return [_singular(word) for word in re.findall(r"[^\W_]+", text.lower())]


def sought(words: str) -> list[str]:
    """What a search is for: its words without articles, prepositions and their like, which half of all captions hold; where
    it has no others, those."""
    every = list(dict.fromkeys(tokens(words)))
    return [word for word in every if word not in FUNCTION_WORDS] or every


@dataclass(frozen=True)
class Index:
    """weights (K, V): unit rows of TF-IDF, by concept and word; vocabulary: word -> column."""

    weights: sp.csc_array
    vocabulary: dict[str, int]

    def search(self, words: str, labels: Mapping[int, str] | None = None) -> np.ndarray:
        """(K,) how well each concept fits, 0 where a word is missing in its name, captions and label. A bare number finds
        the concept of that id, above all others."""
        n_concepts = self.weights.shape[0]
        wanted = sought(words)
        score = np.zeros(n_concepts)
        if not wanted:
            return score
        found = np.zeros((len(wanted), n_concepts))
        for slot, word in enumerate(wanted):
            column = self.vocabulary.get(word)
            if column is not None:
                part = self.weights[:, [column]].tocoo()
                found[slot, part.row] = part.data
        for concept, label in (labels or {}).items():
            said = set(tokens(label))
            if concept < n_concepts:
                for slot, word in enumerate(wanted):
                    found[slot, concept] += LABEL_SCORE * (word in said)
        score = np.where((found > 0).all(axis=0), found.sum(axis=0), 0)
        if len(wanted) == 1 and wanted[0].isdecimal() and int(wanted[0]) < n_concepts:
            score[int(wanted[0])] = score.max() + LABEL_SCORE
        return score


def build_index(
    offsets: np.ndarray, rows: np.ndarray, values: np.ndarray, texts: Sequence[str] | np.ndarray, names: Sequence[str]
) -> Index:
    """offsets (K+1,), rows, values: postings, strongest first; texts (N,): what each sample says, or its picture's caption;
    names (K,)."""
    from sklearn.feature_extraction.text import TfidfTransformer

    starts, n_concepts = np.asarray(offsets[:-1]), len(offsets) - 1
    counts = np.minimum(np.diff(offsets), EXAMPLES)
    owner = np.repeat(np.arange(n_concepts), counts)
    slots = np.repeat(starts, counts) + np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen, weight = np.asarray(rows)[slots], np.asarray(values, np.float64)[slots]
    total = np.bincount(owner, weights=weight, minlength=n_concepts)
    weight /= np.maximum(total, 1e-12)[owner]  # the samples of a concept add up to 1
    vocabulary: dict[str, int] = {}
    of_row = {int(row): _columns(texts[row], vocabulary) for row in np.unique(chosen)}
    said = [of_row[int(row)] for row in chosen]
    named = [_columns(name, vocabulary) for name in names]
    lengths = [len(columns) for columns in said]
    where = np.concatenate([np.repeat(owner, lengths), np.repeat(np.arange(n_concepts), [len(part) for part in named])])
    what = np.concatenate([np.empty(0, np.int64), *said, *named]).astype(np.int64)
    much = np.concatenate([np.repeat(weight, lengths), np.full(len(where) - sum(lengths), NAME_WEIGHT)])
    shape = (n_concepts, max(len(vocabulary), 1))
    mass = sp.coo_array((much, (where, what)), shape=shape).tocsr()
    return Index(sp.csc_array(TfidfTransformer().fit_transform(mass)), vocabulary)


def highlighted(text: str, words: str, marks: tuple[str, str] = ("‹", "›")) -> str:
    """The text with the words that were searched for between marks."""
    wanted = set(sought(words))
    return re.sub(
        r"[^\W_]+", lambda m: f"{marks[0]}{m[0]}{marks[1]}" if _singular(m[0].lower()) in wanted else m[0], text
    )


def why(words: str, name: str, label: str, captions: Sequence[str]) -> str:
    """Why a concept was found, in one line: label or name that says a word, how many of its strongest captions do, and the
    first of them with the words marked."""
    wanted = set(sought(words))
    parts = []
    for kind, text in (("label", label), ("name", name if name != label else "")):
        if wanted & set(tokens(text)):
            parts.append(f"{kind}: {highlighted(text, words)}")
    saying = [text for text in captions if wanted & set(tokens(text))]
    if saying:
        best = max(saying, key=lambda text: len(wanted & set(tokens(text))))
        parts.append(f"{len(saying)} of {len(captions)} captions: {_around(highlighted(best, words))}")
    return " · ".join(parts) or ("its number" if words.strip().isdecimal() else "")


def _around(marked: str, before: int = 24) -> str:
    """A text from shortly before its first mark on, so that a narrow column shows it."""
    start = marked.find("‹") - before
    cut = marked.find(" ", start) + 1 if start > 0 else 0
    return f"… {marked[cut:]}" if 0 < cut <= start + before else marked


def _columns(text: str, vocabulary: dict[str, int]) -> np.ndarray:
    return np.asarray([vocabulary.setdefault(word, len(vocabulary)) for word in dict.fromkeys(tokens(text))], np.int64)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("xes", "ses", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
