"""SAEs on disk: `sae.safetensors` + `sae.json` in a folder. NumPy only; other tools' files are in `formats/`, the way back in
`export.py`."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import CheckpointError
from analysis.sae.export import export_overcomplete, to_overcomplete_state_dict
from analysis.sae.form import TOP_K, Sae

TENSORS = "sae.safetensors"
FACTS = "sae.json"
UNTRAINED = "untrained"  # the folder inside that of a trained SAE with the one that it started from, its control
_FIELDS = {"format", "n_concepts", "width", "top_k", "rule", "threshold", "dtype", "sha256", "meta"}
MAPPED_FROM = 1 << 26  # bytes of a file
FORMATS = (1, 2)  # 2: with a rule, and thresholds, norms or a decoder bias where the SAE has them
ARRAYS = ("encoder_weight", "encoder_bias", "dictionary")
EXTRA = ("threshold", "norms", "bias")  # held as tensors in format 2 where they are arrays


def save_sae(sae: Sae, folder: str | Path, *, dtype: str = "float32") -> Sae:
    """Write the folder whole or not at all (temporary folder, rename), replacing an SAE that stands there.

    Returns the SAE as it will be loaded: dtype="float16" halves the size and rounds, so its sha256 is another one.
    Raises CheckpointError if a value does not fit float16 or the disk refuses.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    if dtype not in ("float32", "float16"):
        raise CheckpointError(f"An SAE was to be saved as {dtype!r}; expected float32 or float16.")
    arrays = {name: getattr(sae, name) for name in ARRAYS}
    stored = sae
    if dtype == "float16":
        with np.errstate(over="ignore"):
            arrays = {name: array.astype(np.float16) for name, array in arrays.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise CheckpointError("A weight exceeds 65504, the largest float16; save this SAE as float32.")
        stored = replace(sae, **arrays)
    extra = {name: part for name in EXTRA if isinstance(part := getattr(sae, name), np.ndarray)}
    facts = {
        "format": 1 if sae.rule == TOP_K and not extra else 2,
        "n_concepts": sae.n_concepts,
        "width": sae.width,
        "top_k": sae.top_k,
        "rule": sae.rule,
        "threshold": 0.0 if "threshold" in extra else sae.threshold,
        "dtype": dtype,
        "sha256": stored.sha256,
        "meta": sae.meta,
    }
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.new"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(arrays | extra, temporary / TENSORS)
        (temporary / FACTS).write_text(_sealed(facts), encoding="utf-8")
        _replace_folder(temporary, folder)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":  # its I/O errors are no OSError
            raise CheckpointError(f"The SAE could not be written to {folder} ({error}): free space there.") from error
        raise
    return stored


def _sealed(facts: dict[str, Any]) -> str:
    """The text of sae.json: the facts, then the SHA-256 of their own text. Files written before it was kept have none."""
    digest = hashlib.sha256(json.dumps(facts, indent=1).encode()).hexdigest()
    return json.dumps({**facts, "digest": digest}, indent=1)


def load_sae(path: str | Path) -> Sae:
    """The SAE in a folder that `save_sae` wrote; arrays are float32 whatever the file holds.

    Raises CheckpointError if a file is missing or damaged: the recorded sha256 is compared with the arrays, the digest of
    sae.json with its text.
    """
    from safetensors import SafetensorError

    folder = Path(path)
    folder = folder.parent if folder.name in (TENSORS, FACTS) else folder
    again = "train or import the SAE again"
    try:
        text = (folder / FACTS).read_text(encoding="utf-8")
        facts = json.loads(text)
        arrays, forget = _arrays(folder / TENSORS)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"No SAE in {folder}: expected {TENSORS} and {FACTS}. A .pt file becomes one with "
            "`python -m analysis import-sae FILE --backbone KEY`."
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"The SAE in {folder} cannot be read ({error}); {again}.") from error
    if not isinstance(facts, dict) or facts.get("format") not in FORMATS:
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise CheckpointError(
            f"The SAE in {folder} has format {found!r}; this version reads {' and '.join(map(str, FORMATS))}: {again}."
        )
    unsealed = {name: value for name, value in facts.items() if name != "digest"}
    if set(unsealed) - _FIELDS or ("digest" in facts and text != _sealed(unsealed)):
        raise CheckpointError(f"{FACTS} in {folder} was altered after it was written; {again}.")
    try:
        sae = Sae(
            arrays["encoder_weight"],
            arrays["encoder_bias"],
            arrays["dictionary"],
            facts["top_k"],
            facts["meta"],
            arrays["threshold"] if "threshold" in arrays else facts["threshold"],
            facts.get("rule", TOP_K),
            arrays.get("norms"),
            arrays.get("bias"),
        )
        recorded = facts["sha256"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"The SAE in {folder} lacks {error}; {again}.") from error
    if sae.sha256 != recorded:
        raise CheckpointError(f"The SAE in {folder} was altered: its sha256 is not the recorded one; {again}.")
    forget()
    return sae


def _arrays(path: Path) -> tuple[dict[str, np.ndarray], Callable[[], None]]:
    """(arrays by name, what to call once all of them were looked at). A large file is mapped: a page of the app needs some
    rows of a dictionary, and a gigabyte of others would stay in memory."""
    from safetensors import safe_open
    from safetensors.numpy import load_file

    if path.stat().st_size < MAPPED_FROM:
        return load_file(path), lambda: None
    arrays: dict[str, np.ndarray] = {}
    types: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
    with safe_open(path, "np") as listed, path.open("rb") as file:
        # Private and writable, as torch wants it: what somebody writes there reaches no file.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        at = 8 + int.from_bytes(mapped[:8], "little")  # behind the header the arrays follow each other
        for name in listed.offset_keys():
            part = listed.get_slice(name)
            if part.get_dtype() not in types:
                return load_file(path), lambda: None
            kind, shape = types[part.get_dtype()], part.get_shape()
            arrays[name] = np.frombuffer(mapped, kind, math.prod(shape), at).reshape(shape)
            at += arrays[name].nbytes

    def forget() -> None:
        if hasattr(mapped, "madvise"):  # checking read every page; each comes again when it is needed
            mapped.madvise(mmap.MADV_DONTNEED)

    return arrays, forget


def load_untrained(folder: Path) -> Sae | None:
    """The SAE from which the training of the one in `folder` began, its control; None where no build kept it."""
    return load_sae(folder / UNTRAINED) if (folder / UNTRAINED / FACTS).is_file() else None


def import_checkpoint(
    path: str | Path,
    *,
    top_k: int | None = None,
    backbone_width: int | None = None,
    threshold: float | None = None,
    backbone: str = "",
    rule: str | None = None,
    l0: float | None = None,
    sample: Callable[[], np.ndarray] | None = None,
    delta: float | None = None,
) -> Sae:
    """An SAE from another tool's file or folder: those of `formats/`, the authors' `.pt` among them, or one of ours.

    top_k: of a TopK encoder, or the width that codes of any other are held in; None: as stored, else 50 for TopK (the
    paper's; `meta["top_k_source"]` says "checkpoint" or "registry"), else 4 times what is known of the L0. rule ("top-k",
    "batch-topk", "relu") and threshold: where the file does not say; l0 with a sample (a function that gives (N, D)
    embeddings) instead of a threshold: the one at which so many concepts are active on average. delta: bound on
    archetypal atoms' `Relax`, 1 as in overcomplete. backbone_width: D that the embeddings will have; `backbone` names it
    in messages and in `meta`. What was assumed stands in `meta["notes"]`, a sentence each.
    No code in the file is run; a file that needs some is refused. Raises CheckpointError.
    """
    from analysis.sae.formats import read_foreign
    from analysis.sae.rules import completed

    path = Path(path)
    if path.is_dir() and (path / FACTS).is_file():
        sae = load_sae(path)
    else:
        found = read_foreign(path, rule=rule, delta=delta)
        _check_width(path, found.dictionary.shape[-1], backbone_width, backbone)
        sae = completed(found, path.name, top_k=top_k, threshold=threshold, rule=rule, l0=l0, sample=sample)
        sae = replace(sae, meta={**sae.meta, **({"backbone": backbone} if backbone else {})})
    _check_width(path, sae.width, backbone_width, backbone)
    return sae


def _check_width(path: Path, width: int, expected: int | None, backbone: str) -> None:
    if expected is not None and width != expected:
        raise CheckpointError(
            f"{path.name} is for embeddings of width {width}; {backbone or 'the backbone'} gives {expected}: "
            "choose the checkpoint of this backbone."
        )


def _replace_folder(new: Path, folder: Path) -> None:
    old = folder.parent / f".{folder.name}.{os.getpid()}.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


__all__ = [
    "Sae",
    "export_overcomplete",
    "import_checkpoint",
    "load_sae",
    "save_sae",
    "to_overcomplete_state_dict",
]
