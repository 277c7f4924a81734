"""Where a checkpoint lies, what it is and how large, before any of it is loaded; and plain words when it is missing."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.errors import BackboneError

_COMMIT = re.compile(r"[0-9a-f]{40}")
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
    if not folder.is_dir():
        raise BackboneError(f"There is no model folder {folder}.{hint or ' Expected a folder with a config.json.'}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BackboneError(
            f"{folder} holds no config.json; expected a folder that `save_pretrained` wrote or the hub delivered."
        ) from error
    except (OSError, ValueError) as error:
        raise BackboneError(f"{folder / 'config.json'} cannot be read ({error}); copy the model again.") from error
    return Checkpoint(str(folder), fingerprint(folder), config, folder)


def open_hub(hub_id: str, revision: str) -> Checkpoint:
    """The checkpoint of a hub repository; only its config.json is fetched. A pinned commit that is in the local cache
    is used without asking the network. Raises BackboneError with the next step when it cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        try:
            path = hf_hub_download(
                hub_id, "config.json", revision=revision, local_files_only=bool(_COMMIT.fullmatch(revision))
            )
        except LocalEntryNotFoundError:
            path = hf_hub_download(hub_id, "config.json", revision=revision)
    except Exception as error:  # the hub client raises a dozen classes; all end in one sentence
        raise explain(error, hub_id, revision) from error
    commit = Path(path).parent.name  # cache layout: snapshots/<commit>/config.json
    return Checkpoint(hub_id, commit, json.loads(Path(path).read_text(encoding="utf-8")))


def explain(error: BaseException, hub_id: str, revision: str = "main") -> BackboneError:
    """The BackboneError that says why a hub model cannot be had and what to do about it."""
    from huggingface_hub import errors as hub

    chain = list(_chain(error))

    def caused_by(*classes: type[BaseException]) -> bool:
        return any(isinstance(link, classes) for link in chain)

    page = f"https://huggingface.co/{hub_id}"
    download = f"`hf download {hub_id} --revision {revision}`"
    if caused_by(hub.GatedRepoError):
        text = f"{hub_id} is gated: accept its licence at {page}, run `hf auth login`, then try again."
    elif caused_by(hub.RevisionNotFoundError):
        text = f"{hub_id} has no revision {revision!r}; choose one that {page} lists."
    elif caused_by(hub.RepositoryNotFoundError):
        text = (
            f"The hub has no model {hub_id!r} that you may read; check the spelling, or run `hf auth login` if it is "
            "private."
        )
    elif caused_by(hub.OfflineModeIsEnabled):
        text = (
            f"{hub_id} is not in the local cache and offline mode is on (HF_HUB_OFFLINE); run {download} on a machine "
            "with network and copy the cache, or give the folder that holds the weights (--weights)."
        )
    elif any(isinstance(link, OSError) and link.errno == errno.ENOSPC for link in chain):
        text = f"The disk filled up while {hub_id} was downloaded; free some space, then run {download}."
    elif caused_by(hub.LocalEntryNotFoundError, ConnectionError, TimeoutError):
        text = (
            f"{hub_id} is not in the local cache and the hub cannot be reached; run {download} once the network is "
            "back, or give the folder that holds the weights (--weights)."
        )
    else:
        text = f"{hub_id} cannot be loaded ({first_line(error)}); run {download} to fetch it again."
    return BackboneError(text)


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
                digest.update(handle.read())
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
        if name != "__metadata__" and not name.startswith("lm_head.")
    )


def cached_folder(hub_id: str, revision: str) -> Path | None:
    """The local cache's folder of a hub model whose weights have all been downloaded, else None."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("model.safetensors.index.json", "model.safetensors"):
        path = try_to_load_from_cache(hub_id, name, revision=revision)
        if isinstance(path, str):
            folder = Path(path).parent
            if name.endswith("json"):
                shards = set(json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"].values())
                if not all((folder / shard).exists() for shard in shards):
                    return None
            return folder
    return None


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


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
