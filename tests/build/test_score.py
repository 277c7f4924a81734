import numpy as np
import pytest
import scipy.sparse as sp

from analysis.build import score
from analysis.build.score import (
    FROM_CAPTIONS,
    caption_pairs,
    evidence_of,
    retrieval_pairs,
    score_tables,
    untrained_table,
    words_of_samples,
)
from analysis.concepts import bridges as bridges_module
from analysis.concepts.scores import ScoreInputs, compute, controlled
from analysis.sae.checkpoint import Sae
from analysis.sae.codes import Codes
from analysis.sae.encode import encode
from analysis.store.schema import BRIDGE_COLUMNS, NO_PAIRS, concept_columns

IMAGE, TEXT, BOTH = "image", "text", "image_text"


def codes_of(dense):
    return Codes.from_csr(sp.csr_array(np.asarray(dense, np.float32)), top_k=3)


def test_every_caption_is_paired_with_its_image():
    rows = caption_pairs(np.array([0, 0, 0, 1, 1, -1, -1]), np.array([IMAGE, TEXT, TEXT, IMAGE, TEXT, TEXT, IMAGE]))
    assert rows.images.tolist() == [0, 3]
    assert rows.texts.tolist() == [1, 2, 4]
    assert list(zip(rows.pair_image, rows.pair_text, strict=True)) == [(0, 1), (0, 2), (3, 4)]
    assert rows.source == FROM_CAPTIONS


def test_a_caption_whose_image_is_gone_counts_but_has_no_pair():
    rows = caption_pairs(np.array([0, 1, 1]), np.array([TEXT, IMAGE, TEXT]))
    assert rows.texts.tolist() == [0, 2]
    assert rows.pair_text.tolist() == [2]
    alone = caption_pairs(np.array([0, 0]), np.array([TEXT, TEXT]))
    assert alone.source == NO_PAIRS


def test_queries_and_targets_are_pairs_in_both_directions_and_once():
    modality = np.array([IMAGE, TEXT, TEXT, BOTH, IMAGE])
    i2t = ("i2t", [0, 4], [1, 2], sp.csr_array(np.array([[1, 0], [0, 1]])))
    t2i = ("t2i", [1, 2], [0, 4], sp.csr_array(np.array([[1, 0], [1, 0]])))
    it2i = ("it2i", [3], [0, 4], sp.csr_array(np.array([[1, 1]])))
    rows = retrieval_pairs(modality, [i2t, t2i, it2i])
    assert list(zip(rows.pair_image, rows.pair_text, strict=True)) == [(0, 1), (0, 2), (4, 2)]
    assert (rows.images.tolist(), rows.texts.tolist(), rows.both.tolist()) == ([0, 4], [1, 2], [3])
    assert rows.source == "queries and targets of i2t, t2i"
    none = retrieval_pairs(modality, [it2i])
    assert none.source == NO_PAIRS
    assert len(none.pair_image) == 0


def test_image_and_text_samples_have_no_share_in_a_modality_score():
    modality = np.array([IMAGE, TEXT, BOTH])
    codes = codes_of([[1, 0, 0, 0], [1, 2, 0, 0], [4, 0, 3, 0]])
    pairs = [("i2t", [0], [1], sp.csr_array(np.ones((1, 1))))]
    table, _ = score_tables(ScoreInputs(codes, np.eye(4), retrieval_pairs(modality, pairs)))
    np.testing.assert_allclose(table["modality_score"], [0.5, 1, np.nan, np.nan])
    np.testing.assert_allclose(table["energy"], [2, 2 / 3, 1, 0])
    np.testing.assert_allclose(table["energy_image"], [1, 0, 0, 0])
    np.testing.assert_allclose(table["frequency"], [1, 1 / 3, 1 / 3, 0])


def test_balanced_energy_is_the_mean_of_the_modalities_that_occur():
    codes = codes_of([[3, 0], [1, 0], [1, 2]])
    rows = caption_pairs(np.array([0, 0, 0]), np.array([IMAGE, TEXT, TEXT]))
    table, _ = score_tables(ScoreInputs(codes, np.eye(2), rows, weighting="balanced"))
    np.testing.assert_allclose(table["energy"], [(3 + 1) / 2, (0 + 1) / 2])
    plain, _ = score_tables(ScoreInputs(codes, np.eye(2), rows))
    np.testing.assert_allclose(plain["energy"], [5 / 3, 2 / 3])


@pytest.mark.parametrize("modality", [[IMAGE, IMAGE, IMAGE], [TEXT, TEXT, TEXT], [BOTH, IMAGE, IMAGE]])
def test_without_one_modality_no_concept_has_a_modality_score(modality):
    codes = codes_of([[1, 0], [2, 1], [0, 1]])
    table, _ = score_tables(ScoreInputs(codes, np.eye(2), retrieval_pairs(np.array(modality), [])))
    assert list(table.columns) == list(concept_columns())
    assert table["modality_score"].isna().all()
    assert table[["attribution", "attribution_image", "attribution_text", "bridge_max"]].isna().all(axis=None)
    assert (table["bridge_partner"] == -1).all()
    assert (table["energy"] > 0).all()


def test_without_pairs_the_bridge_table_is_empty_and_complete():
    codes = codes_of([[1, 0], [2, 1]])
    _, table = score_tables(ScoreInputs(codes, np.eye(2), retrieval_pairs(np.array([IMAGE, IMAGE]), [])))
    assert len(table) == 0
    assert list(table.columns) == list(BRIDGE_COLUMNS)


def test_the_bridges_of_both_tables_come_from_one_pass_and_agree(monkeypatch):
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((30, 12)) < 0.2, rng.random((30, 12)), 0).astype(np.float32)
    dense[:, 0] = 1  # fires on everything
    codes = Codes.from_csr(sp.csr_array(dense), top_k=12)
    dictionary = rng.standard_normal((12, 5)).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    passes = []
    scan = bridges_module.scan_bridges
    monkeypatch.setattr(bridges_module, "scan_bridges", lambda *args, **kw: passes.append(1) or scan(*args, **kw))
    rows = caption_pairs(np.repeat(np.arange(10), 3), np.array([IMAGE, TEXT, TEXT] * 10))
    concepts, pairs = score_tables(ScoreInputs(codes, dictionary, rows))
    assert len(passes) == 1
    image, text = dense[rows.pair_image].astype(np.float64), dense[rows.pair_text].astype(np.float64)
    matrix = image.T @ text / len(image) * (dictionary.astype(np.float64) @ dictionary.T)
    strongest = np.maximum(np.maximum(matrix.max(axis=0), matrix.max(axis=1)), 0)
    np.testing.assert_allclose(concepts["bridge_max"], strongest, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(concepts["bridge_diagonal"], np.diag(matrix), rtol=1e-5, atol=1e-8)
    top = pairs.iloc[0]
    assert (top["image_concept"], top["text_concept"]) == np.unravel_index(matrix.argmax(), matrix.shape)
    assert top["bridge"] == pytest.approx(matrix.max(), rel=1e-5)


def test_names_are_tested_on_halves_that_share_no_pair():
    rows = caption_pairs(np.repeat(np.arange(30), 2), np.array([IMAGE, TEXT] * 30))
    texts = [text for i in range(30) for text in ("", f"the {('dog', 'boat', 'tree')[i % 3]}")]
    evidence = evidence_of(texts, rows)
    half = evidence.half.reshape(-1, 2)
    assert (half[:, 0] == half[:, 1]).all(), "a picture and its captions lie in one half"
    assert sorted(np.bincount(half[:, 0]).tolist()) == [15, 15]
    assert sorted(evidence.spelled) == ["boat", "dog", "tree"]
    assert (evidence.words.toarray()[0::2] == evidence.words.toarray()[1::2]).all(), (
        "pictures have their captions' words"
    )
    assert evidence.is_image.reshape(-1, 2).tolist() == [[True, False]] * 30
    lonely = evidence_of([*texts, "the dog"], rows)
    assert lonely.half[-1] == -1, "a sample in no pair of the scores does not count"


def test_the_untrained_control_is_scored_on_the_same_evidence(monkeypatch):
    """Atoms of words against atoms at random: only what wants a control is computed, and thinning changes it little."""
    rng = np.random.default_rng(0)
    words = rng.random((400, 4)) < 0.3
    texts = [
        text for row in words for text in ("", " ".join(np.array(["dog", "boat", "tree", "kite"])[row]) or "nothing")
    ]
    vectors = np.repeat(words, 2, axis=0).astype(np.float32) + 0.1 * rng.random((800, 4)).astype(np.float32)
    rows = caption_pairs(np.repeat(np.arange(400), 2), np.array([IMAGE, TEXT] * 400))
    trained, start = (Sae(atoms, np.zeros(4, np.float32), atoms, 4) for atoms in (np.eye(4), unit(rng, 4, 4)))
    inputs = ScoreInputs(
        encode(trained, vectors), trained.dictionary, rows, evidence=evidence_of(texts, rows), vectors=vectors
    )
    good, control = compute(inputs), untrained_table(inputs, start, vectors)
    assert list(control) == [*(score.name for score in controlled()), "attribution", "energy"]
    assert control["word_f1"].mean() + 0.1 < good["word_f1"].mean()
    monkeypatch.setattr(score, "CONTROL_SAMPLES", 400)
    np.testing.assert_allclose(untrained_table(inputs, start, vectors)["word_f1"], control["word_f1"], atol=0.15)


def unit(rng, n, width):
    atoms = rng.standard_normal((n, width)).astype(np.float32)
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def test_an_image_is_named_by_the_texts_it_is_paired_with():
    rows = caption_pairs(np.array([0, 0, 0, -1]), np.array([IMAGE, TEXT, TEXT, IMAGE]))
    assert words_of_samples(["", "a dog", "one dog", ""], rows) == [["a dog", "one dog"], ["a dog"], ["one dog"], []]
