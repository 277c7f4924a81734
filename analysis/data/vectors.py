"""Embeddings that somebody made already: npy, npz, parquet or safetensors, with ids, captions and picture names beside them.
What is an image and what a text is read from the names of arrays, columns and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import DataError

SUFFIXES = (".npy", ".npz", ".parquet", ".safetensors")
WORDS = {
    "image": ("image", "img", "picture", "photo", "visual", "vision"),
    "text": ("text", "txt", "caption", "sentence"),
}
ID_NAMES, TEXT_NAMES = ("id", "ids", "sample_id", "key"), ("text", "texts", "caption", "captions", "sentence")
FILE_NAMES = ("file", "files", "file_name", "filename", "image_path", "path")


@dataclass(frozen=True)
class Block:
    """Vectors (n, D) of one modality ("" where nothing says which), with what stands beside them row by row, or None."""

    vectors: np.ndarray
    modality: str
    ids: list[str] | None = None
    texts: list[str] | None = None
    files: list[str] | None = None


@dataclass(frozen=True)
class Vectors:
    """Blocks in the order of the files. `vectors`: all of them, (N, D)."""

    blocks: tuple[Block, ...]

    @property
    def vectors(self) -> np.ndarray:
        return self.blocks[0].vectors if len(self.blocks) == 1 else np.concatenate([b.vectors for b in self.blocks])


def load_vectors(paths: Sequence[Path]) -> Vectors:
    """All vectors of some files, in one width. DataError for a file that holds none, or others than numbers."""
    readers = {".npy": _npy, ".npz": _npz, ".parquet": _parquet, ".safetensors": _safetensors}
    blocks: list[Block] = []
    for path in paths:
        read = readers.get(path.suffix.lower())
        if read is None:
            raise DataError(f"{path.name} is no file of vectors; expected one of {', '.join(SUFFIXES)}.")
        found = read(path)
        if not found:
            raise DataError(f"{path.name} holds no vectors; expected a matrix (N, D) of numbers.")
        if len(found) == 1 and not found[0].modality:
            found = [replace(found[0], modality=_modality(path.stem))]
        blocks += found
    widths = sorted({block.vectors.shape[1] for block in blocks})
    if len(widths) > 1:
        raise DataError(
            f"The vectors have {' and '.join(map(str, widths))} dimensions; expected one width: are they of one model?"
        )
    return Vectors(tuple(blocks))


def load_list(path: Path) -> list[str]:
    """Ids, captions or names of a file: a text with one a line, a JSON list, or an .npy of strings."""
    try:
        if path.suffix == ".npy":
            return [str(value) for value in np.load(path, allow_pickle=False).tolist()]
        text = path.read_text("utf-8-sig")
        found = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read ({error}); expected one entry a line, or a JSON list.") from error
    if not isinstance(found, list):
        raise DataError(f"{path.name} holds a {type(found).__name__}; expected a list, one entry a vector.")
    return [str(value) for value in found]


def _npy(path: Path) -> list[Block]:
    return [Block(_matrix(path, "the array", _numpy(path)), "")]


def _npz(path: Path) -> list[Block]:
    file = _numpy(path)
    try:
        return _named(path, {name: file[name] for name in file.files})
    except ValueError as error:  # an array of objects, which only unpickling could read
        raise DataError(f"{path.name} cannot be read ({error}); expected arrays of numbers and strings.") from error


def _safetensors(path: Path) -> list[Block]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file  # NumPy's has no bfloat16

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path.name} cannot be read ({error}); copy it again.") from error
    return _named(path, {name: tensor.float().numpy() for name, tensor in tensors.items()})


def _named(path: Path, arrays: dict[str, np.ndarray]) -> list[Block]:
    """Matrices are vectors; lists of strings are ids, captions and file names: of the block whose modality their name says
    (image_ids), else of every one that is as long."""
    blocks = []
    for name, array in arrays.items():
        if array.ndim != 2:
            continue
        modality = _modality(name)
        beside = {other: values for other, values in arrays.items() if values.shape == (len(array),)}
        blocks.append(
            Block(
                _matrix(path, name, array),
                modality,
                _strings(beside, ID_NAMES, modality, "USiu"),
                None if modality == "image" else _strings(beside, TEXT_NAMES, modality, "US"),
                None if modality == "text" else _strings(beside, FILE_NAMES, modality, "US"),
            )
        )
    return blocks


def _strings(beside: dict[str, np.ndarray], names: Sequence[str], modality: str, kinds: str) -> list[str] | None:
    for other, values in beside.items():
        low = other.lower()
        own = low in names or (_modality(low) == modality != "" and low.rsplit("_", 1)[-1] in names)
        if own and values.dtype.kind in kinds:
            return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    return None


def _parquet(path: Path) -> list[Block]:
    """Columns of vectors, one a modality; or one column with the rows' modality in another."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path.name} cannot be read ({error}); copy it again.") from error
    columns = {name.lower(): name for name in table.column_names}

    def texts(names: Sequence[str]) -> list[str] | None:
        found = next((columns[name] for name in names if name in columns), None)
        return None if found is None else ["" if v is None else str(v) for v in table.column(found).to_pylist()]

    def is_vector(kind: Any) -> bool:
        a_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        return a_list and pa.types.is_floating(kind.value_type)

    beside = {"ids": texts((*ID_NAMES, "image_id")), "texts": texts(TEXT_NAMES), "files": texts((*FILE_NAMES, "image"))}
    kinds = np.array([value.strip().lower() for value in texts(("modality",)) or []])
    vectors = {
        f.name: _column(path, f.name, table.column(f.name).combine_chunks()) for f in table.schema if is_vector(f.type)
    }
    blocks = []
    for name, matrix in vectors.items():
        by_row = len(kinds) > 0 and len(vectors) == 1
        for side in dict.fromkeys(kinds.tolist()) if by_row else [_modality(name)]:
            rows = np.flatnonzero(kinds == side) if by_row else np.arange(len(matrix))
            known = {key: [values[row] for row in rows] if values else None for key, values in beside.items()}
            known |= {"image": {"texts": None}, "text": {"files": None}}.get(side, {})
            blocks.append(Block(matrix[rows], side, known["ids"], known["texts"], known["files"]))
    return blocks


def _column(path: Path, name: str, column: Any) -> np.ndarray:
    if column.null_count:
        raise DataError(f"{name} in {path.name} has {column.null_count} rows without a vector; leave those rows out.")
    lengths = set(column.value_lengths().to_pylist())
    if len(lengths) != 1:
        raise DataError(f"{name} in {path.name} has vectors of different length; expected one width in all rows.")
    return _matrix(path, name, column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1))


def _numpy(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path.name} cannot be read ({error}); expected an array of numbers, saved without pickle."
        ) from error


def _matrix(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        raise DataError(
            f"{name} in {path.name} has shape {array.shape} of {array.dtype}; expected (N, D) numbers, one vector a row."
        )
    return np.asarray(array) if array.dtype == np.float16 else np.asarray(array, np.float32)


def _modality(name: str) -> str:
    """From the words in a name; "" where none or both occur."""
    found = [modality for modality, words in WORDS.items() if any(word in name.lower() for word in words)]
    return found[0] if len(found) == 1 else ""
