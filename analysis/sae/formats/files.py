"""Checkpoint files opened without running code from them: torch zips and old pickles, safetensors, saev's JSON line before a
torch zip; the tensors among whatever training state they lie in."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.errors import CheckpointError
from analysis.sae.formats import stand_ins

# A folder's weights by the name that tools give them, before any other file.
WEIGHTS = ("sae_weights.safetensors", "sae.safetensors", "ae.pt", "sae.pt")
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
CONFIGS = ("cfg.json", "config.json")
PREFIXES = ("module.", "_orig_mod.", "model.", "sae.", "autoencoder.", "ae.")  # of wrappers, in any order
ANCHORS = ("encoder.final_block.0.weight", "encoder.weight", "W_enc")  # one of them is in every layout
LFS, MARKUP = b"version https://git-lfs", (b"<!doctype", b"<html")


@dataclass(frozen=True)
class Checkpoint:
    """content: what the file holds. header: saev's first line. config: the JSON beside the weights."""

    path: Path
    content: dict[str, Any]
    header: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.name

    def candidates(self) -> dict[str, dict[str, Any]]:
        """Dictionaries that may be the state dict by where they lie ("" for the whole content), prefixes of wrappers taken
        off."""
        return {name: _without_prefixes(part) for name, part in _dictionaries(self.content, "", depth=4)}

    def fact(self, *names: str) -> Any:
        """The first of the names that a training checkpoint holds beside its tensors, or in its own configuration."""
        places = [
            self.content,
            *(self.content.get(key) for key in ("config", "cfg", "args", "hparams", "hyper_parameters")),
        ]
        for place in places:
            for name in names:
                if isinstance(place, dict) and name in place:
                    return place[name]
        return None


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a file, or the weights in a folder. CheckpointError for what is no checkpoint, damaged or unsafe."""
    file = _weights_in(path) if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"No file {path}; expected a checkpoint (.pt or .safetensors) or a folder of one.")
    with file.open("rb") as handle:
        start = handle.read(512)
    _refuse_pointers(file, start)
    _refuse_containers(file, start)
    config = _config_beside(file)
    if file.suffix == ".safetensors":
        return Checkpoint(file, _safetensors(file), config=config)
    if start.startswith(b"{") and not zipfile.is_zipfile(_after_first_line(file)):
        raise CheckpointError(f"{file.name} is a text file; expected a checkpoint (.pt or .safetensors).")
    if start.startswith(b"{"):
        return Checkpoint(file, _torch(file, _after_first_line(file)), _first_line(file), config)
    return Checkpoint(file, _torch(file), config=config)


def _weights_in(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file() and not p.name.startswith("."))
    if len(found) == 1:
        return found[0]
    if found and all(re.search(r"-\d+-of-\d+\.", path.name) for path in found):
        return found[0]  # shards, which are refused as such
    if found:
        raise CheckpointError(f"{folder.name} holds {len(found)} checkpoints ({_few(found)}); name one of them.")
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and any((p / name).is_file() for name in WEIGHTS))
    if inner:
        raise CheckpointError(
            f"{folder.name} holds an SAE in each of {len(inner)} folders ({_few(inner)}); name one of them."
        )
    raise CheckpointError(f"There is no checkpoint in {folder}; expected one of {', '.join(WEIGHTS)}, or a .pt file.")


def _few(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:4]) + (" ..." if len(paths) > 4 else "")


def _refuse_pointers(file: Path, start: bytes) -> None:
    if start.startswith(LFS):
        size = next((line.split()[1] for line in start.decode().splitlines() if line.startswith("size ")), "")
        promised = f" of {int(size) / 1e6:,.0f} MB" if size.isdigit() else ""
        raise CheckpointError(
            f"{file.name} is a Git LFS pointer, three lines of text in place of the file{promised}: run `git lfs pull` in "
            "its folder, or download the file itself."
        )
    if start.lstrip().lower().startswith(MARKUP):
        raise CheckpointError(
            f"{file.name} is a web page, not a checkpoint: download the file itself (its raw address)."
        )


def _refuse_containers(file: Path, start: bytes) -> None:
    if file.suffix.lower() in (".npz", ".npy"):
        raise CheckpointError(
            f"{file.name} holds NumPy arrays; SAEs are read from .pt and .safetensors: save the arrays under the names of "
            "their tool with safetensors.numpy.save_file."
        )
    if start.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")):
        raise CheckpointError(f"{file.name} is packed; unpack it and give what is inside.")
    shard = re.search(r"-\d+-of-(\d+)\.", file.name)
    if shard is not None and int(shard[1]) > 1:
        raise CheckpointError(
            f"{file.name} is one of {int(shard[1])} shards of a checkpoint; save the SAE as one file and give that."
        )


def _config_beside(file: Path) -> dict[str, Any]:
    for name in CONFIGS:
        path = file.parent / name
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{name} beside {file.name} cannot be read ({error}); download it again.") from error
        if isinstance(found, dict):
            return found
    return {}


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file  # NumPy's has no bfloat16

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path.name} cannot be read ({error}); download it again.") from error


def _after_first_line(file: Path) -> io.BytesIO:
    with file.open("rb") as handle:
        handle.readline()
        return io.BytesIO(handle.read())


def _first_line(file: Path) -> dict[str, Any]:
    with file.open("rb") as handle:
        try:
            header = json.loads(handle.readline())
        except ValueError as error:
            raise CheckpointError(
                f"The first line of {file.name} is no JSON ({error}); expected a file of saev."
            ) from error
    return header if isinstance(header, dict) else {}


def _torch(path: Path, buffer: io.BytesIO | None = None) -> dict[str, Any]:
    import torch

    try:
        with torch.serialization.safe_globals(stand_ins.ALLOWED):
            # mmap: of a file with optimizer state (three times the weights) only what is used is read
            mapped = buffer is None and zipfile.is_zipfile(path)
            content = torch.load(buffer or path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it names {named[1]}" if named else type(error).__name__
        raise CheckpointError(
            f"{path.name} was refused: it is damaged or holds more than tensors and numbers "
            f"({reason}), and such a file could run code; where you trust it, save its tensors alone, "
            "torch.save(model.state_dict(), FILE), and import that."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        first = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path.name} cannot be read ({first}); download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}; expected a dictionary of tensors.")
    return content


def _dictionaries(content: dict[Any, Any], name: str, depth: int) -> list[tuple[str, dict[Any, Any]]]:
    """(name, dictionary), what lies outside before what lies in it."""
    inner = [(f"{name}.{key}".strip("."), value) for key, value in content.items() if isinstance(value, dict)]
    below = [found for key, value in inner if depth > 1 for found in _dictionaries(value, key, depth - 1)]
    return [(name, content), *below] if below or not inner else [(name, content), *inner]


def _without_prefixes(state: dict[Any, Any]) -> dict[str, Any]:
    """The tensors by their own names: without what wrappers put before them, known or the one name that stands before an
    encoder ("net.", "ema_model.")."""
    bare = {_bare(str(key)): value for key, value in state.items()}
    before = {key.removesuffix(anchor) for key in bare for anchor in ANCHORS if key.endswith(f".{anchor}")}
    if len(before) != 1 or any(anchor in bare for anchor in ANCHORS):
        return bare
    (prefix,) = before
    return {key.removeprefix(prefix): value for key, value in bare.items()}


def _bare(key: str) -> str:
    while prefix := next((p for p in PREFIXES if key.startswith(p)), ""):
        key = key.removeprefix(prefix)
    return key
