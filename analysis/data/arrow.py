"""Folders that `datasets.save_to_disk` wrote, read in place: Arrow files, memory-mapped, and the JSON beside them that says
which. The `datasets` package is not needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.data.columns import PICTURE, column_of
from analysis.data.defects import Defects
from analysis.data.disk import head_of, lfs_pointer, read_bytes, read_json
from analysis.data.names import subfolders
from analysis.data.parquet import in_file
from analysis.errors import DataError


@dataclass(frozen=True)
class ArrowShard:
    """One readable Arrow file, in the shape of parquet.Shard: a single group of rows."""

    path: Path
    split: str
    columns: frozenset[str]
    footer: bytes  # changes whenever the file does
    picture: str
    n_groups: int = 1

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        return _table(str(self.path)).select([name for name in columns if name in self.columns])

    def has_picture(self, group: int) -> np.ndarray:
        """(rows,) bool: which rows hold picture bytes, or the path of a file that is there."""
        column = _table(str(self.path))[self.picture]
        data, names = _parts(column)
        found = data.is_valid().to_numpy() if data is not None else np.zeros(len(column), bool)
        if names is not None:
            for row in np.flatnonzero(~found).tolist():
                found[row] = in_file(self.path, names[row].as_py()) is not None
        return found

    def cell(self, group: int, row: int) -> ArrowCell:
        return ArrowCell(str(self.path), self.picture, row)


@dataclass(frozen=True, slots=True)
class ArrowCell:
    """Picture bytes in one row of an Arrow file, read on call; picklable."""

    path: str
    column: str
    row: int

    def __call__(self) -> bytes:
        data, names = _parts(_table(self.path)[self.column].slice(self.row, 1))
        value = data[0].as_py() if data is not None else None
        if value is None and names is not None and (file := in_file(Path(self.path), names[0].as_py())) is not None:
            value = read_bytes(file)
        if not value:
            raise DataError(f"Row {self.row} of {Path(self.path).name} holds no picture; expected JPEG or PNG bytes.")
        return value


def find_arrow(path: Path) -> list[tuple[Path, str]]:
    """(Arrow file, split) of a folder that save_to_disk wrote, a dictionary of splits or a single one; or of one file."""
    if path.is_file():
        return [(path, "")] if path.suffix == ".arrow" else []
    if (path / "dataset_dict.json").is_file():
        return [(file, folder.name) for folder in subfolders(path) for file, _ in find_arrow(folder)]
    state = path / "state.json"
    if not state.is_file():
        return []
    facts = read_json(state)
    if not isinstance(facts, dict) or "_data_files" not in facts:
        return []
    if facts.get("_indices_files") or facts.get("_indices_data_files"):
        raise DataError(
            f"{path.name} holds chosen rows of other files (an indices file); write it with flatten_indices() first."
        )
    names = [entry.get("filename", "") for entry in facts["_data_files"]]
    return [(path / name, str(facts.get("_split") or "")) for name in names]


def open_arrow(files: Sequence[tuple[Path, str]], defects: Defects) -> list[ArrowShard]:
    """The files that can be read and have rows; the others are counted as defects."""
    shards = []
    for path, split in files:
        try:
            table = _table(str(path))
        except (OSError, pa.ArrowException):
            pointer = lfs_pointer(head_of(path))
            kind = "Arrow file that is a Git LFS pointer (run `git lfs pull`)" if pointer else "unreadable Arrow file"
            defects.add(kind, path.name)
            continue
        if table.num_rows == 0:
            defects.add("empty Arrow file", path.name)
        else:
            columns = frozenset(table.column_names)
            picture = column_of(columns, PICTURE, path.name) or "image"
            shards.append(ArrowShard(path, split, columns, _stamp(path), picture))
    return shards


@lru_cache(maxsize=64)
def _table(path: str) -> pa.Table:
    """The whole file as a table over a memory map: rows are paged in when they are read."""
    source = pa.memory_map(path)
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(source).read_all()


def _parts(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray | None, pa.ChunkedArray | None]:
    """(bytes, paths) of a picture column: a struct of both, plain bytes, or plain paths."""
    if pa.types.is_struct(column.type):
        inside = {column.type.field(i).name for i in range(column.type.num_fields)}
        data, names = (pc.struct_field(column, name) if name in inside else None for name in ("bytes", "path"))
        return data, names
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return (None, column) if is_text else (column, None)


def _stamp(path: Path, edge: int = 1 << 20) -> bytes:
    """A digest of a file's two ends and its size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(edge)
        file.seek(max(0, size - edge), os.SEEK_SET)
        return hashlib.sha256(size.to_bytes(8, "little") + head + file.read(edge)).digest()
