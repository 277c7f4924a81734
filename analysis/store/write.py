"""Writing a store: parts go into a temporary folder beside the target, the manifest last, then one rename. A store
exists completely or not at all, and is never changed afterwards."""

from __future__ import annotations

import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import StoreError
from analysis.store.read import Store
from analysis.store.schema import (
    BRIDGE_COLUMNS,
    CONCEPT_COLUMNS,
    MANIFEST,
    SAMPLE_COLUMNS,
    SIDES,
    FileFacts,
    Manifest,
    file_sha256,
    folder_sha256,
    store_key,
)


class StoreWriter:
    """Collects the parts of one store and publishes them together.

    with StoreWriter(cache_dir, backbone, dataset, config) as writer:
        writer.array("embeddings/mean.npy", h)
        ...
        path = writer.publish(facts, tasks)
    Leaving the block without `publish` removes what was written.
    """

    def __init__(self, cache_dir: Path, backbone: str, dataset: str, config: dict[str, Any]) -> None:
        self.config = config
        self.target = Path(cache_dir) / backbone / f"{dataset}-{store_key(config)}"
        self._folder = self.target.parent / f".{self.target.name}.{uuid.uuid4().hex[:8]}.tmp"
        self._published = False

    def __enter__(self) -> StoreWriter:
        self._folder.mkdir(parents=True)
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._published:
            shutil.rmtree(self._folder, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Where a part is to be written by the caller (its folder exists)."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def array(self, name: str, array: np.ndarray) -> None:
        np.save(self.path(name), np.ascontiguousarray(array), allow_pickle=False)

    def samples(self, frame: pd.DataFrame) -> None:
        self._table("samples.parquet", frame, SAMPLE_COLUMNS)

    def concepts(self, frame: pd.DataFrame) -> None:
        self._table("concepts.parquet", frame, CONCEPT_COLUMNS)

    def bridges(self, frame: pd.DataFrame) -> None:
        self._table("bridges.parquet", frame, BRIDGE_COLUMNS)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        frame.to_parquet(self.path(name), index=False)

    def support(
        self,
        task: str,
        side: str,
        variant: str,
        mean: np.ndarray,
        covariance: np.ndarray,
        n: int,
        spectrum: tuple[np.ndarray, np.ndarray] | None = None,
        length_series: np.ndarray | None = None,
    ) -> None:
        """Statistics of the unit embeddings of one side, with which a single query is whitened (ReAlign). spectrum: the
        covariance's eigenvalues (D,) and eigenvectors (D, D) in columns, where they are worth keeping; length_series:
        with these, the lengths of all n rows after whitening (see retrieval.length_series)."""
        if side not in SIDES:
            raise ValueError(f"side is {side!r}; expected one of {SIDES}")
        stem = f"retrieval/{task}/support/{side}_{variant}"
        self.array(f"{stem}_mean.npy", np.asarray(mean, np.float32))
        self.array(f"{stem}_covariance.npy", np.asarray(covariance, np.float32))
        self.array(f"{stem}_n.npy", np.asarray([n], np.int64))
        for part, values in zip(("values", "vectors"), spectrum or (), strict=False):
            self.array(f"{stem}_{part}.npy", np.asarray(values, np.float32))
        if length_series is not None:
            self.array(f"{stem}_lengths.npy", np.asarray(length_series, np.float64))

    def publish(self, facts: dict[str, Any], tasks: dict[str, dict[str, Any]]) -> Path:
        """Write the manifest and move the folder into place. An equal store that already stands there wins: its
        key says that the same configuration made it."""
        manifest = self._manifest(facts, tasks, hashed=True)
        (self._folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        try:
            os.replace(self._folder, self.target)
        except OSError as error:
            if not (self.target / MANIFEST).is_file():
                raise StoreError(
                    f"The store could not be moved to {self.target} ({error.strerror}); "
                    "remove what stands there and build again."
                ) from error
            shutil.rmtree(self._folder, ignore_errors=True)
        self._published = True
        return self.target

    def preview(self, facts: dict[str, Any], tasks: dict[str, dict[str, Any]]) -> Store:
        """What is written so far, readable through the ordinary reader (hashes left out): the retrieval step of a
        build measures its results on exactly the arrays that are published."""
        return Store(self._folder, self._manifest(facts, tasks, hashed=False))

    def _manifest(self, facts: dict[str, Any], tasks: dict[str, dict[str, Any]], *, hashed: bool) -> Manifest:
        files: dict[str, FileFacts] = {}
        for path in sorted(p for p in self._folder.rglob("*") if p.is_file()):
            name = path.relative_to(self._folder).as_posix()
            if not name.startswith("thumbs/"):
                files[name] = _facts(path, hashed=hashed)
        thumbs = self._folder / "thumbs"
        if thumbs.is_dir() and hashed:
            count, size, digest = folder_sha256(thumbs)
            files["thumbs/"] = FileFacts(size, digest, shape=(count,))
        return Manifest(self.config, files, facts, tasks, datetime.now(UTC).isoformat(timespec="seconds"))

    def _table(self, name: str, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
        missing = [column for column in columns if column not in frame]
        if missing:
            raise ValueError(f"{name} lacks the columns {missing}")
        frame.loc[:, list(columns)].to_parquet(self.path(name), index=False)


def _facts(path: Path, *, hashed: bool) -> FileFacts:
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, dtype = tuple(array.shape), str(array.dtype)
    return FileFacts(path.stat().st_size, file_sha256(path) if hashed else "", shape, dtype)
