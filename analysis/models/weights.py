"""A checkpoint before any of it is loaded: which one it is, what its folder holds, how large it is. The hub's: hub.py."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.errors import BackboneError
from analysis.models.folders import is_pointer, refuse_other_kinds

_WHOLE = 64 << 20  # files up to this size go into the fingerprint whole, of larger ones both ends
_END = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be opened. `source` is what from_pretrained takes; `revision` is the hub commit, or
    "local-" and 12 hex digits of the folder's content."""

    source: str
    revision: str
    config: dict[str, Any]
    folder: Path | None = None  # set for local folders

    @property
    def hub_revision(self) -> str | None:
        return None if self.folder else self.revision


def open_folder(folder: Path, *, hint: str = "") -> Checkpoint:
    """The checkpoint in a local folder. Raises BackboneError when it is none."""
    config = read_config(folder, hint=hint)
    return Checkpoint(str(folder), fingerprint(folder), config, folder)


def read_config(folder: Path, *, hint: str = "") -> dict[str, Any]:
    """The config.json of a model folder. Raises BackboneError when there is none."""
    if not folder.is_dir():
        raise BackboneError(f"There is no model folder {folder}.{hint or ' Expected a folder with a config.json.'}")
    refuse_other_kinds(folder)
    if is_pointer(folder / "config.json"):
        raise BackboneError(
            f"{folder / 'config.json'} is a Git LFS pointer; run `git lfs pull` there, or download the model again."
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"it holds a {type(config).__name__} instead of an object")
        return config
    except FileNotFoundError as error:
        raise BackboneError(
            f"{folder} holds no config.json; expected a folder that `save_pretrained` wrote or the hub delivered."
        ) from error
    except (OSError, ValueError) as error:
        raise BackboneError(f"{folder / 'config.json'} cannot be read ({error}); copy the model again.") from error


def first_line(error: BaseException) -> str:
    """The class of an error and the first line of its message, at most 200 characters."""
    message = next(iter(str(error).strip().splitlines()), "")[:200]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def fingerprint(folder: Path) -> str:
    """ "local-" and 12 hex digits over names, sizes and contents of a checkpoint's files (of very large files, both
    ends), so that a retrained model never passes for the old one."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.suffix == ".md":
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}\n".encode())
        with path.open("rb") as handle:
            if size <= _WHOLE:
                while piece := handle.read(_END):
                    digest.update(piece)
            else:
                digest.update(handle.read(_END))
                handle.seek(-_END, 2)
                digest.update(handle.read())
    return f"local-{digest.hexdigest()[:12]}"


def count_parameters(folder: Path) -> int | None:
    """Numbers that a backbone loads from a folder: all weights but the language-model head. None without safetensors."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    return sum(
        _size(entry["shape"])
        for file in files
        for name, entry in _header(file).items()
        if name != "__metadata__" and "lm_head" not in name.split(".")  # LLaVA keeps it inside language_model
    )


def _header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of length, then names, shapes and offsets."""
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            return json.loads(handle.read(length))
    except (OSError, ValueError) as error:
        raise BackboneError(f"{file.name} is damaged ({error}); copy or download the model again.") from error


def _size(shape: list[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
