"""Changing a published store behind its back, with or without the manifest knowing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from analysis.store import open_store
from analysis.store.manifest import _sealed
from analysis.store.schema import file_sha256


def copy_of(store: Path, target: Path) -> Path:
    """A copy of a store with its SAE at the same relative place; returns the copy's folder."""
    cache = store.parent.parent
    shutil.copytree(cache, target)
    return target / store.relative_to(cache)


def edit_manifest(store: Path, **changes: Any) -> None:
    """Change parts of manifest.json, with a digest that fits and tables that belong to it, as a careful forger would."""
    raw = {**json.loads((store / "manifest.json").read_text()), **changes}
    _seal(store, "manifest.json", raw)
    derived = json.loads((store / "derived.json").read_text())
    _seal(store, "derived.json", {**derived, "of": json.loads((store / "manifest.json").read_text())["digest"]})


def edit_derived(store: Path, **changes: Any) -> None:
    _seal(store, "derived.json", {**json.loads((store / "derived.json").read_text()), **changes})


def replace_array(store: Path, name: str, array: np.ndarray) -> None:
    """Put another array in place and enter its size and hash, so that only the invariants can notice."""
    np.save(store / name, array)
    files = json.loads((store / "manifest.json").read_text())["files"]
    files[name] = {
        "bytes": (store / name).stat().st_size, "sha256": file_sha256(store / name),
        "shape": list(array.shape), "dtype": str(array.dtype),
    }  # fmt: skip
    edit_manifest(store, files=files)


def table(store: Path, name: str) -> Path:
    """Where a derived table of a store lies."""
    return open_store(store).file_path(name)


def as_schema_1(store: Path) -> None:
    """The store as it was written before derived tables had a manifest of their own."""
    manifest, derived = (json.loads((store / f"{name}.json").read_text()) for name in ("manifest", "derived"))
    for name in derived["files"]:
        (store / derived["folder"] / name).rename(store / name)
    shutil.rmtree(store / "derived")
    (store / "derived.json").unlink()
    del manifest["digest"]
    manifest = {**manifest, "schema": 1, "files": {**manifest["files"], **derived["files"]}}
    (store / "manifest.json").write_text(json.dumps(manifest))


def _seal(store: Path, name: str, raw: dict[str, Any]) -> None:
    unsealed = {key: value for key, value in raw.items() if key != "digest"}
    (store / name).write_text(_sealed(unsealed), encoding="utf-8")
