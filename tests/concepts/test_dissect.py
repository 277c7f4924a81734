"""A second, contrastive model finds the planted word, says nothing where it cannot know, and agrees with the plain formula."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.concepts import dissect as module
from analysis.concepts.coherence import Centred
from analysis.concepts.dissect import SHARPNESS, STRONGEST, TOP, WEAKEST, dissect
from analysis.concepts.evidence import Evidence, gather_evidence
from analysis.sae.codes import Codes

WORDS = np.array(["dog", "boat", "tree", "kite", "lamp", "snow"])
DOG, BOAT_SEEN, TREE_SAID, NOISE, RARE, DEAD = range(6)


@pytest.fixture(scope="module")
def world() -> tuple[Codes, Evidence, Centred, np.ndarray]:
    """300 pairs in which words stand at random; the second model sees which, on pictures and in captions, far from each other
    (a modality gap). Concepts: of "dog" on both sides, "boat" on pictures, "tree" in captions, of nothing, of "kite" on six
    samples, dead."""
    rng = np.random.default_rng(0)
    there = rng.random((300, len(WORDS))) < 0.3
    meaning = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    texts, group, image, dense, vectors = [], [], [], [], []
    for pair, row in enumerate(there):
        for is_image in (True, False):
            z = np.zeros(6)
            z[DOG], z[BOAT_SEEN], z[TREE_SAID] = row[0], is_image * row[1], (not is_image) * row[2]
            z[NOISE] = rng.random() < 0.3
            z[RARE] = row[3] and pair < 9
            dense.append(z * rng.uniform(1, 1.5, 6))
            texts.append(["a thing and a " + " ".join(WORDS[row])])
            group.append(pair)
            image.append(is_image)
            vectors.append(row @ meaning[:6] + 4 * meaning[7 + is_image] + 0.1 * rng.normal(size=16))
    is_image = np.array(image)
    codes = Codes.from_csr(sp.csr_array(np.asarray(dense, np.float32)), top_k=6)
    rows = np.arange(len(texts))
    centred = Centred(np.asarray(vectors, np.float32), [rows[is_image], rows[~is_image]])
    modality = np.array([0.5, 0.0, 1.0, 0.5, 0.5, np.nan])
    return codes, gather_evidence(texts, np.array(group), is_image), centred, modality


def spelled(evidence: Evidence, columns: np.ndarray) -> list[str]:
    return [str(evidence.spelled[column]) if column >= 0 else "" for column in columns]


def test_the_planted_words_fit_best(world):
    codes, evidence, centred, modality = world
    found = dissect(codes, evidence, centred, modality)
    assert spelled(evidence, found.best())[:3] == ["dog", "boat", "tree"]
    assert spelled(evidence, found.best())[DEAD] == ""


def test_too_few_samples_say_nothing(world):
    codes, evidence, centred, modality = world
    found = dissect(codes, evidence, centred, modality)
    assert np.isnan(found.score[[RARE, DEAD]]).all()
    assert not np.isnan(found.score[[DOG, BOAT_SEEN, TREE_SAID, NOISE]]).any()


def test_the_standing_of_a_word_is_1_at_the_top_and_0_at_the_bottom(world):
    codes, evidence, centred, modality = world
    found = dissect(codes, evidence, centred, modality)
    worst = found.words[found.score[DOG].argmin()]
    column = {str(word): slot for slot, word in enumerate(evidence.spelled)}
    asked = np.array([column["dog"], worst, -1, column["dog"], column["kite"], column["dog"]])
    stands = found.standing(asked)
    assert stands[0] == 1
    assert np.isnan(stands[[2, RARE, DEAD]]).all()
    assert found.standing(np.full(6, worst))[DOG] == 0


def test_of_a_model_that_sees_nothing_no_word_is_better_than_by_chance(world):
    """The control: the same samples in a space of noise. The planted words then stand anywhere."""
    codes, evidence, _, modality = world
    rows = np.arange(len(evidence.half))
    groups = [rows[evidence.is_image], rows[~evidence.is_image]]
    column = {str(word): slot for slot, word in enumerate(evidence.spelled)}
    asked = np.array([column["dog"], column["boat"], column["tree"], -1, -1, -1])
    stands = []
    for seed in range(20):
        blind = Centred(np.random.default_rng(seed).normal(size=(len(rows), 16)).astype(np.float32), groups)
        stands.append(dissect(codes, evidence, blind, modality).standing(asked)[:3])
    assert 0.3 < np.mean(stands) < 0.7


def test_the_score_is_that_of_its_formula(world):
    """Against the loop over concepts, halves, samples and words."""
    codes, evidence, centred, modality = world
    found = dissect(codes, evidence, centred, modality)
    dense, holds = codes.to_csr().toarray().astype(float), evidence.words.toarray()[:, found.words]
    given = {}
    for concept in (DOG, BOAT_SEEN, TREE_SAID, NOISE):
        total = np.zeros(len(found.words))
        for half in (0, 1):
            captions = np.flatnonzero((evidence.half == 1 - half) & ~evidence.is_image)
            said = centred.unit(1, captions).astype(float)
            named = np.stack([said[holds[captions, w] > 0].mean(axis=0) for w in range(len(found.words))])
            named /= np.linalg.norm(named, axis=1, keepdims=True)
            counts = evidence.half == half
            if concept in (BOAT_SEEN, TREE_SAID):
                counts = counts & (evidence.is_image == (concept == BOAT_SEEN))
            rows = [
                row for row in np.argsort(-dense[:, concept], kind="stable") if counts[row] and dense[row, concept] > 0
            ]
            logs = []
            for rank, row in enumerate(rows[:TOP]):
                vector = centred.unit(0 if evidence.is_image[row] else 1, np.array([row]))[0].astype(float)
                p = np.exp(SHARPNESS * named @ vector)
                weight = STRONGEST - rank / TOP * (STRONGEST - WEAKEST)
                logs.append(np.log(1 + weight * (p / p.sum() - 1)))
            total += TOP * np.mean(logs, axis=0) / 2
        given[concept] = total
    everyone = np.log(np.mean(np.exp(list(given.values())), axis=0))
    for concept, total in given.items():
        np.testing.assert_allclose(found.score[concept], total - everyone, rtol=1e-3, atol=1e-2)


def test_samples_that_the_second_model_lacks_are_left_out(world, monkeypatch):
    codes, evidence, centred, modality = world
    rows = np.arange(len(evidence.half))
    vectors = np.asarray(centred._vectors)
    position = np.where(rows % 12 < 8, rows, -1)
    some = Centred(vectors, [rows[evidence.is_image], rows[~evidence.is_image]], position)
    found = dissect(codes, evidence, some, modality)
    assert spelled(evidence, found.best())[:3] == ["dog", "boat", "tree"]
    monkeypatch.setattr(module, "MOST_SAMPLES", 240)
    assert spelled(evidence, dissect(codes, evidence, centred, modality).best())[:3] == ["dog", "boat", "tree"]
