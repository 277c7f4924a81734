"""Files that outlive a power cut: what is published was on the disk before its name was."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def sync_tree(folder: Path) -> None:
    """Wait until every file and folder below, and the folder itself, are on the disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def move_into_place(source: Path, target: Path) -> None:
    """Rename, and wait until the new name is on the disk. Raises OSError as `os.replace` does."""
    os.replace(source, target)
    _sync(target.parent)
    if source.parent != target.parent:
        _sync(source.parent)


def write_durably(path: Path, text: str) -> None:
    """All of the text under this name, or what was there before."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with partial.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        move_into_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if os.name == "nt":
        return  # Windows opens no folders, and syncs no file that is open for reading
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
