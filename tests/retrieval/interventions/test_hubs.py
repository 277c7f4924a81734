"""Hub corrections against their published formulas, written out densely in float64."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from analysis.errors import RetrievalError
from analysis.retrieval.interventions import parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.ranking.corrected import measure_bias
from analysis.retrieval.ranking.similarities import RowScores
from tests.retrieval.planted import cloud, unit, world


@pytest.fixture(scope="module")
def planted():
    return world(captions=2)


@pytest.fixture(scope="module")
def similarity(planted):
    q, c = (unit(planted.embeddings[side].astype(np.float64)) for side in ("queries", "candidates"))
    return q @ c.T


def nnn(bank, alpha, k):
    return alpha * np.sort(bank, axis=0)[-k:].mean(axis=0)


def sinkhorn(bank, beta, rounds):
    """Alternating normalisation of columns and rows of exp(beta s), as DBSN writes it."""
    log_kernel = beta * bank
    potential, columns = np.zeros(len(bank)), np.zeros(bank.shape[1])
    for turn in range(rounds):
        if turn:
            potential = -logsumexp(log_kernel + columns, axis=1)
        columns = -logsumexp(log_kernel + potential[:, None], axis=0)
    return -columns / beta


FORMULAS = {
    "nnn:alpha=0.75,k=8": lambda bank: nnn(bank, 0.75, 8),
    "csls:k=4": lambda bank: nnn(bank, 0.5, 4),
    "inverted_softmax:beta=20": lambda bank: logsumexp(20 * bank, axis=0) / 20,
    "sinkhorn:beta=10,rounds=4": lambda bank: sinkhorn(bank, 10, 4),
}


def constant_off(found, expected):
    """Differences up to a constant, which moves nothing in a list."""
    return np.ptp(found - expected)


@pytest.mark.parametrize("spec", FORMULAS)
def test_each_half_of_the_queries_is_corrected_by_the_other(planted, similarity, spec):
    fitted = fit(parse(spec), planted.space)
    group = fitted.bias.group
    assert sorted(np.unique(group)) == [1, 2]
    for own in (1, 2):
        bank = similarity[group != own]
        assert constant_off(fitted.bias.values[own], FORMULAS[spec](bank)) < 1e-5
    q, c = np.meshgrid(np.arange(60), np.arange(120), indexing="ij")
    found = fitted.scores().pairs(q.ravel(), c.ravel()).reshape(60, 120)
    np.testing.assert_allclose(found, similarity - fitted.bias.values[group], atol=1e-6)


@pytest.mark.parametrize("spec", FORMULAS)
def test_the_test_queries_as_bank_are_called_leakage(planted, similarity, spec):
    method = parse(f"{spec},bank=queries")
    assert "leakage" in method.label
    assert "leakage" not in parse(spec).label
    assert constant_off(fit(method, planted.space).bias.values[0], FORMULAS[spec](similarity)) < 1e-5


def test_an_uploaded_query_is_corrected_by_all_stored_ones_and_a_stored_one_by_the_other_half(planted, similarity):
    fitted = fit(parse("csls:k=4"), planted.space)
    h = planted.embeddings["queries"][13]
    row = fitted.query(h).reshape(1, -1)
    everyone, c = np.zeros(120, int), np.arange(120)
    uploaded = fitted.scores(row).pairs(everyone, c)
    np.testing.assert_allclose(uploaded, similarity[13] - nnn(similarity, 0.5, 4), atol=1e-6)
    stored = fitted.scores(row, positions=np.array([13])).pairs(everyone, c)
    np.testing.assert_allclose(stored, fitted.scores().pairs(everyone + 13, c), atol=1e-9)


def test_qb_norm_leaves_queries_alone_whose_first_candidate_is_no_possible_hub(planted, similarity):
    fitted = fit(parse("qb_norm:beta=20"), planted.space)
    first = similarity.argmax(axis=1)
    softmax = fit(parse("inverted_softmax:beta=20"), planted.space)
    halves = softmax.bias.group
    alone = 0
    for query in range(60):
        hub = first[query] in first[halves != halves[query]]
        expected = similarity[query] - (softmax.bias.values[halves[query]] if hub else 0)
        found = fitted.scores().pairs(np.full(120, query), np.arange(120))
        np.testing.assert_allclose(found, expected, atol=1e-6)
        alone += not hub
    assert 0 < alone < 60


def test_a_planted_hub_loses_its_place():
    """One candidate is near every query; without a correction it is the first of all."""
    queries, candidates = (np.random.default_rng(seed).normal(size=(80, 16)) + 1.5 for seed in (0, 1))
    candidates[5] = queries.mean(axis=0)
    scores = RowScores(unit(queries), unit(candidates))
    plain = (unit(queries) @ unit(candidates).T).argmax(axis=1)
    assert (plain == 5).mean() > 0.15
    for spec in ("nnn:alpha=1,k=8", "inverted_softmax:beta=40", "sinkhorn:beta=40"):
        bias = measure_bias(parse(spec).correction, scores)
        corrected = (unit(queries) @ unit(candidates).T - bias.values[bias.group]).argmax(axis=1)
        assert (corrected == 5).mean() < (plain == 5).mean() / 2, spec


def test_a_bank_of_one_query_is_refused(planted):
    scores = RowScores(cloud(1, 4, 0), cloud(9, 4, 1))
    with pytest.raises(RetrievalError, match=r"bank of 1 queries.*two or more"):
        measure_bias(parse("csls").correction, scores)
