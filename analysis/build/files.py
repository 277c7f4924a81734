"""How a build writes: whole files or none, arrays as they come, one build of a configuration at a time, and a disk that
refuses said in one sentence."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from analysis.errors import AnalysisError


def write_atomically(path: Path, data: bytes) -> None:
    """All bytes or no file, also when the disk is full."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise AnalysisError(
            f"{path.name} could not be written ({error.strerror}); free some space and run the command again to resume."
        ) from error


def save_blocks(path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: str) -> None:
    """A .npy file from consecutive row blocks, one block in memory at a time, complete or absent.

    Written, not memory-mapped: a full disk then raises, where a write through a map kills the process. Raises ValueError
    when the blocks do not add up to `shape`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    rows = 0
    try:
        with partial.open("wb") as handle:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(handle, header)
            for block in blocks:
                if block.shape[1:] != shape[1:]:
                    raise ValueError(f"{path.name}: a block has shape {block.shape}, the array {shape}")
                rows += len(block)
                handle.write(np.ascontiguousarray(block, dtype).data)
            if rows != shape[0]:
                raise ValueError(f"{path.name}: {rows} rows were written, {shape[0]} announced")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """`target` with the content of `source`, without a second copy on the disk where the file system allows that."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def remove_partial(folder: Path) -> None:
    """Delete what an earlier, killed run left half-written. Only under the folder's lock."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a work folder: a second build of the same configuration is refused, not mixed in. The lock ends
    with the process, however it ends."""
    with disk_errors_of(f"The work folder {folder.name}"):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AnalysisError(
                f"Another command is already {what} for this configuration ({folder.name}); wait for it, or change a "
                "setting."
            ) from error
        yield


@contextmanager
def disk_errors_of(what: str) -> Iterator[None]:
    """A disk that refuses to write (full, over quota, read-only) is the user's to mend: one sentence."""
    try:
        yield
    except OSError as error:
        raise AnalysisError(
            f"{what} could not be written ({error.strerror or error}); free some space or make it writable, and run the "
            "command again to resume."
        ) from error
