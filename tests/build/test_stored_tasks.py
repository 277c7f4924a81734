"""Statistics that a build keeps for whitening: of the queries always, of both sides with spectra where they are wide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.build.stored_tasks import _write_statistics
from analysis.retrieval import realign
from analysis.retrieval.interventions import parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.task import RetrievalSpace, space_from_store
from analysis.store import Store, StoreWriter, open_store
from tests.synthetic_store import make_store

CONFIG = {"backbone": {"key": "m"}, "sae": {"n_concepts": 1}, "data": {"name": "d"}}


def kept(tmp_path: Path) -> tuple[RetrievalSpace, Store]:
    """A space, and a reader of what a build would keep of it."""
    source = open_store(make_store(tmp_path / "source"))
    space = space_from_store(source, "i2t")
    writer = StoreWriter(tmp_path, "m", "d", CONFIG).__enter__()
    writer.array("embeddings/mean.npy", np.asarray(source.embeddings("mean")))
    _write_statistics(writer, "i2t", space, source.width)
    return space, writer.preview({}, {})


def test_of_narrow_embeddings_nothing_is_kept(tmp_path: Path) -> None:
    space, store = kept(tmp_path)
    assert store.support("i2t", "queries") is None
    assert store.support("i2t", "candidates") is None
    assert space.support("mean") is not None  # measured from the embeddings


def test_wide_embeddings_keep_both_spectra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realign, "EXACT_WIDTH", 8)
    space, store = kept(tmp_path)
    for side in ("queries", "candidates"):
        support = store.support("i2t", side)
        assert support is not None
        assert support.spectrum is not None
        values, vectors = support.spectrum
        rows = space.rows(side, "mean").astype(np.float64)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        assert (vectors * values) @ vectors.T == pytest.approx(np.cov(unit, rowvar=False), abs=1e-6)
        assert support.n == len(rows)
        assert support.mean == pytest.approx(unit.mean(axis=0), abs=1e-6)
        assert support.covariance == pytest.approx(np.cov(unit, rowvar=False), abs=1e-6)
        assert (support.length_series is None) == (side == "queries")


def test_whitening_from_the_stored_spectra_is_that_from_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realign, "EXACT_WIDTH", 8)
    space, store = kept(tmp_path)
    expected = fit(parse("realign"), space)
    stored = {side: store.support("i2t", side) for side in ("queries", "candidates")}

    def statistics_of(side: str, variant: str) -> realign.Statistics | None:
        found = stored[side]
        assert found is not None
        return realign.Statistics(found.mean, found.covariance, found.n, found.spectrum, found.length_series)

    fresh = replace(space, stored_statistics=statistics_of)
    monkeypatch.setattr(realign.scipy.linalg, "eigh", None)  # nothing is decomposed again
    monkeypatch.setattr(realign.Whitening, "lengths_of", None)  # and no candidate whitened for its length
    found = fit(parse("realign"), fresh)
    every = np.arange(space.n_queries)
    similarity = found.scores().block(every, 0, space.n_candidates)
    assert similarity == pytest.approx(expected.queries @ expected.candidates.T, abs=1e-5)
    assert found.queries == pytest.approx(expected.queries, abs=1e-5)
    assert found.candidates == pytest.approx(expected.candidates, abs=1e-5)
