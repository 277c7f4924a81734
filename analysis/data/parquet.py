"""Parquet shards read in place: which files, which columns, and single picture cells fetched when asked for.

Nothing here knows what the columns mean, but for one: pictures are a struct {bytes, path} as the hub writes it, plain
bytes, or plain paths. Where a cell has no bytes, its path is looked for beside the shard.
"""

from __future__ import annotations

import base64
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.data.columns import PICTURE, column_of
from analysis.data.defects import Defects
from analysis.data.disk import head_of, lfs_pointer, read_bytes
from analysis.data.names import Finder, files_of, subfolders
from analysis.data.splits import canonical
from analysis.errors import DataError

KEPT_BYTES = 64 << 20  # picture bytes that a process keeps: more than 256 COCO photographs
_BATCH_ROWS = 16
# With a buffer Arrow decodes page by page; without one it reads whole column chunks, gigabytes where a file is one group.
_LONGEST_PATH = 256  # characters; a longer text is the picture itself
_STREAM = 1 << 20
_READERS = 4  # row groups read forwards at the same time


@dataclass(frozen=True)
class Shard:
    """A readable parquet file with rows. `footer` changes whenever its content does (sizes and offsets of all
    column chunks stand in it)."""

    path: Path
    n_groups: int
    columns: frozenset[str]
    footer: bytes
    picture: str = "image"  # the column of the pictures

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of one row group; columns that the file lacks are left out."""
        try:
            with pq.ParquetFile(self.path) as file:
                return file.read_row_group(group, columns=[name for name in columns if name in self.columns])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.path.name}, row group {group}, is damaged ({error}); download it again.") from error

    def has_picture(self, group: int) -> np.ndarray:
        """(rows,) bool: which rows of a row group hold picture bytes, or the path of a file that is there. Reads bytes
        only where the file's own count of missing values leaves it open."""
        with pq.ParquetFile(self.path, buffer_size=_STREAM) as file:
            facts = file.metadata.row_group(group)
            leaves = picture_leaves(file.schema_arrow, self.picture)
            chunks = {facts.column(i).path_in_schema: facts.column(i) for i in range(facts.num_columns)}
            if not any(name == leaf or name.startswith(f"{leaf}.") for leaf in leaves for name in chunks):
                return np.zeros(facts.num_rows, bool)
            statistics = chunks[leaves[0]].statistics if leaves[0] in chunks else None
            nulls = statistics.null_count if statistics is not None and statistics.has_null_count else None
            if nulls == 0 and not _is_path(file.schema_arrow, self.picture):
                return np.ones(facts.num_rows, bool)
            if nulls == facts.num_rows:
                leaves = leaves[1:]  # paths alone
            found: list[bool] = []
            for batch in _batches(file, group, leaves) if leaves else ():
                found += [bool(data) or in_file(self.path, name) is not None for data, name in _cells(batch)]
        return np.array(found, bool) if leaves else np.zeros(facts.num_rows, bool)

    def cell(self, group: int, row: int) -> PictureCell:
        return PictureCell(str(self.path), group, row, self.picture)


@dataclass(frozen=True, slots=True)
class PictureCell:
    """Picture bytes in one row of one row group, read on call. Cheap where the rows asked for lie near each other in
    file order; picklable, so worker processes can decode."""

    path: str
    group: int
    row: int
    column: str = "image"

    def __call__(self) -> bytes:
        return _CACHE.read(self)


def find_shards(folder: Path, prefix: str = "") -> list[Path]:
    """Parquet files of a folder, or of its data/ folder, whose name starts with `prefix`, sorted by name; without a prefix
    also those of its folders that are called after a split (train/0000.parquet, default/train/0000.parquet)."""
    for place in (folder, folder / "data"):
        if found := files_of(place, prefix=prefix, suffix=".parquet"):
            return found
    if prefix:
        return []
    places = [place for place in (folder, folder / "data", folder / "default") for place in subfolders(place)]
    named = [place for place in places if canonical(place.name)]
    return [file for place in named for file in files_of(place, prefix=prefix, suffix=".parquet")]


def in_file(shard: Path, name: object) -> Path | None:
    """The picture file that a cell names, beside its shard or in the folder above; None where there is none."""
    if not isinstance(name, str) or not name.strip():
        return None
    finder = _finder(shard.parent)
    hit = finder.find(name) or finder.find_similar(name)[0]
    return hit[0] if hit else None


@lru_cache(maxsize=64)
def _finder(folder: Path) -> Finder:
    return Finder([folder, folder.parent, folder / "images", folder.parent / "images"], Defects())


def open_shards(paths: Sequence[Path], defects: Defects) -> list[Shard]:
    """The shards that can be read and have rows; the others are counted as defects. Raises DataError where all of them are
    Git LFS pointers: nothing was downloaded."""
    shards, pointers = [], []
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                metadata, columns = file.metadata, frozenset(file.schema_arrow.names)
        except (OSError, pa.ArrowException):
            if pointer := lfs_pointer(head_of(path)):
                pointers.append(f"{path.name} {pointer}")
                defects.add("parquet shard that is a Git LFS pointer (run `git lfs pull`)", path.name)
            else:
                defects.add("unreadable parquet shard", path.name)
            continue
        if metadata.num_rows == 0:
            defects.add("empty parquet shard", path.name)
        else:
            picture = column_of(columns, PICTURE, path.name) or "image"
            shards.append(Shard(path, metadata.num_row_groups, columns, _footer(path), picture))
    if pointers and not shards:
        raise DataError(pointers[0])
    return shards


def picture_leaves(schema: pa.Schema, column: str = "image") -> list[str]:
    """The leaf columns that hold a picture: its bytes, and its path where it has one."""
    if column in schema.names and pa.types.is_struct(schema.field(column).type):
        kind = schema.field(column).type
        inside = {kind.field(i).name for i in range(kind.num_fields)}
        return [f"{column}.{name}" for name in ("bytes", "path") if name in inside]
    return [column]


def _is_path(schema: pa.Schema, column: str) -> bool:
    """Whether only reading the cells tells which hold a picture: paths, lists."""
    kind = schema.field(column).type if column in schema.names else None
    return kind is not None and not (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind)
    )


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:  # layout of the last bytes: footer, its length in 4 bytes, the magic number PAR1
        size = file.seek(-8, os.SEEK_END) + 8
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        return file.read(length)


def _batches(file: pq.ParquetFile, group: int, leaves: Sequence[str]) -> Iterator[pa.RecordBatch]:
    return file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=list(leaves), use_threads=False)


def _cells(batch: pa.RecordBatch) -> list[tuple[bytes | None, str | None]]:
    """(bytes, path) of every row; either may be missing."""
    found = []
    for value in batch.column(0).to_pylist():
        if isinstance(value, list):  # of several pictures a row none is the one of its captions
            value = value[0] if len(value) == 1 else None
        if isinstance(value, dict):
            found.append((value.get("bytes"), value.get("path")))
        elif isinstance(value, str):
            data = _from_base64(value)
            found.append((data, None if data else value))
        else:
            found.append((value, None))
    return found


def _from_base64(text: str) -> bytes | None:
    """The bytes of a picture that is written as text, with or without "data:image/jpeg;base64," before it; None for a path."""
    if len(text) < _LONGEST_PATH and not text.startswith("data:"):
        return None
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except ValueError:
        return None


class _Reader:
    """One row group, read forwards in small batches."""

    def __init__(self, cell: PictureCell) -> None:
        file = pq.ParquetFile(cell.path, buffer_size=_STREAM)
        self.batches = _batches(file, cell.group, picture_leaves(file.schema_arrow, cell.column))
        self.next_row = 0


class _Cache:
    """The cells read last, and open readers. One per process; safe between threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cells: OrderedDict[PictureCell, bytes | str] = OrderedDict()  # a str is the path of a file
        self.size = 0
        self.readers: OrderedDict[tuple[str, int], _Reader] = OrderedDict()

    def read(self, cell: PictureCell) -> bytes:
        with self.lock:
            if cell not in self.cells:
                try:
                    self._read_up_to(cell)
                except (OSError, pa.ArrowException, StopIteration) as error:
                    raise DataError(
                        f"Row {cell.row} of row group {cell.group} in {Path(cell.path).name} cannot be read "
                        f"({error or 'the file is shorter than it was'}); download the file again."
                    ) from error
            self.cells.move_to_end(cell)
            data = self.cells[cell]
            self._forget()
        if isinstance(data, str):
            file = in_file(Path(cell.path), data)
            data = b"" if file is None else read_bytes(file)
        if not data:
            raise DataError(f"Row {cell.row} of {Path(cell.path).name} holds no picture; expected JPEG or PNG bytes.")
        return data

    def _read_up_to(self, cell: PictureCell) -> None:
        key = (cell.path, cell.group)
        reader = self.readers.pop(key, None)
        if reader is None or reader.next_row > cell.row:  # what lies behind the reader was forgotten: start again
            reader = _Reader(cell)
        while reader.next_row <= cell.row:
            for data, name in _cells(next(reader.batches)):
                found = PictureCell(cell.path, cell.group, reader.next_row, cell.column)
                self.size += len(data or name or b"") - len(self.cells.pop(found, b""))
                self.cells[found] = data or name or b""
                reader.next_row += 1
            self._forget(keep=cell)
        self.readers[key] = reader
        while len(self.readers) > _READERS:
            self.readers.popitem(last=False)

    def _forget(self, keep: PictureCell | None = None) -> None:
        while self.size > KEPT_BYTES and len(self.cells) > 1:
            oldest = next(iter(self.cells))
            if oldest == keep:
                return
            self.size -= len(self.cells.pop(oldest))


_CACHE = _Cache()


def _start_afresh() -> None:
    global _CACHE
    _CACHE = _Cache()  # a forked worker must not share open files, nor a lock that may be held


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_start_afresh)
