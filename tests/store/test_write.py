"""A store exists completely or not at all, and is never changed afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.store import StoreWriter, find_stores, open_store, verify
from analysis.store.schema import shared_thumbs
from tests.synthetic_store import make_store

CONFIG = {"backbone": {"key": "m"}, "sae": {"n_concepts": 1}, "data": {"name": "d"}}


def interrupted(cache: Path) -> None:
    with StoreWriter(cache, "m", "d", CONFIG) as writer:
        writer.array("embeddings/mean.npy", np.ones((2, 2)))
        raise RuntimeError("power cut")


def test_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power"):
        interrupted(tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    assert find_stores(tmp_path) == []


def test_block_left_without_publishing_leaves_nothing(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, "m", "d", CONFIG) as writer:
        writer.array("codes/values.npy", np.ones(3))
        hidden = [path for path in (tmp_path / "m").iterdir() if path.name.startswith(".")]
        assert hidden, "the parts are collected in a hidden folder"
    assert list((tmp_path / "m").iterdir()) == []


def test_killed_write_is_no_store(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, "m", "d", CONFIG).__enter__()
    writer.array("embeddings/mean.npy", np.ones((2, 2)))  # and never leaves the block
    assert find_stores(tmp_path) == []


def test_same_configuration_gives_the_same_folder_and_the_first_store_stays(tmp_path: Path) -> None:
    first = make_store(tmp_path)
    created = open_store(first).manifest.created
    inode = (first / "manifest.json").stat().st_ino
    assert make_store(tmp_path) == first
    assert open_store(first).manifest.created == created
    assert (first / "manifest.json").stat().st_ino == inode
    assert make_store(tmp_path, seed=1) != first


def test_nothing_is_published_without_its_columns(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"samples\.parquet lacks the columns"),
        StoreWriter(tmp_path, "m", "d", CONFIG) as writer,
    ):
        writer.samples(pd.DataFrame({"sample_id": ["a"]}))


def test_unknown_side_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="side"), StoreWriter(tmp_path, "m", "d", CONFIG) as writer:
        writer.support("i2t", "both", "mean", np.zeros(2), np.eye(2), 2, (np.ones(2), np.eye(2)))


def test_stores_of_the_same_pictures_hold_them_once(tmp_path: Path) -> None:
    first, second, other = make_store(tmp_path), make_store(tmp_path, seed=1), make_store(tmp_path, n_pairs=7)
    assert open_store(first).thumbs == open_store(second).thumbs != open_store(other).thumbs
    assert len(list((tmp_path / "thumbs").iterdir())) == 2
    assert not list(tmp_path.glob("*/*/thumbs"))
    assert all(verify(path).ok for path in (first, second, other))


def test_damaged_shared_pictures_are_mended_by_the_next_store(tmp_path: Path) -> None:
    first = make_store(tmp_path)
    pictures = open_store(first).thumbs
    next(pictures.iterdir()).write_bytes(b"no picture")
    assert not verify(first).ok
    second = make_store(tmp_path, seed=1)
    assert verify(first).ok
    assert verify(second).ok
    assert [path.name for path in pictures.parent.iterdir()] == [pictures.name]


def test_store_with_pictures_of_its_own_reads_those(tmp_path: Path) -> None:
    """As stores were written before pictures were shared, and as somebody may hand one over."""
    path = make_store(tmp_path)
    open_store(path).thumbs.rename(path / "thumbs")
    store = open_store(path)
    row = int(np.flatnonzero(store.samples["thumb"] != "")[0])
    assert store.thumb_path(row) == path / store.samples["thumb"].iloc[row]
    assert verify(path).ok


def test_name_of_a_data_set_leads_nowhere_else(tmp_path: Path) -> None:
    for name in ("../../secret", "a/b", "a\0b", "x" * 400, ".."):
        found = Path(shared_thumbs(name, "0" * 64))
        assert found.parent == Path("thumbs")
        assert found.name not in ("..", ".")
        assert not (tmp_path / found).exists()  # a name that the system takes
