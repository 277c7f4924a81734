"""A name is believed where it says on unseen samples where the concept fires, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.concepts.evidence import LEAST, Evidence, gather_evidence
from analysis.concepts.held_out import hold_out, place_of, word_f1
from analysis.sae.codes import Codes

WORDS = np.array(["dog", "boat", "tree", "kite", "lamp", "snow"])
DOG, SEEN_BOAT, SAID_TREE, NOISE, CONSTANT, LUCK, DEAD = range(7)


@pytest.fixture(scope="module")
def world() -> tuple[Codes, Evidence, np.ndarray]:
    """400 pairs. Concepts: of "dog" on both sides, of "boat" on pictures, of "tree" on captions, at random, always, of
    "lamp" in the even pairs alone, never."""
    rng = np.random.default_rng(0)
    there = rng.random((400, len(WORDS))) < 0.25
    texts, group, image, dense = [], [], [], []
    for pair, row in enumerate(there):
        for is_image in (True, False):
            z = np.zeros(7)
            z[DOG] = row[0] * rng.uniform(1, 1.5)
            z[SEEN_BOAT] = is_image * row[1] * rng.uniform(1, 1.5)
            z[SAID_TREE] = (not is_image) * row[2] * rng.uniform(1, 1.5)
            z[NOISE] = (rng.random() < 0.25) * rng.uniform(1, 1.5)
            z[CONSTANT] = rng.uniform(1, 1.5)
            z[LUCK] = (row[4] if pair % 2 == 0 else rng.random() < 0.25) * rng.uniform(1, 1.5)
            dense.append(z)
            texts.append([" and the ".join(["A thing", *WORDS[row]])])
            group.append(pair)
            image.append(is_image)
    codes = Codes.from_csr(sp.csr_array(np.asarray(dense, np.float32)), top_k=7)
    z = np.asarray(dense)
    energies = z[np.array(image)].mean(0), z[~np.array(image)].mean(0)
    with np.errstate(invalid="ignore"):
        modality = energies[1] / (energies[0] + energies[1])
    return codes, gather_evidence(texts, np.array(group), np.array(image)), modality


def test_words_that_predict_are_names_and_chance_is_none(world):
    found = hold_out(*world)
    assert found.name.tolist() == ["dog", "boat", "tree", "", "", "", ""]
    np.testing.assert_allclose(found.f1[:3], 1)
    np.testing.assert_allclose(found.auroc[:3], 1)
    np.testing.assert_allclose(found.purity[:3], 1)
    assert found.f1[NOISE] < 0.4
    assert abs(found.auroc[NOISE] - 0.5) < 0.06
    assert abs(found.purity[NOISE]) < 0.1
    assert abs(found.auroc[CONSTANT] - 0.5) < 0.08, "what always fires tells no sample from another"


def test_a_word_that_holds_in_one_half_only_is_no_name(world):
    """Chosen with F1 1 in the even pairs, it fails in the odd ones."""
    codes, evidence, modality = world
    found = hold_out(codes, evidence, modality)
    assert found.name[LUCK] == ""
    assert found.f1[LUCK] < 0.5


def test_a_dead_concept_has_no_test(world):
    found = hold_out(*world)
    assert np.isnan([found.f1[DEAD], found.auroc[DEAD], found.purity[DEAD]]).all()
    assert found.word[DEAD] == -1


def test_the_numbers_are_those_of_their_definitions():
    """Against the four-line forms: sklearn for F1 and AUROC, a loop for the choice."""
    from sklearn.metrics import f1_score, roc_auc_score

    rng = np.random.default_rng(1)
    n, n_concepts, n_words = 300, 8, 12
    there = rng.random((n, n_words)) < rng.uniform(0.1, 0.5, n_words)
    z = np.round(np.where(rng.random((n, n_concepts)) < 0.3, rng.gamma(2, 1, (n, n_concepts)), 0), 1)  # ties occur
    for concept in range(4):
        z[:, concept] *= np.where(there[:, concept], 1, rng.random(n) < 0.3)
    image = rng.random(n) < 0.4
    half = np.arange(n) % 2
    evidence = Evidence(
        sp.csr_array(there.astype(np.float32)), np.array([f"w{i}" for i in range(n_words)]), half, image
    )
    found = hold_out(Codes.from_csr(sp.csr_array(z.astype(np.float32)), n_concepts), evidence, np.full(n_concepts, 0.5))
    weight = np.where(image, (~image).sum() / image.sum(), 1.0)
    for concept in range(n_concepts):
        f1, auroc, purity = [], [], []
        for chooses, tests in ((half == 0, half == 1), (half == 1, half == 0)):
            fires = [z[part, concept] >= 0.5 * z[part, concept].max() for part in (chooses, tests)]
            share, total = np.average(fires[0], weights=weight[chooses]), weight[chooses].sum()
            lifts, purities = [], []
            for word in range(n_words):
                p = np.average(there[chooses, word], weights=weight[chooses])
                score = f1_score(there[chooses, word], fires[0], sample_weight=weight[chooses])
                lifts.append(score - 2 * p * share / (p + share))
                mass = weight[chooses] * z[chooses, concept]
                purities.append((mass[there[chooses, word]].sum() / mass.sum() - p) / (1 - p))
            assert total > 0
            word, pure = int(np.argmax(lifts)), int(np.argmax(purities))
            f1.append(f1_score(there[tests, word], fires[1], sample_weight=weight[tests]))
            auroc.append(roc_auc_score(there[tests, word], z[tests, concept], sample_weight=weight[tests]))
            mass, p = weight[tests] * z[tests, concept], np.average(there[tests, pure], weights=weight[tests])
            purity.append((mass[there[tests, pure]].sum() / mass.sum() - p) / (1 - p))
        np.testing.assert_allclose(found.f1[concept], np.mean(f1), atol=1e-5)
        np.testing.assert_allclose(found.auroc[concept], np.mean(auroc), atol=1e-5)
        np.testing.assert_allclose(found.purity[concept], np.mean(purity), atol=1e-5)


def test_blocks_of_concepts_change_nothing(world, monkeypatch):
    from analysis.concepts import held_out

    whole = hold_out(*world)
    monkeypatch.setattr(held_out, "_CELLS", 1)
    parts = hold_out(*world)
    np.testing.assert_array_equal(whole.f1, parts.f1)
    assert whole.name.tolist() == parts.name.tolist()


def test_without_words_nothing_is_tested():
    codes = Codes(np.zeros((4, 1), np.int32), np.ones((4, 1), np.float32), 2)
    evidence = gather_evidence([[], ["of the"], [""], []], np.arange(4), np.array([True, False] * 2))
    found = hold_out(codes, evidence, np.full(2, 0.5))
    assert np.isnan(found.f1).all()
    assert found.name.tolist() == ["", ""]


def test_rare_words_and_function_words_are_no_candidates():
    texts = [["a dog above the sea"]] * LEAST + [["a boat"]] * (LEAST - 1)
    evidence = gather_evidence(texts, np.arange(len(texts)), np.zeros(len(texts), bool))
    assert sorted(evidence.spelled) == ["dog", "sea"]


def test_concepts_are_judged_where_they_live():
    assert place_of(np.array([0, 0.35, 0.5, 0.65, 1, np.nan])).tolist() == [0, 0, 2, 1, 1, 2]


def test_word_f1_takes_the_weights_of_the_samples():
    strength = sp.csr_array(np.array([[4.0], [2.0], [1.9], [0.0]]))
    words = sp.csr_array(np.array([[1.0], [0.0], [1.0], [1.0]]))
    weight = np.array([1.0, 3.0, 1.0, 2.0])
    assert word_f1(strength, words, weight)[0, 0] == pytest.approx(2 * 1 / ((1 + 3) + (1 + 1 + 2)))
