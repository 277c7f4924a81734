"""One SAE and its files: `sae.safetensors` + `sae.json` in a folder. NumPy only; foreign formats are in `foreign.py`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import CheckpointError

TENSORS = "sae.safetensors"
FACTS = "sae.json"
FORMAT = 1
PAPER_TOP_K = 50  # the released checkpoints do not store it; arXiv 2512.19115, appendix A


@dataclass(frozen=True, eq=False)
class Sae:
    """A TopK sparse autoencoder without decoder bias: z = TopK(ReLU(h W^T + b)), h_hat = z D.

    encoder_weight (K, D), encoder_bias (K,), dictionary (K, D): float32. Rows of the dictionary are made unit vectors
    here, as overcomplete does whenever it uses them (a row of zeros stays). `threshold` > 0, from BatchTopK
    checkpoints, drops smaller codes. `meta`: JSON-able facts (backbone, unit, data, training curve ...).
    """

    encoder_weight: np.ndarray
    encoder_bias: np.ndarray
    dictionary: np.ndarray
    top_k: int
    meta: dict[str, Any] = field(default_factory=dict)
    threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("encoder_weight", "encoder_bias", "dictionary"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.float32))
        if self.dictionary.ndim != 2 or self.encoder_weight.shape != self.dictionary.shape:
            raise CheckpointError(
                f"Encoder {self.encoder_weight.shape} and dictionary {self.dictionary.shape} differ in shape; "
                "expected (K, D) for both: are they of one SAE?"
            )
        if self.encoder_bias.shape != (self.n_concepts,):
            raise CheckpointError(
                f"Encoder bias has shape {self.encoder_bias.shape}; expected ({self.n_concepts},), one a concept."
            )
        if not 1 <= self.top_k <= self.n_concepts:
            raise CheckpointError(
                f"top_k is {self.top_k}; expected between 1 and the number of concepts, {self.n_concepts}."
            )
        object.__setattr__(self, "dictionary", _unit_rows(self.dictionary))

    @property
    def n_concepts(self) -> int:
        return self.dictionary.shape[0]

    @property
    def width(self) -> int:
        return self.dictionary.shape[1]

    @cached_property
    def sha256(self) -> str:
        """Identifies what the SAE computes: its float32 arrays, top_k and threshold (not its meta)."""
        digest = hashlib.sha256(f"{self.dictionary.shape} {self.top_k} {self.threshold}".encode())
        for array in (self.encoder_weight, self.encoder_bias, self.dictionary):
            digest.update(np.asarray(array, "<f4").data)
        return digest.hexdigest()


def save_sae(sae: Sae, folder: str | Path, *, dtype: str = "float32") -> Sae:
    """Write the folder whole or not at all (temporary folder, rename), replacing an SAE that stands there.

    Returns the SAE as it will be loaded: dtype="float16" halves the size and rounds, so its sha256 is another one.
    Raises CheckpointError if a value does not fit float16 or the disk refuses.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    if dtype not in ("float32", "float16"):
        raise CheckpointError(f"An SAE was to be saved as {dtype!r}; expected float32 or float16.")
    arrays = {name: getattr(sae, name) for name in ("encoder_weight", "encoder_bias", "dictionary")}
    stored = sae
    if dtype == "float16":
        with np.errstate(over="ignore"):
            arrays = {name: array.astype(np.float16) for name, array in arrays.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise CheckpointError("A weight exceeds 65504, the largest float16; save this SAE as float32.")
        stored = replace(sae, **arrays)
    facts = {
        "format": FORMAT,
        "n_concepts": sae.n_concepts,
        "width": sae.width,
        "top_k": sae.top_k,
        "threshold": sae.threshold,
        "dtype": dtype,
        "sha256": stored.sha256,
        "meta": sae.meta,
    }
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.new"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(arrays, temporary / TENSORS)
        (temporary / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        _replace_folder(temporary, folder)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":  # its I/O errors are no OSError
            raise CheckpointError(f"The SAE could not be written to {folder} ({error}): free space there.") from error
        raise
    return stored


def load_sae(path: str | Path) -> Sae:
    """The SAE in a folder that `save_sae` wrote; arrays are float32 whatever the file holds.

    Raises CheckpointError if a file is missing or damaged: the recorded sha256 is compared with the arrays.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(path)
    folder = folder.parent if folder.name in (TENSORS, FACTS) else folder
    again = "train or import the SAE again"
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        arrays = load_file(folder / TENSORS)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"No SAE in {folder}: expected {TENSORS} and {FACTS}. A .pt file becomes one with "
            "`python -m analysis import-sae FILE --backbone KEY`."
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"The SAE in {folder} cannot be read ({error}); {again}.") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise CheckpointError(f"The SAE in {folder} has format {found!r}; this version reads {FORMAT}: {again}.")
    try:
        sae = Sae(
            arrays["encoder_weight"],
            arrays["encoder_bias"],
            arrays["dictionary"],
            facts["top_k"],
            facts["meta"],
            facts["threshold"],
        )
        recorded = facts["sha256"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"The SAE in {folder} lacks {error}; {again}.") from error
    if sae.sha256 != recorded:
        raise CheckpointError(f"The SAE in {folder} was altered: its sha256 is not the recorded one; {again}.")
    return sae


def import_checkpoint(
    path: str | Path,
    *,
    top_k: int | None = None,
    backbone_width: int | None = None,
    threshold: float | None = None,
    backbone: str = "",
) -> Sae:
    """An SAE from the authors' `.pt` file or an overcomplete TopKSAE / BatchTopKSAE state dict (.pt, .safetensors).

    top_k=None: as stored, else 50 (the paper's; `meta["top_k_source"]` says "checkpoint" or "registry"). `threshold`
    or a stored running threshold makes it a BatchTopK encoder. backbone_width: D that the embeddings will have;
    `backbone` names it in messages and in `meta`.
    No code in the file is run; a file that needs some is refused. Raises CheckpointError.
    """
    from analysis.sae.foreign import read_foreign

    path = Path(path)
    if path.is_dir():
        sae = load_sae(path)
    else:
        found = read_foreign(path)
        source = "argument" if top_k is not None else "checkpoint" if found.top_k is not None else "registry"
        stored_top_k = found.top_k if found.top_k is not None else PAPER_TOP_K
        sae = Sae(
            found.encoder_weight,
            found.encoder_bias,
            found.dictionary,
            top_k if top_k is not None else stored_top_k,
            {**found.meta, "top_k_source": source, **({"backbone": backbone} if backbone else {})},
            threshold if threshold is not None else found.threshold,
        )
    if backbone_width is not None and sae.width != backbone_width:
        raise CheckpointError(
            f"{path.name} is for embeddings of width {sae.width}; {backbone or 'the backbone'} gives {backbone_width}: "
            "choose the checkpoint of this backbone."
        )
    return sae


def to_overcomplete_state_dict(sae: Sae) -> dict[str, Any]:
    """The torch state dict that `overcomplete.sae.TopKSAE(D, nb_concepts=K, top_k=top_k)` loads; tensors share memory.

    A threshold has no place in it: overcomplete's BatchTopKSAE keeps it outside its state dict.
    """
    import torch

    return {
        "encoder.final_block.0.weight": torch.from_numpy(sae.encoder_weight),
        "encoder.final_block.0.bias": torch.from_numpy(sae.encoder_bias),
        "dictionary._weights": torch.from_numpy(sae.dictionary),
        "dictionary.multiplier": torch.tensor(0.0),
    }


def export_overcomplete(sae: Sae, path: str | Path) -> None:
    """Write the state dict as a `.pt` file; load it with torch.load(..., weights_only=True), then call `.eval()`."""
    import torch

    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(to_overcomplete_state_dict(sae), temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"The state dict could not be written to {path} ({error}): free space there.") from error


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows divided by their norm in float64, unless all are unit already: loading must not change a stored bit."""
    norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    norms[norms == 0] = 1
    if (np.abs(norms - 1) < 1e-6).all():
        return matrix
    out = np.empty_like(matrix)
    for lo in range(0, len(matrix), 1024):
        out[lo : lo + 1024] = matrix[lo : lo + 1024] / norms[lo : lo + 1024, None]
    return out


def _replace_folder(new: Path, folder: Path) -> None:
    old = folder.parent / f".{folder.name}.{os.getpid()}.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)
