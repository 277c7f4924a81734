"""SAEs that exist already: one of the cache, a folder elsewhere, or a released checkpoint, which becomes a folder of the
cache."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis.errors import CheckpointError
from analysis.models.backbones import BACKBONES
from analysis.sae.checkpoint import FACTS, Sae, import_checkpoint, load_sae, save_sae
from analysis.store.read import find_stores, open_store
from analysis.store.schema import MANIFEST

SAMPLE_ROWS = 4096  # of a sample: enough for an L0 to a percent


def import_sae(
    file: Path,
    *,
    backbone: str,
    name: str | None,
    top_k: int | None,
    cache: Path,
    rule: str | None = None,
    threshold: float | None = None,
    l0: float | None = None,
    sample: Path | None = None,
    delta: float | None = None,
) -> Path:
    """Read `file` (or the folder of a checkpoint) without running any code in it, check its width against the backbone, write
    it, return its folder. rule, threshold, l0, delta: as of `checkpoint.import_checkpoint`; sample: a file of embeddings or a
    store, in whose rows a threshold or the width of the codes is found."""
    width = _width_of(backbone, cache)
    if name is not None and (not name.strip() or Path(name).name != name or name.startswith(".")):
        raise CheckpointError(f"An SAE cannot be called {name!r}; expected a plain folder name.")
    sae = import_checkpoint(
        file,
        top_k=top_k,
        backbone_width=width,
        backbone=backbone,
        rule=rule,
        threshold=threshold,
        l0=l0,
        sample=None if sample is None else lambda: _sample_rows(sample),
        delta=delta,
    )
    sae = replace(sae, meta={**sae.meta, "backbone": backbone, "source": file.name})
    folder = cache / "sae" / backbone / (name or _name_of(file))
    if name is not None and _holds_another(folder, sae):
        raise CheckpointError(f"{folder} holds another SAE, on which stores may rely; choose another --name.")
    return _keep(sae, folder)


def find_sae(
    name_or_path: str,
    key: str,
    *,
    cache: Path,
    top_k: int | None,
    rule: str | None = None,
    threshold: float | None = None,
    l0: float | None = None,
    rows: Callable[[], np.ndarray] | None = None,
) -> tuple[Sae, Path]:
    """(SAE, its folder in the cache) from a path or the name of a folder under `cache/sae/<key>`. An SAE outside the cache
    is copied into it, a checkpoint file imported; rule, threshold, l0 and rows (its sample) are as of `import_checkpoint`.
    An l0 without rows is a first look: nothing is kept, the threshold is not the one. Raises CheckpointError when there is
    none."""
    path, home = Path(name_or_path).expanduser(), cache / "sae" / key
    if (home / name_or_path).is_dir():
        path = home / name_or_path
    if not path.exists():
        known = sorted(folder.name for folder in home.iterdir() if folder.is_dir()) if home.is_dir() else []
        raise CheckpointError(
            f"There is no SAE at {name_or_path!r}; give 'train', a folder, a checkpoint file"
            f"{' or one of ' + ', '.join(known) if known else ''}."
        )
    if path.is_file() and path.parent.joinpath(FACTS).is_file():
        path = path.parent  # a file of an SAE folder stands for the folder
    if path.is_file() or not path.joinpath(FACTS).is_file():
        if l0 is not None and rows is None:
            return import_checkpoint(path, top_k=top_k, rule=rule, threshold=1.0), path
        sae = import_checkpoint(path, top_k=top_k, rule=rule, threshold=threshold, l0=l0, sample=rows)
        return sae, _keep(replace(sae, meta={**sae.meta, "source": path.name}), home / _name_of(path))
    sae = load_sae(path)
    if rule is not None or threshold is not None or l0 is not None:
        raise CheckpointError(
            f"The SAE at {name_or_path} is imported already, as {sae.rule}; --rule, --threshold and --l0 are for checkpoints "
            "of other tools: leave them out, or give the checkpoint."
        )
    if top_k is not None and top_k != sae.top_k:
        raise CheckpointError(
            f"The SAE at {name_or_path} has top_k {sae.top_k}, --top-k says {top_k}; leave it out, or import the checkpoint "
            "again with it."
        )
    if path.resolve().is_relative_to(cache.resolve()):
        return sae, cache / path.resolve().relative_to(cache.resolve())
    return sae, _keep(sae, home / path.resolve().name)


def _keep(sae: Sae, folder: Path) -> Path:
    """Write the SAE, unless it stands there. Another SAE of that name stays: stores rely on it."""
    if _holds_another(folder, sae):
        folder = folder.with_name(f"{folder.name}-{sae.sha256[:8]}")
    if not folder.joinpath(FACTS).is_file():
        save_sae(sae, folder)
    return folder


def _holds_another(folder: Path, sae: Sae) -> bool:
    return folder.joinpath(FACTS).is_file() and load_sae(folder).sha256 != sae.sha256


def _name_of(path: Path) -> str:
    """Of a checkpoint: its stem, or its folder's name where every checkpoint of its tool is called the same."""
    if path.is_file() and path.stem not in ("ae", "sae", "sae_weights"):
        return path.stem
    return (path.resolve().parent if path.is_file() else path.resolve()).name


def _width_of(backbone: str, cache: Path) -> int | None:
    """Of the embeddings of a known backbone, or of imported ones that a store of the cache holds under that name."""
    if spec := BACKBONES.get(backbone):
        return spec.width
    for ref in find_stores(cache):
        if ref.backbone == backbone and ref.ok:
            return open_store(ref.path).width
    near = difflib.get_close_matches(backbone, BACKBONES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise CheckpointError(f"{backbone!r} is no known backbone; known are {', '.join(BACKBONES)}.{hint}")


def _sample_rows(path: Path) -> np.ndarray:
    """At most SAMPLE_ROWS embeddings of a store or a file, evenly spread."""
    from analysis.data.vectors import load_vectors

    return spread(open_store(path).embeddings() if path.joinpath(MANIFEST).is_file() else load_vectors([path]).vectors)


def spread(rows: np.ndarray) -> np.ndarray:
    """At most SAMPLE_ROWS of some rows, evenly spread."""
    return np.asarray(rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE_ROWS).astype(np.int64))], np.float32)
