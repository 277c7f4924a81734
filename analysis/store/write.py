"""Writing a store: parts go into a temporary folder beside the target, the manifest last, then one rename. A store
exists completely or not at all, and is never changed afterwards."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import StoreError
from analysis.store.files import move_into_place, sync_tree, write_durably
from analysis.store.manifest import Derived, FileFacts, Manifest
from analysis.store.read import Store, open_store
from analysis.store.schema import (
    BRIDGE_COLUMNS,
    DERIVED,
    MANIFEST,
    SAMPLE_COLUMNS,
    SIDES,
    concept_columns,
    current_versions,
    file_sha256,
    folder_sha256,
    is_derived,
    shared_thumbs,
    store_key,
)

NEW = "derived/new"  # where derived tables are collected until their hashes name the folder


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
        path = self._folder / (f"{NEW}/{name}" if is_derived(name) else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def array(self, name: str, array: np.ndarray) -> None:
        np.save(self.path(name), np.ascontiguousarray(array), allow_pickle=False)

    def samples(self, frame: pd.DataFrame) -> None:
        self._table("samples.parquet", frame, SAMPLE_COLUMNS)

    def concepts(self, frame: pd.DataFrame) -> None:
        self._table("concepts.parquet", frame, concept_columns())

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
        spectrum: tuple[np.ndarray, np.ndarray],
        length_series: np.ndarray | None = None,
    ) -> None:
        """Statistics of the unit embeddings of one side, with which a single query is whitened (ReAlign). spectrum: the
        covariance's eigenvalues (D,) and eigenvectors (D, D) in columns; length_series:
        with these, the lengths of all n rows after whitening (see `ranking.length_series`)."""
        if side not in SIDES:
            raise ValueError(f"side is {side!r}; expected one of {SIDES}")
        stem = f"retrieval/{task}/support/{side}_{variant}"
        self.array(f"{stem}_mean.npy", np.asarray(mean, np.float32))
        self.array(f"{stem}_covariance.npy", np.asarray(covariance, np.float32))
        self.array(f"{stem}_n.npy", np.asarray([n], np.int64))
        for part, values in zip(("values", "vectors"), spectrum, strict=True):
            self.array(f"{stem}_{part}.npy", np.asarray(values, np.float32))
        if length_series is not None:
            self.array(f"{stem}_lengths.npy", np.asarray(length_series, np.float64))

    def publish(self, facts: dict[str, Any], tasks: dict[str, dict[str, Any]]) -> Path:
        """Write the manifests, see everything onto the disk and move the folder into place. A sound store of the same
        configuration that already stands there wins; one that cannot be opened is replaced."""
        manifest, derived = self._manifests(facts, tasks, hashed=True)
        (self._folder / NEW).rename(self._folder / derived.folder)
        (self._folder / DERIVED).write_text(derived.to_json(), encoding="utf-8")
        (self._folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        sync_tree(self._folder)
        self._share_thumbs(manifest)
        try:
            move_into_place(self._folder, self.target)
        except OSError as error:
            if not (self.target / MANIFEST).is_file():
                raise StoreError(
                    f"The store could not be moved to {self.target} ({error.strerror}); "
                    "remove what stands there and build again."
                ) from error
            self._give_way_to_the_other()
        self._published = True
        return self.target

    def preview(self, facts: dict[str, Any], tasks: dict[str, dict[str, Any]]) -> Store:
        """What is written so far, readable through the ordinary reader (hashes left out): the retrieval step of a
        build measures its results on exactly the arrays that are published."""
        return Store(self._folder, *self._manifests(facts, tasks, hashed=False))

    def _share_thumbs(self, manifest: Manifest) -> None:
        """Thumbnails go where every store of the same pictures finds them; those that are there stay unless damaged."""
        facts = manifest.files.get("thumbs/")
        if facts is None:
            return
        own = self._folder / "thumbs"
        target = self.target.parents[1] / shared_thumbs(str(self.config["data"]["name"]), facts.sha256)
        target.parent.mkdir(exist_ok=True)
        if target.is_dir() and folder_sha256(target)[2] == facts.sha256:
            shutil.rmtree(own)
            return
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        if target.is_dir():
            os.replace(target, aside)
        try:
            move_into_place(own, target)
        except OSError:
            if not target.is_dir():
                raise
            shutil.rmtree(own)  # another build was faster
        shutil.rmtree(aside, ignore_errors=True)

    def _give_way_to_the_other(self) -> None:
        """A store stands where ours belongs."""
        try:
            open_store(self.target)
        except StoreError:  # it cannot be used: ours takes its place
            aside = self.target.with_name(f".{self.target.name}.{uuid.uuid4().hex[:8]}.tmp")
            os.replace(self.target, aside)
            move_into_place(self._folder, self.target)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _manifests(
        self, facts: dict[str, Any], tasks: dict[str, dict[str, Any]], *, hashed: bool
    ) -> tuple[Manifest, Derived]:
        (self._folder / NEW).mkdir(parents=True, exist_ok=True)
        files = files_of(self._folder, hashed=hashed)
        base = {name: found for name, found in files.items() if not name.startswith("derived/")}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = Manifest(self.config, base, facts, tasks, now)
        tables = files_of(self._folder / NEW, hashed=hashed)
        folder = folder_of(tables) if hashed else NEW
        return manifest, Derived(manifest.digest if hashed else "", folder, tables, current_versions(), now)

    def _table(self, name: str, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
        missing = [column for column in columns if column not in frame]
        if missing:
            raise ValueError(f"{name} lacks the columns {missing}")
        frame.loc[:, list(columns)].to_parquet(self.path(name), index=False)


class DerivedWriter:
    """Collects the derived tables of a store that stands, and publishes them together.

    with DerivedWriter(path) as writer:
        writer.table("concepts.parquet", frame)
        writer.publish(manifest, versions)
    Until the last step of `publish`, which replaces derived.json, readers see the tables that were there before.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._folder = store / f".derived.{uuid.uuid4().hex[:8]}.tmp"

    def __enter__(self) -> DerivedWriter:
        self._folder.mkdir()
        return self

    def __exit__(self, *exception: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Where a part is to be written by the caller (its folder exists)."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def array(self, name: str, array: np.ndarray) -> None:
        np.save(self.path(name), np.ascontiguousarray(array), allow_pickle=False)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        frame.to_parquet(self.path(name), index=False)

    def publish(self, manifest: Manifest, versions: dict[str, int]) -> Derived:
        """Tables into place, then derived.json, which names them. What nobody reads any more is left to the caller."""
        files = files_of(self._folder, hashed=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        folder, salt = folder_of(files), 0
        while (self._store / folder).exists():  # the same tables again: those that are read stay until the last step
            salt += 1
            folder = folder_of(files, salt)
        derived = Derived(manifest.digest, folder, files, versions, now)
        target = self._store / folder
        target.parent.mkdir(exist_ok=True)
        sync_tree(self._folder)
        move_into_place(self._folder, target)
        write_durably(self._store / DERIVED, derived.to_json())
        return derived

    def adopt(self, manifest: Manifest) -> None:
        """Bring the manifest of a store of an older schema up to date, after `publish`; its own files stay as they are."""
        write_durably(self._store / MANIFEST, manifest.to_json())


def remove_unread(store: Path, derived: Derived) -> None:
    """Delete derived tables that derived.json does not name: of an older version, of schema 1, or of a killed run."""
    for folder in [*store.glob(".derived.*.tmp"), *(store / "derived").iterdir()]:
        if folder != store / derived.folder:
            shutil.rmtree(folder, ignore_errors=True)
    for path in [p for p in store.rglob("*") if p.is_file() and is_derived(p.relative_to(store).as_posix())]:
        path.unlink(missing_ok=True)


def files_of(folder: Path, *, hashed: bool) -> dict[str, FileFacts]:
    """What a manifest says of the files under a folder: one entry a file, one for all thumbnails."""
    files: dict[str, FileFacts] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if not name.startswith("thumbs/"):
            files[name] = _facts(path, hashed=hashed)
    thumbs = folder / "thumbs"
    if thumbs.is_dir() and hashed:
        count, size, digest = folder_sha256(thumbs)
        files["thumbs/"] = FileFacts(size, digest, shape=(count,))
    return files


def folder_of(tables: dict[str, FileFacts], salt: int = 0) -> str:
    """The folder of a set of derived tables, named by their hashes; salt: another name for the same tables."""
    lines = "".join(f"{name} {facts.sha256}\n" for name, facts in sorted(tables.items()))
    lines += f"{salt}\n" if salt else ""
    return f"derived/{hashlib.sha256(lines.encode()).hexdigest()[:12]}"


def _facts(path: Path, *, hashed: bool) -> FileFacts:
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, dtype = tuple(array.shape), str(array.dtype)
    return FileFacts(path.stat().st_size, file_sha256(path) if hashed else "", shape, dtype)
