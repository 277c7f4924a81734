"""Search finds whole words, ranks by how strongly they are meant, and says why; co-activation is a cosine."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from analysis.concepts.coactivation import lengths, together
from analysis.concepts.postings import build_postings
from analysis.concepts.search import Index, build_index, highlighted, tokens, why
from analysis.sae.codes import Codes

TEXTS = ["a dog on grass", "two dogs", "a cat on grass", "hot dogma", "a red car on grass", "boxes of pears"]


def index() -> Index:
    """0: dogs strongly and one cat weakly; 1: cats and one dog weakly; 2: dogma; 3: grass of all kinds; 4: never."""
    dense = np.zeros((6, 5), np.float32)
    dense[[0, 1], 0], dense[2, 0] = 1, 0.1
    dense[2, 1], dense[0, 1] = 1, 0.2
    dense[3, 2] = 1
    dense[[0, 2, 4], 3] = 1
    postings = build_postings(Codes.from_csr(sp.csr_array(dense), top_k=5))
    return build_index(postings.offsets, postings.sample_rows, postings.values, TEXTS, ["", "", "", "grass", ""])


def test_words_are_whole_and_ranked_by_activation() -> None:
    score = index().search("DOGS")
    assert np.argsort(-score)[:2].tolist() == [0, 3] or score[0] == score.max()
    assert score[0] > score[1] > 0
    assert score[2] == score[4] == 0, "dogma is no dog"


def test_every_word_must_be_there() -> None:
    score = index().search("cat dog")
    assert (score > 0).tolist() == [True, True, False, True, False]
    assert not index().search("dog unicorn").any()
    assert not index().search("").any()


def test_articles_and_prepositions_of_a_sentence_do_not_count() -> None:
    assert index().search("the dog with a").tolist() == index().search("dog").tolist()
    assert (index().search("on the grass") > 0).tolist() == (index().search("grass") > 0).tolist()
    assert (index().search("on") > 0).any(), "alone they are what is looked for"
    assert highlighted("a dog on grass", "a dog on the beach") == "a ‹dog› on grass"
    assert "‹on›" not in why("a dog on the beach", "", "", TEXTS[:1])


def test_a_name_and_a_label_outrank_captions() -> None:
    assert index().search("grass").argmax() == 3
    assert index().search("grass", {2: "grass snake"}).argmax() == 2
    assert index().search("grass", {77: "grass"})[3] > 0, "a label of a concept that is gone hurts nobody"


def test_a_number_finds_its_concept() -> None:
    assert index().search("4").argmax() == 4


def test_rank_is_the_cosine_of_tfidf() -> None:
    """Against the definition: weights that add up to 1 a concept, smooth idf, unit rows."""
    made = index()
    row = made.weights[[1]].toarray()[0]
    mass = {"a": 1.0, "cat": 1 / 1.2, "on": 1.0, "grass": 1.0, "dog": 0.2 / 1.2}
    df = {"a": 3, "cat": 3, "on": 3, "grass": 3, "dog": 3}
    raw = {word: share * (np.log(6 / (1 + df[word])) + 1) for word, share in mass.items()}
    norm = np.sqrt(sum(value**2 for value in raw.values()))
    for word, value in raw.items():
        assert abs(row[made.vocabulary[word]] - value / norm) < 1e-6


def test_why_names_the_reason_and_marks_the_word() -> None:
    said = why("dog", "dog, grass", "", ["two dogs", "a cat", "hot dogma"])
    assert said == "name: ‹dog›, grass · 1 of 3 captions: two ‹dogs›"
    long = "a picture of a very small and very old house beside one dog"
    assert why("dog", "", "", [long]) == "1 of 1 captions: … old house beside one ‹dog›"
    assert why("dog", "", "good dogs", []) == "label: good ‹dogs›"
    assert why("7", "", "", []) == "its number"


def test_tokens_fold_plurals_only() -> None:
    assert tokens("Boxes, berries; DOGS glass bus is") == ["box", "berry", "dog", "glass", "bus", "is"]
    assert highlighted("Dogma of dogs", "dog") == "Dogma of ‹dogs›"


def test_together_is_the_cosine_of_activations() -> None:
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((50, 6)) < 0.4, rng.random((50, 6)), 0).astype(np.float32)
    dense[:, 5] = 0
    codes = Codes.from_csr(sp.csr_array(dense), top_k=6)
    some = np.arange(0, 50, 2)
    fired = some[dense[some, 1] > 0]
    found = together(codes, fired, dense[fired, 1], lengths(codes, some))
    z = dense[some].astype(float)
    expected = z.T @ z[:, 1] / np.maximum(np.linalg.norm(z, axis=0) * np.linalg.norm(z[:, 1]), 1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-6)
