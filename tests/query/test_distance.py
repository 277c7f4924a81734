"""A query that is unlike the store's own is said to be; one of theirs is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.query.distance import LEAST, Usual, distance_note, usual
from analysis.retrieval.task import RetrievalSpace, space_from_store
from analysis.store import open_store
from tests.synthetic_store import make_store


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> RetrievalSpace:
    path: Path = make_store(tmp_path_factory.mktemp("cache"), n_pairs=80)
    return space_from_store(open_store(path), "i2t")


def query(h: np.ndarray, modality: str = "image") -> SimpleNamespace:
    return SimpleNamespace(modality=modality, embedding=lambda: h)


def test_the_percentiles_are_those_of_all_pairs(space: RetrievalSpace) -> None:
    known = usual(space)
    assert known is not None
    h = np.asarray(space.rows("queries", "mean"), np.float64)
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    cosines = unit @ unit.T - 2 * np.eye(len(unit))
    assert known.distance == pytest.approx(np.percentile(1 - cosines.max(axis=1), 99), abs=1e-5)
    assert 0 <= known.left <= 1


def test_a_query_of_the_store_is_like_the_others_and_noise_is_not(space: RetrievalSpace) -> None:
    known = usual(space)
    assert known is not None
    own = np.asarray(space.row("queries", "mean", 3))
    assert "unlike" not in distance_note(space, known, query(own))
    noise = np.random.default_rng(0).normal(size=len(own)) * np.linalg.norm(own)
    said = distance_note(space, known, query(noise))
    assert "unlike those of the store" in said
    assert "99 % of them" in said
    assert "SAE leaves" in said
    assert distance_note(space, known, query(noise, "text")) == ""


def test_few_queries_say_nothing(tmp_path: Path) -> None:
    few = space_from_store(open_store(make_store(tmp_path, n_pairs=LEAST // 2)), "i2t")
    assert usual(few) is None
    assert distance_note(few, None, query(np.ones(3))) == ""
    assert isinstance(Usual(np.zeros((1, 2)), 0.1, 0.2).distance, float)
