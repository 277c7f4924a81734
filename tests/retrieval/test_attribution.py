"""Explaining one similarity: the bars add up, and each bar is the formula."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.attribution import compare_pairs, explain_pair
from analysis.retrieval.ranking.transforms import CentredAt, WithoutSubspace
from analysis.retrieval.removal import concept_subspace
from analysis.sae.checkpoint import Sae
from tests.retrieval.planted import DISTRACTORS, unit, world


@pytest.fixture(scope="module")
def planted():
    return world()


def stored(planted, query: int, candidate: int):
    q, c = planted.codes["queries"], planted.codes["candidates"]
    return (q.indices[query], q.values[query]), (c.indices[candidate], c.values[candidate])


def test_bars_and_rest_add_up_to_the_cosine(planted):
    for query, candidate in ((0, 0), (3, 40), (11, 11)):
        h_q, h_c = planted.embeddings["queries"][query], planted.embeddings["candidates"][candidate]
        for codes in (None, stored(planted, query, candidate)):
            found = explain_pair(h_q, h_c, planted.sae, codes=codes)
            cosine = float((unit(h_q[None].astype(float)) @ unit(h_c[None].astype(float)).T).item())
            assert found.similarity == pytest.approx(cosine, abs=1e-9)
            assert found.contribution.sum() + found.unexplained == pytest.approx(cosine, abs=1e-9)


def test_each_bar_is_the_formula(planted):
    dictionary = planted.sae.dictionary.astype(np.float64)
    h_q, h_c = (planted.embeddings[side][5].astype(np.float64) for side in ("queries", "candidates"))
    z_q, z_c = (planted.codes[side][[5]].to_csr().toarray()[0] for side in ("queries", "candidates"))
    found = explain_pair(h_q, h_c, planted.sae, codes=stored(planted, 5, 5))
    for concept, contribution in zip(found.concept_ids, found.contribution, strict=True):
        both = z_q[concept] * (dictionary[concept] @ (z_c @ dictionary)) + z_c[concept] * (
            dictionary[concept] @ (z_q @ dictionary)
        )
        assert contribution == pytest.approx(both / (2 * np.linalg.norm(h_q) * np.linalg.norm(h_c)), abs=1e-9)
    assert set(found.concept_ids) == set(np.flatnonzero((z_q > 0) | (z_c > 0)))
    assert np.all(np.diff(np.abs(found.contribution)) <= 0)
    assert set(found.concept_ids[:3]) == set(DISTRACTORS)


def test_a_perfect_reconstruction_leaves_nothing_unexplained(planted):
    codes = stored(planted, 2, 9)
    h_q, h_c = (values @ planted.sae.dictionary[ids].astype(np.float64) for ids, values in codes)
    assert explain_pair(h_q, h_c, planted.sae, codes=codes).unexplained == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("removed", [False, True])
def test_a_decoder_bias_is_a_part_of_its_own(planted, removed):
    """h = z D + bias exactly: nothing is unexplained, and bars and bias add up to the similarity."""
    plain = planted.sae
    bias = np.random.default_rng(3).standard_normal(plain.dictionary.shape[1]) * 2
    sae = Sae(plain.encoder_weight, plain.encoder_bias, plain.dictionary, plain.top_k, bias=bias)
    codes = stored(planted, 2, 9)
    h_q, h_c = (values @ sae.dictionary[ids].astype(np.float64) + sae.bias.astype(np.float64) for ids, values in codes)
    basis = concept_subspace(sae.dictionary, DISTRACTORS)
    steps = (WithoutSubspace(basis),) if removed else ()
    found = explain_pair(h_q, h_c, sae, codes=codes, through=(steps, steps))
    left = np.stack([h_q, h_c]) @ (np.eye(len(h_q)) - (basis.T @ basis if removed else 0))
    assert found.similarity == pytest.approx(float(unit(left)[0] @ unit(left)[1]), abs=1e-9)
    assert found.unexplained == pytest.approx(0, abs=1e-9)
    assert found.contribution.sum() + found.shift == pytest.approx(found.similarity, abs=1e-9)
    assert abs(found.shift) > 0.1
    assert found.shift_words == "the SAE's decoder bias"
    centre = CentredAt(np.full(len(h_q), 0.05))
    both = explain_pair(h_q, h_c, sae, codes=codes, through=((centre,), (centre,)))
    assert both.shift_words == "the decoder bias and the subtracted means"
    assert (
        explain_pair(h_q, h_c, plain, codes=codes, through=((centre,), (centre,))).shift_words == "the subtracted means"
    )


def test_the_similarity_after_removal_is_explained_too(planted):
    basis = concept_subspace(planted.sae.dictionary, DISTRACTORS)
    h_q, h_c = (planted.embeddings[side][7].astype(np.float64) for side in ("queries", "candidates"))
    left = unit(np.stack([h_q, h_c]) @ (np.eye(len(h_q)) - basis.T @ basis))
    found = explain_pair(h_q, h_c, planted.sae, codes=stored(planted, 7, 7), through=((WithoutSubspace(basis),),) * 2)
    assert found.similarity == pytest.approx(float(left[0] @ left[1]), abs=1e-9)
    assert found.contribution.sum() + found.unexplained == pytest.approx(found.similarity, abs=1e-9)
    assert np.abs(found.contribution[np.isin(found.concept_ids, DISTRACTORS)]).max() < 1e-9


def test_unused_slots_of_codes_count_for_nothing(planted):
    (q_ids, q_values), c = stored(planted, 1, 1)
    padded = (np.append(q_ids, [0, 0]), np.append(q_values, [0.0, 0.0])), c
    plain = explain_pair(planted.embeddings["queries"][1], planted.embeddings["candidates"][1], planted.sae,
                         codes=stored(planted, 1, 1))  # fmt: skip
    found = explain_pair(
        planted.embeddings["queries"][1], planted.embeddings["candidates"][1], planted.sae, codes=padded
    )
    assert np.array_equal(found.contribution, plain.contribution)


def test_the_difference_of_two_pairs_adds_up(planted):
    h_q = planted.embeddings["queries"][4]
    target, winner = (
        explain_pair(h_q, planted.embeddings["candidates"][c], planted.sae, codes=stored(planted, 4, c))
        for c in (4, 30)
    )
    ids, difference = compare_pairs(target, winner)
    gap = winner.similarity - target.similarity
    assert difference.sum() + winner.unexplained - target.unexplained == pytest.approx(gap, abs=1e-9)
    assert np.all(np.diff(difference) <= 0)
    assert len(ids) == len(set(target.concept_ids) | set(winner.concept_ids))


def test_a_vector_without_direction_is_refused(planted):
    h = planted.embeddings["queries"][0]
    with pytest.raises(RetrievalError, match="query has no direction"):
        explain_pair(np.zeros_like(h), h, planted.sae)
    basis = concept_subspace(planted.sae.dictionary, [0])
    with pytest.raises(RetrievalError, match="candidate has no direction"):
        explain_pair(h, planted.sae.dictionary[0], planted.sae, through=((WithoutSubspace(basis),),) * 2)
