"""Passes over a task in spans: the same numbers, whatever stopped them and whoever computed them."""

import pickle

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import parse
from analysis.retrieval.ranking.blocks import BlockRows
from analysis.retrieval.ranking.passes import Runner
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from tests.retrieval.ranking.test_blocks import SPECS
from tests.synthetic_store import make_store

SPAN = 29  # of 120 candidates: four spans and a rest


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    path = make_store(tmp_path_factory.mktemp("cache"), n_pairs=60)
    return space_from_store(open_store(path), "i2t")


class Stopped(Exception):
    """As Ctrl-C in the middle of a pass."""


def stopping(after: int):
    """(progress that stops the `after`-th span, what it has seen)."""
    seen = []

    def progress(title, done, total):
        seen.append((title, done, total))
        if len(seen) == after:
            raise Stopped

    return progress, seen


@pytest.mark.parametrize("spec", SPECS)
def test_spans_add_up_to_the_ranks_of_the_whole_task(space, spec):
    expected = Lab(space).measure(parse(spec))
    found = Lab(space, memory=0, runner=Runner(span=SPAN)).measure(parse(spec))
    np.testing.assert_array_equal(found.ranks[0].rank, expected.ranks[0].rank)


def through_pickle(function, spans):
    """As on a cluster: what computes a span is another process, which gets a copy."""
    return (pickle.loads(pickle.dumps(function))(span) for span in spans)


@pytest.mark.parametrize("spec", ["base", "realign:alpha=0.1", "removal:energy,share=0.1+csls:k=4"])
def test_what_computes_a_span_travels(space, spec):
    expected = Lab(space).measure(parse(spec))
    found = Lab(space, memory=0, runner=Runner(span=SPAN, over=through_pickle)).measure(parse(spec))
    np.testing.assert_array_equal(found.ranks[0].rank, expected.ranks[0].rank)


@pytest.mark.parametrize("spec", ["base", "realign:alpha=0.1", "pca:n=2+qb_norm:beta=10"])
def test_a_stopped_measurement_goes_on_where_it_was(space, spec, tmp_path):
    expected = Lab(space, memory=0, runner=Runner(span=SPAN)).measure(parse(spec)).ranks[0].rank
    computed = []

    def counting(function, spans):
        for span in spans:
            computed.append((function.__self__.key, span))
            yield function(span)

    for after in (2, 3, 5, 8, 10**6):  # stops at later places each time
        progress, _ = stopping(after)
        lab = Lab(space, memory=0, runner=Runner(tmp_path, progress, counting, SPAN))
        try:
            found = lab.measure(parse(spec))
            break
        except Stopped:
            continue
    np.testing.assert_array_equal(found.ranks[0].rank, expected)
    assert len(computed) == len(set(computed))  # no span twice


def test_kept_sums_are_those_that_an_unbroken_run_has_to_the_last_bit(space, tmp_path):
    rows = BlockRows.of(space, "candidates", "mean")
    whole = rows.moments(Runner(span=SPAN))
    progress, _ = stopping(3)
    with pytest.raises(Stopped):
        rows.moments(Runner(tmp_path, progress, span=SPAN), "candidates")
    resumed = rows.moments(Runner(tmp_path, span=SPAN), "candidates")
    assert resumed.n == whole.n
    np.testing.assert_array_equal(resumed.scatter, whole.scatter)
    x, _ = rows.all()
    np.testing.assert_allclose(resumed.covariance, np.cov(x.T), atol=1e-12)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half of a file"])
def test_sums_that_were_cut_off_are_computed_again(space, tmp_path, damage):
    lab = Lab(space, memory=0, runner=Runner(tmp_path, span=SPAN))
    expected = lab.measure(parse("base")).ranks[0].rank
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(damage)
    np.testing.assert_array_equal(lab.measure(parse("base")).ranks[0].rank, expected)


def test_a_disk_that_refuses_is_one_sentence(space, tmp_path):
    lab = Lab(space, memory=0, runner=Runner(tmp_path / "gone"))
    with pytest.raises(RetrievalError, match=r"could not be kept.*free some space and run the command again"):
        lab.measure(parse("base"))


def test_progress_counts_rows_and_names_the_method(space):
    progress, seen = stopping(10**6)
    Lab(space, memory=0, runner=Runner(progress=progress, span=SPAN)).measure(parse("centring:side"))
    means = [(done, total) for title, done, total in seen if title == "Mean and covariance"]
    assert (60, 60) in means
    assert (120, 120) in means
    assert [done for title, done, _ in seen if title.startswith("mean-centred")] == [0, 29, 58, 87, 116, 120]
