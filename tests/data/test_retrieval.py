"""Pairs as retrieval, and the bookkeeping of targets, against the loop that says it in plain Python."""

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.data.defects import Defects
from analysis.data.mbeir_parquet import load_mbeir_parquet
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.retrieval import pairs_as_retrieval
from analysis.data.samples import Picture
from analysis.errors import DataError
from tests.data.writers import Item, encoded, solid, write_mbeir_parquet


@pytest.fixture
def pairs():
    groups = [
        PairGroup(f"i{i}", Picture(data=encoded(solid(i, 0, 0))), [(str(n), f"{i} {n}") for n in range(1 + i % 3)])
        for i in range(7)
    ]
    return build_pairs("toy", groups, defects=Defects(), revision=[])


@pytest.mark.parametrize("task", ["i2t", "t2i"])
def test_pairs_ask_for_their_partners(pairs, task):
    retrieval = pairs_as_retrieval(pairs, task)
    assert isinstance(retrieval.qrels, sp.csr_array)
    dense = retrieval.qrels.toarray()
    for row, query in enumerate(retrieval.queries):
        for column, candidate in enumerate(retrieval.candidates):
            assert dense[row, column] == (query.pair_id == candidate.pair_id)
    assert {query.modality for query in retrieval.queries} == {"image" if task == "i2t" else "text"}
    assert {candidate.modality for candidate in retrieval.candidates} == {"text" if task == "i2t" else "image"}
    assert set(map(id, retrieval.queries)) <= set(map(id, pairs.samples))  # the samples themselves, embedded once
    assert (retrieval.missing_targets, retrieval.unanswerable_queries) == (0, 0)


def test_limited_queries_keep_the_whole_pool(pairs):
    small = pairs_as_retrieval(pairs, "t2i", limit_queries=4, seed=2)
    large = pairs_as_retrieval(pairs, "t2i", limit_queries=6, seed=2)
    assert (len(small.queries), len(small.candidates), small.qrels.nnz) == (4, 7, 4)
    assert {q.sample_id for q in small.queries} < {q.sample_id for q in large.queries}
    for row, query in enumerate(small.queries):
        assert small.candidates[small.qrels.indices[small.qrels.indptr[row]]].pair_id == query.pair_id


def test_limited_queries_follow_the_seed_and_are_not_the_head(pairs):
    def chosen(seed):
        return [query.sample_id for query in pairs_as_retrieval(pairs, "t2i", limit_queries=5, seed=seed).queries]

    assert chosen(0) == chosen(0)
    assert len({tuple(chosen(seed)) for seed in range(4)}) > 1
    everyone = [query.sample_id for query in pairs_as_retrieval(pairs, "t2i").queries]
    assert chosen(0) != everyone[:5]
    assert chosen(0) == [query for query in everyone if query in chosen(0)]  # file order


def test_pairs_hold_no_other_task(pairs):
    with pytest.raises(DataError, match="i2t and t2i, not 'i2i'"):
        pairs_as_retrieval(pairs, "i2i")
    with pytest.raises(DataError, match="limit_queries is 0"):
        pairs_as_retrieval(pairs, "i2t", limit_queries=0)


def random_task(seed: int):
    """Queries and candidates with flaws, and qrels that also name what is not there."""
    rng = np.random.default_rng(seed)
    queries = [Item(f"q{i}", f"query {i}" if rng.random() > 0.1 else " ") for i in range(40)]
    candidates = [Item(f"c{i}", None, solid(i, 0, 0) if rng.random() > 0.2 else None, "image") for i in range(60)]
    pairs = [(f"q{rng.integers(0, 44)}", f"c{rng.integers(0, 75)}", int(rng.integers(0, 3))) for _ in range(90)]
    return queries, candidates, pairs


@pytest.mark.parametrize("seed", range(4))
def test_targets_are_counted_as_the_plain_loop_counts_them(tmp_path, seed):
    queries, candidates, lines = random_task(seed)
    write_mbeir_parquet(tmp_path / "toy_task1", queries, candidates, lines, shards=3, row_group_size=7)
    task = load_mbeir_parquet(tmp_path / "toy_task1")

    relevant: dict[str, set[str]] = {}
    for query, candidate, score in lines:
        if score > 0:
            relevant.setdefault(query, set()).add(candidate)
    good_queries = [item.id for item in queries if item.text.strip() and item.id in relevant]
    good_candidates = [item.id for item in candidates if item.image is not None]
    assert [q.sample_id for q in task.queries] == [f"toy_task1/query:{i}" for i in good_queries]
    assert [c.sample_id for c in task.candidates] == [f"toy_task1/candidate:{i}" for i in good_candidates]
    missing = []
    for row, query in enumerate(good_queries):
        found = {good_candidates[column] for column in np.flatnonzero(task.qrels[[row]].toarray()[0])}
        assert found == relevant[query] & set(good_candidates)
        missing.append(len(relevant[query] - set(good_candidates)))
    assert task.missing_per_query.tolist() == missing
    assert task.missing_targets == sum(missing)
    assert task.unanswerable_queries == sum(not relevant[q] & set(good_candidates) for q in good_queries)
    assert set(task.qrels.data.tolist()) == {1}
    everyone = {item.id for item in candidates}
    unknown = {c for targets in relevant.values() for c in targets if c not in everyone}
    assert task.defects.count("unknown candidate in qrels") == len(unknown)
    silent = [item.id for item in queries if item.text.strip() and item.id not in relevant]
    assert task.defects.count("query without a target in qrels") == len(silent)


def test_fractions_with_missing_targets_follow_from_the_counts(tmp_path):
    """mteb divides by all relevant documents, the missing ones too; the hit rate counts such a query as asked."""
    queries = [Item("q0", "a"), Item("q1", "b")]
    pool = [Item("c0", None, solid(1, 0, 0)), Item("c1", None, solid(2, 0, 0))]
    lines = [("q0", "c0"), ("q0", "gone"), ("q0", "lost"), ("q1", "gone")]
    task = load_mbeir_parquet(write_mbeir_parquet(tmp_path / "task1", queries, pool, lines))
    found = np.diff(task.qrels.indptr)
    np.testing.assert_allclose(found / (found + task.missing_per_query), [1 / 3, 0])
    assert (task.missing_targets, task.unanswerable_queries) == (3, 1)
    assert task.defects.lines() == ["2 x unknown candidate in qrels, first: gone"]
