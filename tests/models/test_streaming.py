from __future__ import annotations

import threading
import time

import pytest

from analysis.data.samples import Sample
from analysis.errors import BackboneError, DataError
from analysis.models.batches import token_batches
from analysis.models.streaming import Record, ahead


def test_items_come_in_order_from_another_thread():
    threads = []

    def items():
        for i in range(20):
            threads.append(threading.current_thread())
            yield i

    assert list(ahead(items())) == list(range(20))
    assert threading.main_thread() not in threads


def test_at_most_depth_items_are_computed_in_advance():
    made = []

    def items():
        for i in range(10):
            made.append(i)
            yield i

    stream = ahead(items(), depth=2)
    next(stream)
    time.sleep(0.05)
    assert len(made) <= 3
    stream.close()
    time.sleep(0.05)
    assert len(made) <= 4


def test_an_error_arrives_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise DataError("third")

    stream = ahead(items())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(DataError, match="third"):
        next(stream)


def test_nothing_gives_nothing():
    assert list(ahead(iter(()))) == []


def test_batches_hold_every_sample_once_within_the_budget():
    lengths = [5, 90, 3, 40, 41, 7, 200, 8]
    groups = list(token_batches(lengths, budget=100))
    assert sorted(place for group in groups for place in group) == list(range(8))
    for group in groups:
        assert len(group) == 1 or max(lengths[place] for place in group) * len(group) <= 100
    assert groups[0] == [6]  # too long for the budget: alone
    assert list(token_batches([], 100)) == []


def test_batches_are_sorted_so_that_little_is_padding():
    lengths = [10, 100] * 50
    padded = sum(max(lengths[place] for place in group) * len(group) for group in token_batches(lengths, 1000))
    assert padded <= 1.1 * sum(lengths)


def test_a_record_raises_or_counts():
    samples = [Sample(f"s{i}", "text", text="x") for i in range(4)]
    with pytest.raises(DataError, match="Sample 's3' cannot be embedded: torn"):
        Record(samples, "raise").fail_from(2)(1, DataError("torn"))
    record = Record(samples, "skip")
    record.fail_from(2)(1, DataError("torn"))
    record.fail_from(0)(1, DataError("empty"))
    assert record.skipped == {3: "torn", 1: "empty"}
    assert record.defects().lines() == ["2 x picture that cannot be read, first: s1"]
    with pytest.raises(BackboneError, match="expected one of raise, skip"):
        Record(samples, "ignore")
