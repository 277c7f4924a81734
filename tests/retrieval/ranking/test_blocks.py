"""Tasks larger than memory: the numbers of the ordinary way, from blocks."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation import lab as lab_module
from analysis.retrieval.evaluation import standard
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import BASE, parse
from analysis.retrieval.ranking import blocks
from analysis.retrieval.ranking.blocks import BlockRows, fits_in_memory, measured_statistics
from analysis.retrieval.realign import statistics
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store

SPECS = [
    "base",
    "removal:attribution,share=0.1",
    "removal:random,share=0.1,seed=3",
    "pca:n=2",
    "pca:n=3,centred=true",
    "centring:side",
    "centring:joint",
    "centring:modality",
    "realign:alpha=0.1",
    "realign:alpha=0.3,statistics=joint",
    "realign:alpha=0.1,statistics=candidates",
    "realign:alpha=0.1,statistics=queries",
    "removal:energy,share=0.1+realign:alpha=0.2",
    "centring:joint+pca:n=2",
    "all_but_the_top:n=2",
    "nnn:alpha=0.5,k=4",
    "realign:alpha=0.1+sinkhorn:beta=10",
    "qb_norm:beta=10",
]


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    path = make_store(tmp_path_factory.mktemp("cache"), n_pairs=60)
    return space_from_store(open_store(path), "i2t")


def in_blocks(space, spec):
    """(ranks, queries without a direction) as a lab without memory finds them."""
    measured = Lab(space, memory=0).measure(parse(spec))
    return measured.ranks[0], measured.void


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of seven rows, so that borders matter."""
    monkeypatch.setattr(blocks, "BLOCK", 7)
    monkeypatch.setattr("analysis.retrieval.ranking.similarities.CANDIDATE_BLOCK", 11)


@pytest.mark.parametrize("spec", SPECS)
def test_ranks_are_those_of_the_whole_arrays(space, small_blocks, spec):
    ranks, void = in_blocks(space, spec)
    expected = Lab(space).measure(parse(spec))
    np.testing.assert_array_equal(ranks.rank, expected.ranks[0].rank)
    assert void == expected.void


@pytest.mark.parametrize("spec", ["base", "realign:alpha=0.1", "csls:k=4"])
def test_lists_of_one_query_are_those_of_the_whole_arrays(space, small_blocks, spec):
    found, expected = (Lab(space, memory=memory).lists(parse(spec)).top(3, 9) for memory in (0, None))
    np.testing.assert_array_equal(found.ids, expected.ids)


def test_means_of_modalities_over_two_sides_of_one(space, small_blocks):
    alike = replace(space, stored_modalities=lambda side: np.full(len(space.rows(side, "mean")), "text"))
    ranks, _ = in_blocks(alike, "centring:modality")
    np.testing.assert_array_equal(ranks.rank, in_blocks(alike, "centring:joint")[0].rank)


def test_a_mixed_pool_is_not_centred_in_blocks(space):
    def mixed(side: str) -> np.ndarray:
        return np.resize(["image", "text"], len(space.rows(side, "mean")))

    with pytest.raises(RetrievalError, match="mixes modalities"):
        in_blocks(replace(space, stored_modalities=mixed), "centring:modality")


def test_no_reading_is_larger_than_a_block(space, small_blocks):
    asked = []

    def read(side, variant, positions):
        asked.append((side, len(positions)))
        return space.read_rows(side, variant, positions)

    watched = replace(space, read_rows=read)
    in_blocks(watched, "realign:alpha=0.1")
    targets = space.qrels.nnz
    assert max(n for side, n in asked if side == "candidates") <= max(11, targets)
    assert len(asked) > 2 * space.n_candidates / 11


@pytest.mark.parametrize("side", ["queries", "candidates"])
def test_statistics_in_blocks_are_those_of_all_rows(space, small_blocks, side):
    found, expected = measured_statistics(space, side, "mean"), statistics(space.rows(side, "mean"))
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12)
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-12)
    assert found.n == expected.n


def test_moments_about_any_point_follow_from_one_pass(space):
    rows = BlockRows.of(space, "queries", "mean")
    x, _ = rows.all()
    point = np.full(rows.width, 0.1)
    np.testing.assert_allclose(rows.moments().about(point), (x - point).T @ (x - point), atol=1e-10)


@pytest.mark.parametrize("spec", ["edit:1=0", "codes:idf", "rerank:n=5"])
def test_what_needs_all_candidates_at_once_is_refused(space, spec):
    with pytest.raises(RetrievalError, match="more than fit into memory"):
        in_blocks(space, spec)


def test_large_is_a_matter_of_memory(space):
    assert fits_in_memory(space)
    assert not fits_in_memory(space, memory=1000)
    assert fits_in_memory(replace(space, read_rows=None), memory=1000)


def test_the_standard_results_of_a_large_task_are_those_of_a_small_one(space, monkeypatch):
    small = standard.standard_results(space)
    monkeypatch.setattr(lab_module, "fits_in_memory", lambda space, memory: False)
    large = standard.standard_results(space)
    kept = small[small["method"] != "removal, chosen r"].reset_index(drop=True)
    assert large["method"].tolist() == kept["method"].tolist()
    np.testing.assert_allclose(large["recall"], kept["recall"])
    np.testing.assert_allclose(large["difference"], kept["difference"], atol=1e-12)


def test_a_row_in_the_removed_subspace_is_void_in_blocks_too(space):
    dictionary = np.asarray(space.dictionary)
    inside = replace(
        space, read_rows=lambda side, variant, p: np.repeat(dictionary[:1], len(p), axis=0) if side == "queries" else
        space.read_rows(side, variant, p),
    )  # fmt: skip
    ranks, void = in_blocks(inside, "removal:concepts,concepts=0")
    assert void == inside.n_queries
    assert (ranks.rank == space.n_candidates + 1).all()
    assert in_blocks(inside, BASE.spec)[1] == 0
