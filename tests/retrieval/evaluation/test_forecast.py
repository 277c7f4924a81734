"""What a measurement will take is said from sizes and one timed product."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.retrieval.evaluation import forecast as module
from analysis.retrieval.evaluation.forecast import forecast
from analysis.retrieval.interventions import parse
from analysis.retrieval.task import RetrievalSpace, space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> RetrievalSpace:
    path: Path = make_store(tmp_path_factory.mktemp("cache"), n_pairs=20)
    return space_from_store(open_store(path), "i2t")


def test_sizes_are_those_of_the_task_and_every_seed_counts(space: RetrievalSpace) -> None:
    methods = [parse("removal:random,share=0.1,seeds=3"), parse("realign")]
    found = forecast(space, methods)
    assert (found.n_queries, found.n_candidates, found.width) == (20, 40, 48)
    assert found.measurements == 5
    assert found.held
    assert found.read_bytes == (20 + 40) * 48 * space.rows("queries", "mean").dtype.itemsize
    assert found.seconds == pytest.approx(2 * 20 * 40 * 48 * 5 / found.flops)
    text = "\n".join(found.lines())
    for part in (
        "20 queries x 40 candidates x 48 dimensions",
        "measured 5 times",
        "held whole",
        "for similarities, at",
    ):
        assert part in text


def test_what_does_not_fit_is_read_again_for_every_method_and_every_fit(
    space: RetrievalSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fits_in_memory", lambda space, memory: False)
    found = forecast(space, [parse("realign")])
    assert found.read_bytes == 3 * (20 + 40) * 48 * space.rows("queries", "mean").dtype.itemsize
    assert found.seconds > 2 * 20 * 40 * 48 * 2 / found.flops  # a covariance and a map beside two sets of similarities
    assert all(part in "\n".join(found.lines()) for part in ("in blocks", "covariances and maps"))
