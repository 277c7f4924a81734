"""Changing a published store behind its back, with or without the manifest knowing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from analysis.store.schema import file_sha256


def copy_of(store: Path, target: Path) -> Path:
    """A copy of a store with its SAE at the same relative place; returns the copy's folder."""
    cache = store.parent.parent
    shutil.copytree(cache, target)
    return target / store.relative_to(cache)


def edit_manifest(store: Path, **changes: Any) -> None:
    path = store / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_array(store: Path, name: str, array: np.ndarray) -> None:
    """Put another array in place and enter its size and hash, so that only the invariants can notice."""
    np.save(store / name, array)
    manifest = json.loads((store / "manifest.json").read_text())
    facts = manifest["files"][name]
    facts["bytes"] = (store / name).stat().st_size
    facts["sha256"] = file_sha256(store / name)
    facts["shape"], facts["dtype"] = list(array.shape), str(array.dtype)
    (store / "manifest.json").write_text(json.dumps(manifest))
