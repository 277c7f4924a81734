"""Picture cells come back whatever the order, the row groups and the process; damaged shards are counted."""

import multiprocessing
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.data import parquet
from analysis.data.defects import Defects
from analysis.data.parquet import PictureCell, find_shards, open_shards
from analysis.errors import DataError
from tests.data.writers import PICTURE


def content(row: int) -> bytes:
    return f"picture {row} ".encode() * 20


def write(path, n: int, row_group_size: int, *, without: tuple[int, ...] = (), plain: bool = False):
    cells = [None if row in without else content(row) for row in range(n)]
    if not plain:
        cells = [None if cell is None else {"bytes": cell, "path": None} for cell in cells]
    table = pa.table({"id": list(range(n)), "image": pa.array(cells, pa.binary() if plain else PICTURE)})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


@pytest.fixture
def small_cache(monkeypatch):
    """Two readers and room for about five pictures, so that everything is forgotten and read again."""
    monkeypatch.setattr(parquet, "KEPT_BYTES", 5 * len(content(10)))
    monkeypatch.setattr(parquet, "_READERS", 2)
    monkeypatch.setattr(parquet, "_CACHE", parquet._Cache())


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("row_group_size", [7, 100, 1000])
def test_any_order_gives_the_right_bytes(tmp_path, small_cache, row_group_size, plain):
    path = str(write(tmp_path / "a.parquet", 120, row_group_size, plain=plain))
    rows = np.random.default_rng(0).integers(0, 120, 150)
    for row in [*range(120), *rows.tolist()]:
        assert PictureCell(path, row // row_group_size, row % row_group_size)() == content(row)


def test_the_cache_stays_within_its_budget(tmp_path, small_cache):
    path = str(write(tmp_path / "a.parquet", 200, 50))
    for row in range(200):
        PictureCell(path, row // 50, row % 50)()
        assert parquet._CACHE.size <= parquet.KEPT_BYTES
    assert parquet._CACHE.size == sum(map(len, parquet._CACHE.cells.values()))
    assert len(parquet._CACHE.readers) <= 2


def test_neighbours_are_read_once(tmp_path, monkeypatch):
    path = str(write(tmp_path / "a.parquet", 64, 64))
    monkeypatch.setattr(parquet, "_CACHE", parquet._Cache())
    for row in np.random.default_rng(1).permutation(64).tolist():
        assert PictureCell(path, 0, row)() == content(row)
    opened = []
    monkeypatch.setattr(parquet, "_Reader", lambda *key: opened.append(key))
    for row in range(64):
        assert PictureCell(path, 0, row)() == content(row)
    assert opened == []


def read_from(cell: PictureCell) -> bytes:
    return cell()


def test_cells_can_be_read_in_worker_processes(tmp_path):
    path = str(write(tmp_path / "a.parquet", 30, 10))
    cells = [PictureCell(path, row // 10, row % 10) for row in range(30)]
    assert pickle.loads(pickle.dumps(cells[3]))() == content(3)  # the parent has files open from here on
    with parquet._CACHE.lock:  # as if another thread were reading at the moment of the fork
        pool = multiprocessing.get_context("fork").Pool(2)
    with pool:
        assert pool.map_async(read_from, cells).get(timeout=60) == [content(row) for row in range(30)]


def test_missing_pictures_are_found_without_reading_the_others(tmp_path):
    none = open_shards([write(tmp_path / "none.parquet", 9, 4, without=tuple(range(9)))], Defects())[0]
    some = open_shards([write(tmp_path / "some.parquet", 40, 40, without=(3, 20))], Defects())[0]
    full = open_shards([write(tmp_path / "full.parquet", 9, 4)], Defects())[0]
    assert [none.has_picture(group).tolist() for group in range(3)] == [[False] * 4, [False] * 4, [False]]
    assert np.flatnonzero(~some.has_picture(0)).tolist() == [3, 20]
    assert full.has_picture(0).tolist() == [True] * 4
    with pytest.raises(DataError, match=r"Row 3 of some\.parquet holds no picture"):
        PictureCell(str(some.path), 0, 3)()


def test_a_shard_without_pictures_has_none(tmp_path):
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "a.parquet")
    assert open_shards([tmp_path / "a.parquet"], Defects())[0].has_picture(0).tolist() == [False, False]


def test_bad_shards_are_counted(tmp_path):
    good = write(tmp_path / "a.parquet", 5, 5)
    (tmp_path / "b.parquet").write_bytes(good.read_bytes()[:-30])
    write(tmp_path / "c.parquet", 0, 5)
    (tmp_path / "d.parquet").write_bytes(b"")
    defects = Defects()
    assert [shard.path.name for shard in open_shards(find_shards(tmp_path), defects)] == ["a.parquet"]
    assert defects.lines() == [
        "1 x empty parquet shard, first: c.parquet",
        "2 x unreadable parquet shard, first: b.parquet",
    ]


def test_damage_inside_a_shard_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_CACHE", parquet._Cache())
    path = write(tmp_path / "a.parquet", 50, 50)
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    shard = open_shards([path], Defects())[0]
    with pytest.raises(DataError, match=r"a\.parquet, row group 0, is damaged"):
        shard.read(0, ("id", "image"))
    with pytest.raises(DataError, match=r"in gone\.parquet cannot be read"):
        PictureCell(str(tmp_path / "gone.parquet"), 0, 0)()
    with pytest.raises(DataError, match="cannot be read"):
        PictureCell(str(write(tmp_path / "short.parquet", 5, 5)), 0, 77)()


def test_the_footer_tells_contents_of_one_size_apart(tmp_path):
    shards = []
    for name, value in (("a", 1), ("b", 2)):
        pq.write_table(pa.table({"id": [value]}), tmp_path / f"{name}.parquet")
        shards += open_shards([tmp_path / f"{name}.parquet"], Defects())
    assert len(shards[0].path.read_bytes()) == len(shards[1].path.read_bytes())
    assert shards[0].footer != shards[1].footer


def test_shards_are_found_in_data_too(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "query-0.parquet", 1, 1)
    write(tmp_path / "data" / "corpus-0.parquet", 1, 1)
    assert [path.name for path in find_shards(tmp_path, "query")] == ["query-0.parquet"]
