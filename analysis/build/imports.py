"""SAEs that exist already: one of the cache, a folder elsewhere, or a released checkpoint, which becomes a folder of the
cache."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from analysis.errors import CheckpointError
from analysis.models.backbones import BACKBONES
from analysis.sae.checkpoint import FACTS, Sae, import_checkpoint, load_sae, save_sae


def import_sae(file: Path, *, backbone: str, name: str | None, top_k: int | None, cache: Path) -> Path:
    """Read `file` without running any code in it, check its width against the backbone, write it, return its folder."""
    spec = BACKBONES.get(backbone)
    if spec is None:
        near = difflib.get_close_matches(backbone, BACKBONES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CheckpointError(f"{backbone!r} is no known backbone; known are {', '.join(BACKBONES)}.{hint}")
    if name is not None and (not name.strip() or Path(name).name != name or name.startswith(".")):
        raise CheckpointError(f"An SAE cannot be called {name!r}; expected a plain folder name.")
    sae = import_checkpoint(file, top_k=top_k, backbone_width=spec.width, backbone=backbone)
    sae = replace(sae, meta={**sae.meta, "backbone": backbone, "source": file.name})
    folder = cache / "sae" / backbone / (name or file.stem)
    if name is not None and _holds_another(folder, sae):
        raise CheckpointError(f"{folder} holds another SAE, on which stores may rely; choose another --name.")
    return _keep(sae, folder)


def find_sae(name_or_path: str, key: str, *, cache: Path, top_k: int | None) -> tuple[Sae, Path]:
    """(SAE, its folder in the cache) from a path or the name of a folder under `cache/sae/<key>`. An SAE outside the cache
    is copied into it, a checkpoint file imported. Raises CheckpointError when there is none."""
    path, home = Path(name_or_path).expanduser(), cache / "sae" / key
    if (home / name_or_path).is_dir():
        path = home / name_or_path
    if not path.exists():
        known = sorted(folder.name for folder in home.iterdir() if folder.is_dir()) if home.is_dir() else []
        raise CheckpointError(
            f"There is no SAE at {name_or_path!r}; give 'train', a folder, a .pt file"
            f"{' or one of ' + ', '.join(known) if known else ''}."
        )
    if path.is_file() and path.parent.joinpath(FACTS).is_file():
        path = path.parent  # a file of an SAE folder stands for the folder
    if path.is_file():
        sae = import_checkpoint(path, top_k=top_k)
        return sae, _keep(replace(sae, meta={**sae.meta, "source": path.name}), home / path.stem)
    sae = load_sae(path)
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
