"""Derived tables follow from a store that stands: computed again, published whole, and said when they are old."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.build import rescore as rescoring
from analysis.build.build import build
from analysis.build.rescore import rescore
from analysis.concepts import scores
from analysis.concepts.scores import Score, ScoreInputs
from analysis.errors import NewerStore
from analysis.store import open_store, verify
from analysis.store.files import write_durably
from tests.build.folders import small_plan
from tests.store.tamper import as_schema_1, copy_of, edit_manifest, table


def gini(inputs: ScoreInputs) -> np.ndarray:
    """Inequality of a concept's activations over all samples: 0 where it fires on all alike, towards 1 on few."""
    z = np.sort(inputs.codes.to_csr().toarray().astype(float), axis=0)
    n, total = len(z), z.sum(axis=0)
    weighted = ((2 * np.arange(1, n + 1) - n - 1)[:, None] * z).sum(axis=0)
    return np.divide(weighted, n * total, out=np.full(z.shape[1], np.nan), where=total > 0)


GINI = Score("gini", "Gini", "How unequally it fires over the samples.", gini, range=(0, 1))


@pytest.fixture(scope="module")
def alone(checkpoint: Callable[[str], Path], coco_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in a cache of its own: a second backbone's store beside it is one more witness of its concepts."""
    return build(small_plan(coco_folder, checkpoint("clip"), tmp_path_factory.mktemp("alone")), say=silent)


@pytest.fixture
def store(alone: Path, tmp_path: Path) -> Path:
    return copy_of(alone, tmp_path / "cache")


def silent(text: str) -> None:
    """Says nothing."""


def base_bytes(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in open_store(path).manifest.files if not name.endswith("/")}


def test_everything_computed_again_gives_the_same_tables(store: Path) -> None:
    before, base = open_store(store), base_bytes(store)
    tables = before.concepts, before.bridges, before.neighbours, before.results("i2t")
    assert set(rescore(store, everything=True, say=silent)) >= {"score energy", "bridges", "names", "map", "results"}
    after = open_store(store)
    for old, new in zip(tables, (after.concepts, after.bridges, after.neighbours, after.results("i2t")), strict=True):
        pd.testing.assert_frame_equal(pd.DataFrame(old), pd.DataFrame(new), rtol=1e-9)
    assert base_bytes(store) == base
    assert verify(store).ok


def test_current_tables_are_left_alone(store: Path) -> None:
    before = (store / "derived.json").stat().st_mtime_ns
    assert rescore(store, say=silent) == ()
    assert (store / "derived.json").stat().st_mtime_ns == before


def test_a_new_score_is_said_and_then_only_it_is_computed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scores.SCORES, "gini", GINI)
    older = open_store(store)
    assert older.older == ("score gini",)
    assert f"python -m analysis rescore {store}" in older.older_note
    assert older.concepts["gini"].isna().all(), "it opens, without the score"
    assert rescore(store, say=silent) == ("score gini",)
    now = open_store(store)
    assert now.older_note == ""
    assert verify(store).ok
    dense = now.codes.to_csr().toarray().astype(float)
    live = np.flatnonzero(dense.sum(axis=0))
    for concept in live[:5]:  # mean absolute difference over twice the mean: the definition
        z = dense[:, concept]
        expected = np.abs(z[:, None] - z[None]).mean() / (2 * z.mean())
        assert now.concepts["gini"][concept] == pytest.approx(expected, rel=1e-5)


def test_a_store_one_schema_older_opens_is_rescored_and_is_not_built_again(
    store: Path, checkpoint: Callable[[str], Path], coco_folder: Path
) -> None:
    tables = open_store(store).concepts
    as_schema_1(store)
    old = open_store(store)
    assert old.older[0] == "layout"
    assert f"python -m analysis rescore {store}" in old.older_note
    assert old.concepts.equals(tables)
    said: list[str] = []
    plan = small_plan(coco_folder, checkpoint("clip"), store.parent.parent)
    assert build(plan, say=said.append) == store
    assert open_store(store).older == ()
    assert open_store(store).concepts.equals(tables)
    assert verify(store).ok
    assert not (store / "concepts.parquet").exists()


def test_a_store_that_cannot_be_opened_is_built_again(
    store: Path, checkpoint: Callable[[str], Path], coco_folder: Path
) -> None:
    plan = small_plan(coco_folder, checkpoint("clip"), store.parent.parent)
    edit_manifest(store, schema=0)
    assert build(plan, say=silent) == store
    assert verify(store).ok
    edit_manifest(store, schema=99)
    with pytest.raises(NewerStore, match="update"):
        build(plan, say=silent)


def test_damaged_tables_are_computed_from_the_base(store: Path) -> None:
    before = open_store(store).concepts
    path = table(store, "concepts.parquet")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert not verify(store).ok
    rescore(store, say=silent)
    assert verify(store).ok
    pd.testing.assert_frame_equal(open_store(store).concepts, before, rtol=1e-9)


@pytest.mark.parametrize("step", ["move_into_place", "write_durably"])
@pytest.mark.parametrize("schema", [1, 2])
def test_killed_halfway_the_old_tables_are_intact(
    store: Path, step: str, schema: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_store(store).concepts
    if schema == 1:
        as_schema_1(store)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"analysis.store.write.{step}", cut)
        with pytest.raises(KeyboardInterrupt):
            rescore(store, everything=True, say=silent)
    assert open_store(store).concepts.equals(before)
    assert open_store(store).manifest.schema == schema
    rescore(store, say=silent)
    assert verify(store).ok
    assert len(list((store / "derived").iterdir())) == 1


def test_killed_between_the_two_manifests_schema_1_still_opens(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_schema_1(store)
    before = open_store(store).concepts

    def first_only(path: Path, text: str) -> None:
        if path.name == "manifest.json":
            raise KeyboardInterrupt
        write_durably(path, text)

    with monkeypatch.context() as patch:
        patch.setattr("analysis.store.write.write_durably", first_only)
        with pytest.raises(KeyboardInterrupt):
            rescore(store, say=silent)
    assert open_store(store).concepts.equals(before)
    rescore(store, say=silent)
    assert verify(store).ok


def test_pairs_are_those_of_the_build(store: Path) -> None:
    opened = open_store(store)
    rows = rescoring.pair_rows(opened)
    assert rows.source == opened.facts["pairs_from"]
    assert len(rows.pair_image) == opened.facts["counts"]["pairs"]
