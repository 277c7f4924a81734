"""How a build writes: whole files or none, arrays as they come, one build of a configuration at a time, and a disk that
refuses said in one sentence."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from analysis.errors import AnalysisError

# What systems answer where a file system has no locks (network shares without a lock service, some FUSE mounts).
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# What they answer where it has no way to force bytes onto the disk; the write itself has succeeded by then.
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
log = logging.getLogger(__name__)


def write_atomically(path: Path, data: bytes) -> None:
    """All bytes or no file, also when the disk is full."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as handle:
            handle.write(data)
            handle.flush()
            _sync(handle.fileno())
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
    """Hold the lock of a work folder: a second build of the same configuration is refused, not mixed in.

    The lock ends with the process, however it ends. Where the file system has no locks, a file stands in for one: it is
    said in one sentence, and after a kill on another machine that file has to be deleted by hand.
    """
    with disk_errors_of(f"The work folder {folder.name}"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder, what)
    try:
        yield
    finally:
        lock.release()


def _acquired(folder: Path, what: str) -> BaseFileLock:
    lock: BaseFileLock = FileLock(folder / ".lock", fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=0)
        except (NotImplementedError, OSError) as error:
            if isinstance(error, Timeout) or (isinstance(error, OSError) and error.errno not in NO_LOCKS):
                raise
            _say_once(folder.parent.parent.name or str(folder), getattr(error, "strerror", None) or str(error))
            lock = SoftFileLock(folder / ".lock-file")
            lock.acquire(timeout=0)
    except Timeout as error:
        left = f" If none is running, delete {lock.lock_file}." if isinstance(lock, SoftFileLock) else ""
        raise AnalysisError(
            f"Another command is already {what} for this configuration ({folder.name}); wait for it, or change a "
            f"setting.{left}"
        ) from error
    return lock


@cache
def _say_once(folder: str, reason: str) -> None:
    log.warning(
        "The folder %s cannot be locked (%s), so a lock file stands in; where several machines share it, use a local --cache.",
        folder,
        reason,
    )


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


@contextmanager
def disk_errors_of(what: str) -> Iterator[None]:
    """A disk that refuses to write (full, over quota, read-only) is the user's to mend: one sentence."""
    try:
        yield
    except OSError as error:
        raise AnalysisError(
            f"{what} could not be written ({error.strerror or error}); free some space, make it writable or choose "
            "another --cache, and run the command again to resume."
        ) from error
