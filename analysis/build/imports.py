"""`import-sae`: a released checkpoint becomes an SAE folder of the cache."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from analysis.errors import CheckpointError
from analysis.models.backbones import BACKBONES
from analysis.sae.checkpoint import import_checkpoint, save_sae


def import_sae(file: Path, *, backbone: str, name: str | None, top_k: int | None, cache: Path) -> Path:
    """Read `file` without running any code in it, check its width against the backbone, write it, return its folder."""
    spec = BACKBONES.get(backbone)
    if spec is None:
        near = difflib.get_close_matches(backbone, BACKBONES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CheckpointError(f"{backbone!r} is no known backbone; known are {', '.join(BACKBONES)}.{hint}")
    sae = import_checkpoint(file, top_k=top_k, backbone_width=spec.width, backbone=backbone)
    sae = replace(sae, meta={**sae.meta, "backbone": backbone, "source": file.name})
    folder = cache / "sae" / backbone / (name or file.stem)
    save_sae(sae, folder)
    return folder
