"""Parquet shards read in place: which files, which columns, and single picture cells fetched when asked for.

Nothing here knows what the columns mean. A picture column is `image`: a struct {bytes, path} as the hub writes it, or
plain bytes.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.data.samples import Defects
from analysis.errors import DataError

KEPT_BYTES = 64 << 20  # picture bytes that a process keeps: more than 256 COCO photographs
_BATCH_ROWS = 16
# With a buffer Arrow decodes page by page; without one it reads whole column chunks, gigabytes where a file is one group.
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

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of one row group; columns that the file lacks are left out."""
        try:
            with pq.ParquetFile(self.path) as file:
                return file.read_row_group(group, columns=[name for name in columns if name in self.columns])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.path.name}, row group {group}, is damaged ({error}); download it again.") from error

    def has_picture(self, group: int) -> np.ndarray:
        """(rows,) bool: which rows of a row group hold picture bytes. Reads them only where the file's own count of
        missing values leaves it open."""
        with pq.ParquetFile(self.path, buffer_size=_STREAM) as file:
            facts = file.metadata.row_group(group)
            leaf = picture_leaf(file.schema_arrow)
            chunks = [facts.column(i) for i in range(facts.num_columns)]
            chunk = next((c for c in chunks if c.path_in_schema == leaf), None)
            if chunk is None:
                return np.zeros(facts.num_rows, bool)
            statistics = chunk.statistics
            nulls = statistics.null_count if statistics is not None and statistics.has_null_count else None
            if nulls in (0, facts.num_rows):
                return np.full(facts.num_rows, nulls == 0)
            parts = [_cells(batch).is_valid() for batch in _batches(file, group, leaf)]
        return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])


@dataclass(frozen=True, slots=True)
class PictureCell:
    """Picture bytes in one row of one row group, read on call. Cheap where the rows asked for lie near each other in
    file order; picklable, so worker processes can decode."""

    path: str
    group: int
    row: int

    def __call__(self) -> bytes:
        return _CACHE.read(self)


def find_shards(folder: Path, prefix: str = "") -> list[Path]:
    """Parquet files of a folder, or of its data/ folder, whose name starts with `prefix`, sorted by name."""
    return sorted(folder.glob(f"{prefix}*.parquet")) or sorted(folder.glob(f"data/{prefix}*.parquet"))


def open_shards(paths: Sequence[Path], defects: Defects) -> list[Shard]:
    """The shards that can be read and have rows; the others are counted as defects."""
    shards = []
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                metadata, columns = file.metadata, frozenset(file.schema_arrow.names)
        except (OSError, pa.ArrowException):
            defects.add("unreadable parquet shard", path.name)
            continue
        if metadata.num_rows == 0:
            defects.add("empty parquet shard", path.name)
        else:
            shards.append(Shard(path, metadata.num_row_groups, columns, _footer(path)))
    return shards


def picture_leaf(schema: pa.Schema) -> str:
    """Name of the leaf column that holds the picture bytes."""
    if "image" in schema.names and pa.types.is_struct(schema.field("image").type):
        return "image.bytes"
    return "image"


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:  # layout of the last bytes: footer, its length in 4 bytes, the magic number PAR1
        size = file.seek(-8, os.SEEK_END) + 8
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        return file.read(length)


def _batches(file: pq.ParquetFile, group: int, leaf: str) -> Iterator[pa.RecordBatch]:
    return file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=[leaf], use_threads=False)


def _cells(batch: pa.RecordBatch) -> pa.Array:
    column = batch.column(0)
    return column.field(0) if pa.types.is_struct(column.type) else column


class _Reader:
    """One row group, read forwards in small batches."""

    def __init__(self, path: str, group: int) -> None:
        file = pq.ParquetFile(path, buffer_size=_STREAM)
        self.batches = _batches(file, group, picture_leaf(file.schema_arrow))
        self.next_row = 0


class _Cache:
    """The cells read last, and open readers. One per process; safe between threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cells: OrderedDict[PictureCell, bytes] = OrderedDict()
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
        if not data:
            raise DataError(f"Row {cell.row} of {Path(cell.path).name} holds no picture; expected JPEG or PNG bytes.")
        return data

    def _read_up_to(self, cell: PictureCell) -> None:
        key = (cell.path, cell.group)
        reader = self.readers.pop(key, None)
        if reader is None or reader.next_row > cell.row:  # what lies behind the reader was forgotten: start again
            reader = _Reader(cell.path, cell.group)
        while reader.next_row <= cell.row:
            for data in _cells(next(reader.batches)).to_pylist():
                found = PictureCell(cell.path, cell.group, reader.next_row)
                self.size += len(data or b"") - len(self.cells.pop(found, b""))
                self.cells[found] = data or b""
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


os.register_at_fork(after_in_child=_start_afresh)
