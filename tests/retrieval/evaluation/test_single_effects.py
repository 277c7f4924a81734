"""The effect of every concept at once is what its plain removal measures, one concept at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation import single_effects as module
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.evaluation.single_effects import MEAN, best_ranks, leaderboard, single_effects
from analysis.retrieval.interventions import BASE, parse
from analysis.retrieval.removal import remove_subspace
from analysis.retrieval.task import SIDES, RetrievalSpace, space_from_store
from analysis.sae.checkpoint import Sae
from analysis.store import open_store
from tests.synthetic_store import make_store


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> RetrievalSpace:
    return space_from_store(open_store(make_store(tmp_path_factory.mktemp("cache"), n_pairs=90, n_captions=3)), "i2t")


def plain_ranks(space: RetrievalSpace, concept: int, limit: int) -> np.ndarray:
    """By whole similarity matrices in float64."""
    atom = np.asarray(space.dictionary[[concept]], np.float64)
    sides = [remove_subspace(np.asarray(space.rows(side, "mean"), np.float64), atom, on_void="zero") for side in SIDES]
    similarity, relevant = sides[0] @ sides[1].T, space.qrels.toarray() > 0
    best = np.where(relevant, similarity, -np.inf).max(axis=1)
    rank = 1 + (similarity > best[:, None] + 1e-12).sum(axis=1)
    void = np.linalg.norm(sides[0], axis=1) == 0
    return np.where(relevant.any(axis=1) & ~void, np.minimum(rank, limit + 1), limit + 1)


@pytest.mark.parametrize("held", [2**30, 2**14])
def test_ranks_without_a_concept_are_those_of_whole_matrices(space, held, monkeypatch):
    monkeypatch.setattr(module, "_HELD", held)
    monkeypatch.setattr(module, "_CONCEPTS", 5)
    noisy = _noisy(space)
    concepts = np.arange(12)
    after, _ = best_ranks(noisy, concepts, limit=10)
    for place, concept in enumerate(concepts):
        np.testing.assert_array_equal(after[place], plain_ranks(noisy, int(concept), 10))
    assert len(np.unique(after)) > 5, "something is ranked"


def test_changes_are_those_of_the_plain_removal_with_its_intervals(space):
    concepts = np.array([0, 2, 7])
    found = single_effects(_noisy(space), concepts)
    for concept in concepts:
        mine = found[(found["concept"] == concept) & (found["k"] != MEAN)]
        both = evaluate(_noisy(space), [BASE, parse(f"removal:concepts={concept}")])
        base, removed = (both[both["spec"] == spec] for spec in both["spec"].unique())
        np.testing.assert_allclose(mine["difference"], removed["difference"], atol=1e-12)
        np.testing.assert_allclose(mine["base"], base["recall"], atol=1e-12)
        for end in ("low", "high"):  # other draws of the same distribution
            np.testing.assert_allclose(mine[end], removed[f"difference_{end}"], atol=0.02)
        mean = found[(found["concept"] == concept) & (found["k"] == MEAN)]
        assert float(mean["difference"].iloc[0]) == pytest.approx(removed["difference"].mean(), abs=1e-12)


def test_a_planted_distractor_leads_the_board_and_a_bystander_changes_nothing():
    """Queries and their candidates share one direction each; a loud common direction mixes them up."""
    rng = np.random.default_rng(0)
    own = np.eye(40)[:30]
    loud = np.eye(40)[35]
    queries, candidates = (
        own + rng.uniform(3, 9, (30, 1)) * loud + 0.2 * rng.standard_normal((30, 40)) for _ in range(2)
    )
    dictionary = np.stack([loud, np.eye(40)[0], np.eye(40)[38]])
    sae = Sae(dictionary, np.zeros(3), dictionary / np.linalg.norm(dictionary, axis=1, keepdims=True), 3)
    space = RetrievalSpace(
        {"mean": queries}, {"mean": candidates}, sp.csr_array(np.eye(30)), load_sae=lambda: sae, task="i2t"
    )
    found = single_effects(space, np.array([0, 1, 2]), ks=(1,))
    board = leaderboard(found, found["task"].iloc[0], hurts=True)
    assert board["concept"].iloc[0] == 0
    assert board["low"].iloc[0] > 0
    assert 1 not in board["concept"].tolist(), "what a pair shares does not hurt"


def test_nothing_live_is_said():
    with pytest.raises(RetrievalError, match="live"):
        best_ranks(None, np.empty(0, int), limit=10)  # type: ignore[arg-type]


def _noisy(space: RetrievalSpace) -> RetrievalSpace:
    """Embeddings that make mistakes."""
    rng = np.random.default_rng(5)
    sides = {}
    for side in SIDES:
        rows = space.rows(side, "mean")
        sides[side] = {"mean": rows + 0.8 * rng.standard_normal(rows.shape)}
    return replace(space, **sides)
