"""Scores of whitened candidates that are never whitened, against the whitened rows themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.retrieval.ranking.length_series import length_series
from analysis.retrieval.ranking.ranks import target_ranks
from analysis.retrieval.ranking.rows import Side
from analysis.retrieval.ranking.whitened import WhitenedRows, WhitenedScores
from analysis.retrieval.realign import Statistics, Whitening, statistics
from analysis.retrieval.search import best_candidates, similarities
from tests.retrieval.planted import cloud, dense_order, dense_ranks, random_qrels

N_QUERIES, N_CANDIDATES, WIDTH = 40, 130, 16


def task(dtype: type, *, void: bool = False) -> tuple[np.ndarray, Side, Statistics]:
    """(whitened queries, candidates before, their statistics); void: candidate 7 is zero, 9 the mean, query 3 zero."""
    queries, candidates = (
        cloud(n, WIDTH, seed, common=1, dtype=np.float64) for n, seed in ((N_QUERIES, 0), (N_CANDIDATES, 1))
    )
    found = statistics(candidates)
    gone = np.zeros(N_CANDIDATES, bool)
    whitened = statistics(queries).whitening()(queries)[0].astype(dtype)
    if void:
        gone[7], candidates[7], whitened[3] = True, 0, 0
        direction = found.mean / np.linalg.norm(found.mean)
        candidates[9] = direction
        found = replace(found, mean=direction)
    return whitened, Side(candidates.astype(dtype), gone), found


def plain_form(queries: np.ndarray, candidates: Side, whitening: Whitening) -> np.ndarray:
    """(Q, C) cosine in float64, 0 where a row has no direction."""
    x = (candidates.rows.astype(np.float64) - whitening.mean) @ whitening.matrix
    length = np.linalg.norm(x, axis=1, keepdims=True)
    nothing = candidates.void | (length[:, 0] < 1e-5)
    return queries.astype(np.float64) @ np.where(nothing[:, None], 0, x / np.where(length > 0, length, 1)).T


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize(("dtype", "close"), [(np.float64, 1e-11), (np.float32, 2e-6)])
def test_every_way_to_ask_gives_the_cosine_of_the_whitened_rows(dtype, close, void) -> None:
    queries, candidates, found = task(dtype, void=void)
    seen = WhitenedRows(candidates, found.whitening())
    scores, expected = WhitenedScores(queries, seen), plain_form(queries, candidates, found.whitening())
    every = np.arange(N_QUERIES).repeat(N_CANDIDATES), np.tile(np.arange(N_CANDIDATES), N_QUERIES)
    assert scores.pairs(*every).reshape(expected.shape) == pytest.approx(expected, abs=close)
    assert scores.rough(*every).reshape(expected.shape) == pytest.approx(expected, abs=5e-6)
    assert scores.block(np.array([5, 2]), 10, 30) == pytest.approx(expected[[5, 2], 10:30], abs=close)
    assert queries @ seen.rows.T == pytest.approx(expected, abs=max(close, 1e-11))
    assert np.flatnonzero(seen.void).tolist() == ([7, 9] if void else [])
    for asked in (None, np.array([30, 3, 8])):
        for tile in scores.tiles(asked):
            value, error = similarities(tile)
            rows = np.arange(N_QUERIES) if asked is None else asked
            part = expected[rows[tile.first : tile.first + len(value)], tile.start : tile.start + value.shape[1]]
            assert (np.abs(value - part) <= error + 1e-7).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_ranks_and_lists_are_those_of_the_plain_form(dtype) -> None:
    queries, candidates, found = task(dtype)
    scores = WhitenedScores(queries, WhitenedRows(candidates, found.whitening()))
    qrels = random_qrels(N_QUERIES, N_CANDIDATES, 0)
    similarity = plain_form(queries, candidates, found.whitening())
    order, _ = dense_order(similarity, np.eye(N_CANDIDATES))
    assert target_ranks(scores, qrels).rank.tolist() == dense_ranks(order, qrels)
    assert np.array_equal(best_candidates(scores, 10).ids, order[:, :10])


def test_equal_candidates_keep_their_order() -> None:
    queries, candidates, found = task(np.float64)
    rows = candidates.rows.copy()
    rows[100] = rows[50] = rows[20]
    scores = WhitenedScores(queries, WhitenedRows(Side(rows, candidates.void), found.whitening()))
    twins = (20, 50, 100)
    pairs = (np.repeat(np.arange(N_QUERIES), 3), np.tile(twins, N_QUERIES))
    qrels = sp.csr_array((np.ones(3 * N_QUERIES), pairs), shape=(N_QUERIES, N_CANDIDATES))
    ranks = target_ranks(scores, qrels).rank.reshape(-1, 3)
    assert np.array_equal(np.diff(ranks, axis=1), np.ones((N_QUERIES, 2)))


def test_with_a_series_no_candidate_is_whitened(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, candidates, found = task(np.float64)
    expected = plain_form(queries, candidates, found.whitening(0.3))
    series = length_series(candidates.rows, found.mean, found.spectrum)
    known = replace(found, length_series=series).whitening(0.3)
    monkeypatch.setattr(Whitening, "lengths_of", lambda *_: pytest.fail("candidates were whitened"))
    scores = WhitenedScores(queries, WhitenedRows(candidates, known))
    assert scores.block(np.arange(N_QUERIES), 0, N_CANDIDATES) == pytest.approx(expected, abs=1e-7)


def test_a_series_of_other_rows_is_not_used() -> None:
    _, candidates, found = task(np.float64)
    series = length_series(candidates.rows[:-1], found.mean, found.spectrum)
    seen = WhitenedRows(candidates, replace(found, length_series=series).whitening())
    assert seen.lengths == pytest.approx(found.whitening().lengths_of(candidates.rows))
