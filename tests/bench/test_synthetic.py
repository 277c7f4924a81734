"""Synthetic data: valid codes, unit rows, judgements that fit, and everything from the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.bench.synthetic import activations, dictionary, paired_codes, retrieval_problem
from analysis.bench.synthetic_store import synthetic_store
from analysis.store import open_store, verify


def test_codes_hold_distinct_concepts_and_positive_values() -> None:
    for codes in paired_codes(300, 500, 20, seed=1):
        assert codes.indices.shape == codes.values.shape == (300, 20)
        used = codes.values > 0
        assert used.mean() > 0.95
        for row, on in zip(codes.indices, used, strict=True):
            assert len(set(row[on].tolist())) == on.sum()


def test_concept_use_is_uneven_and_pairs_share_concepts() -> None:
    image, text = paired_codes(2000, 500, 20, seed=2)
    use = np.sort(np.bincount(image.indices[image.values > 0], minlength=500))[::-1]
    assert use[:50].sum() > 3 * use[250:300].sum()

    def shared(other: np.ndarray) -> float:
        return float(np.mean([len(set(a) & set(b)) for a, b in zip(image.indices, other, strict=True)]))

    assert shared(text.indices) > 1.5 * shared(np.roll(text.indices, 1, axis=0))


def test_everything_follows_from_the_seed() -> None:
    assert np.array_equal(paired_codes(50, 100, 8, seed=3)[1].values, paired_codes(50, 100, 8, seed=3)[1].values)
    assert not np.array_equal(activations(50, 16, seed=1), activations(50, 16, seed=2))


def test_dictionary_and_retrieval_rows_have_length_one() -> None:
    problem = retrieval_problem(40, 200, 32)
    for rows in (dictionary(100, 32), problem.queries, problem.candidates):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_judgements_name_what_the_matrix_says() -> None:
    problem = retrieval_problem(40, 200, 32, relevant=5)
    queries, candidates = problem.judgements
    assert (np.diff(problem.qrels.indptr) == 5).all()
    found = {(int(q[2:]), int(c[2:])) for q, c in zip(queries, candidates, strict=True)}
    assert found == set(zip(*(part.tolist() for part in problem.qrels.nonzero()), strict=True))


def test_synthetic_store_is_a_sound_store_and_is_made_once(tmp_path: Path) -> None:
    sizes = {"n_concepts": 96, "n_samples": 300, "width": 48, "n_queries": 30, "n_candidates": 40, "top_k": 8}
    path = synthetic_store(tmp_path, **sizes)
    report = verify(path)
    assert report.ok, report.problems
    store = open_store(path)
    assert (store.n_concepts, store.n_samples, store.width) == (96, 300, 48)
    task = store.task("t2i")
    assert task.qrels.shape == (30, 40)
    pair = store.samples["pair_id"].to_numpy()
    q, c = task.qrels.nonzero()
    assert (pair[task.query_rows[q]] == pair[task.candidate_rows[c]]).all()
    assert (np.diff(task.qrels.indptr) == 1).all()
    created = store.manifest.created
    assert synthetic_store(tmp_path, **sizes) == path
    assert open_store(path).manifest.created == created
    assert not store.is_demo


@pytest.mark.parametrize("n_queries", [0, 1])
def test_tiny_problems_are_allowed(n_queries: int) -> None:
    assert retrieval_problem(n_queries, 10, 8).qrels.shape == (n_queries, 10)
