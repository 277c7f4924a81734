"""Reading stores: lazy, memory-mapped, read-only. Opening checks the manifest and the sizes of all files; hashes and
invariants are `verify`'s work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.concepts.postings import Postings
from analysis.errors import AnalysisError, StoreError
from analysis.sae.codes import Codes
from analysis.store.schema import IMPORTED, MANIFEST, SIDES, Manifest

FIRST_TASKS = ("i2t", "t2i")  # what every pair data set has, and what the paper removes subspaces on
DEMO_NOTE = "demo: small models trained on EmojiScenes"


@dataclass(frozen=True)
class Task:
    """One retrieval task of a store. Rows are positions in `Store.samples` and in every embeddings array."""

    task: str
    query_rows: np.ndarray  # (Q,) int32
    candidate_rows: np.ndarray  # (C,) int32
    qrels: sp.csr_array  # (Q, C)
    prompts: dict[str, str]  # side -> instruction
    missing_targets: int = 0
    unanswerable_queries: int = 0
    note: str = ""
    missing_per_query: np.ndarray | None = None  # (Q,) targets that are in no pool; None where none is missing


@dataclass(frozen=True)
class Support:
    """Mean and covariance (N-1) of the unit embeddings of one side of a task, over n samples."""

    mean: np.ndarray  # (D,)
    covariance: np.ndarray  # (D, D)
    n: int
    spectrum: tuple[np.ndarray, np.ndarray] | None = None  # eigenvalues (D,) ascending, eigenvectors (D, D) in columns
    length_series: np.ndarray | None = None  # (coefficients, n) of the whitened lengths, see retrieval.length_series


@dataclass(frozen=True)
class TokenView:
    """Codes of every token of one sample: `grid` is (rows, columns) of its image tokens, row-major, or None."""

    row: int
    strings: list[str]
    roles: np.ndarray  # (L,) int8
    codes: Codes  # (L, k)
    grid: tuple[int, int] | None


@dataclass(frozen=True)
class StoreRef:
    """One folder that looks like a store. `problem` is empty when it can be opened."""

    path: Path
    backbone: str
    dataset: str
    label: str = ""
    problem: str = ""
    created: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem


class Store:
    """An open store. Use `open_store`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    # --- identity -------------------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        return self.path.name

    @property
    def backbone(self) -> str:
        return str(self.config["backbone"]["key"])

    @property
    def dataset(self) -> str:
        return str(self.config["data"]["name"])

    @property
    def label(self) -> str:
        """Short name for pickers and legends: the backbone, and what sets this store apart from its default."""
        unit = "" if self.config["sae"]["unit"] == "pooled" else f", {self.config['sae']['unit']} SAE"
        return f"{self.backbone} · {self.dataset}{unit}"

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest.config

    @property
    def facts(self) -> dict[str, Any]:
        return self.manifest.facts

    @property
    def is_demo(self) -> bool:
        """True where a model or the pictures are the embedded demo's: shown wherever a number is."""
        return bool(self.facts.get("demo"))

    @property
    def contrastive(self) -> bool:
        return bool(self.config["backbone"].get("contrastive"))

    @property
    def has_model(self) -> bool:
        """False where the embeddings were imported: nothing here can embed another query in the same way."""
        return self.config["backbone"].get("model_type") != IMPORTED

    @property
    def caption(self) -> str:
        """What every figure's caption says: data, split, N, model and tap."""
        data, pairs = self.config["data"], self.facts.get("counts", {})
        split = f" {data['split']}" if data.get("split") else ""
        note = f" · {DEMO_NOTE}" if self.is_demo else ""
        return (
            f"{data['name']}{split}, {pairs.get('images', 0):,} images, {pairs.get('captions', 0):,} captions, "
            f"{self.backbone} @ {self.config['backbone']['tap']}{note}"
        )

    # --- tables ---------------------------------------------------------------------------------------------------
    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per sample; the row number is the position everywhere else."""
        return self._table("samples.parquet")

    @cached_property
    def concepts(self) -> pd.DataFrame:
        """One row per concept, the row number is the concept id. Columns: schema.CONCEPT_COLUMNS."""
        return self._table("concepts.parquet")

    @cached_property
    def bridges(self) -> pd.DataFrame:
        """Strongest image-concept/text-concept pairs with their permutation null."""
        return self._table("bridges.parquet")

    def results(self, task: str) -> pd.DataFrame:
        """Recall of the standard methods as measured when the store was built."""
        return self._table(f"retrieval/{task}/results.parquet")

    # --- arrays ---------------------------------------------------------------------------------------------------
    @cached_property
    def codes(self) -> Codes:
        return Codes(self._array("codes/indices.npy"), self._array("codes/values.npy"), self.n_concepts)

    @cached_property
    def postings(self) -> Postings:
        return Postings(*(self._array(f"postings/{part}.npy") for part in ("offsets", "rows", "values")))

    @cached_property
    def neighbours(self) -> np.ndarray:
        return self._array("neighbours.npy")

    @property
    def n_concepts(self) -> int:
        return int(self.config["sae"]["n_concepts"])

    @property
    def n_samples(self) -> int:
        return self._facts("codes/indices.npy")[0]

    @property
    def width(self) -> int:
        """D, the width of the embeddings."""
        return self._facts("embeddings/mean.npy")[1]

    @property
    def variants(self) -> tuple[str, ...]:
        """Pooling variants whose embeddings are stored, "mean" first."""
        found = {
            Path(name).stem
            for name in self.manifest.files
            if name.startswith("embeddings/") and "." not in Path(name).stem
        }
        return tuple(sorted(found, key=lambda name: (name != "mean", name)))

    def embeddings(self, variant: str = "mean", rows: np.ndarray | None = None) -> np.ndarray:
        """(n, D) float32, UN-normalised, in the order of `rows` (all samples when None).

        A variant that is defined for some samples only (a mask of image tokens) is stored for those; every other
        sample has its "mean" embedding there.
        """
        if variant not in self.variants:
            raise StoreError(
                f"{self.name} has no embeddings {variant!r}, only {', '.join(self.variants)}; "
                "build the store again with that variant."
            )
        stored = self._array(f"embeddings/{variant}.npy")
        if f"embeddings/{variant}.rows.npy" not in self.manifest.files:
            return np.asarray(stored if rows is None else stored[rows], dtype=np.float32)
        result = np.array(self.embeddings("mean", rows))  # a copy: without rows it is the memory map itself
        wanted = np.arange(self.n_samples) if rows is None else np.asarray(rows)
        slot = np.full(self.n_samples, -1, np.int64)
        slot[self._array(f"embeddings/{variant}.rows.npy")] = np.arange(len(stored))
        hit = slot[wanted] >= 0
        result[hit] = stored[slot[wanted[hit]]]
        return result

    def sae(self) -> Any:
        """The SAE (analysis.sae.checkpoint.Sae) whose codes these are, from the cache beside the store."""
        from analysis.sae.checkpoint import load_sae

        folder = self.cache_dir / self.config["sae"]["path"]
        if not folder.is_dir():
            raise StoreError(
                f"The SAE of {self.name} is not at {self.config['sae']['path']}; "
                "restore that folder or build the store again: removal and attribution need its dictionary."
            )
        sae = load_sae(folder)
        if sae.sha256 != self.config["sae"]["sha256"]:
            raise StoreError(
                f"The SAE at {self.config['sae']['path']} is not the one {self.name} was built with "
                f"({sae.sha256[:12]} instead of {self.config['sae']['sha256'][:12]}); build the store again."
            )
        return sae

    # --- pictures and tokens --------------------------------------------------------------------------------------
    def thumb_path(self, row: int) -> Path | None:
        name = self.samples["thumb"].iat[int(row)]
        return self.path / name if name else None

    @cached_property
    def token_rows(self) -> np.ndarray:
        """Samples whose token codes are stored; empty when there are none."""
        return self._token_index["row"].to_numpy() if self.has("tokens/index.parquet") else np.empty(0, int)

    @cached_property
    def _token_index(self) -> pd.DataFrame:
        return self._table("tokens/index.parquet")

    def token_view(self, row: int) -> TokenView | None:
        """Codes, roles and strings of every token of a sample, None where they were not kept."""
        where = np.flatnonzero(self.token_rows == row)
        if not len(where):
            return None
        entry = self._token_index.iloc[int(where[0])]
        span = slice(int(entry["start"]), int(entry["start"] + entry["length"]))
        codes = Codes(self._array("tokens/indices.npy")[span], self._array("tokens/values.npy")[span], self.n_concepts)
        grid = (int(entry["grid_rows"]), int(entry["grid_columns"])) if entry["grid_rows"] else None
        return TokenView(
            int(row), list(entry["strings"]), np.asarray(self._array("tokens/roles.npy")[span]), codes, grid
        )

    # --- retrieval ------------------------------------------------------------------------------------------------
    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the store, those of the paper's first table of retrieval first."""
        return tuple(sorted(self.manifest.tasks, key=lambda task: (task not in FIRST_TASKS, task)))

    def task(self, task: str) -> Task:
        if task not in self.manifest.tasks:
            raise StoreError(
                f"{self.name} has no task {task!r}; it has {', '.join(self.tasks) or 'none'}: choose one of those."
            )
        facts = self.manifest.tasks[task]
        queries = np.asarray(self._array(f"retrieval/{task}/queries.npy"))
        candidates = np.asarray(self._array(f"retrieval/{task}/candidates.npy"))
        relevant = self._array(f"retrieval/{task}/qrels.npy")
        qrels = sp.csr_array(
            (relevant[:, 2].astype(np.float32), (relevant[:, 0], relevant[:, 1])), shape=(len(queries), len(candidates))
        )
        name = f"retrieval/{task}/missing.npy"
        return Task(
            task, queries, candidates, qrels, facts.get("prompts", {}),
            facts.get("missing_targets", 0), facts.get("unanswerable_queries", 0), facts.get("note", ""),
            np.asarray(self._array(name)) if self.has(name) else None,
        )  # fmt: skip

    def support(self, task: str, side: str, variant: str = "mean") -> Support | None:
        """Stored statistics of one side, or None: a single query then cannot be whitened."""
        if side not in SIDES:
            raise ValueError(f"side is {side!r}; expected one of {SIDES}")
        stem = f"retrieval/{task}/support/{side}_{variant}"
        if not self.has(f"{stem}_mean.npy"):
            return None
        n = int(self._array(f"{stem}_n.npy")[0])
        mean, covariance = (np.asarray(self._array(f"{stem}_{part}.npy")) for part in ("mean", "covariance"))
        if not self.has(f"{stem}_vectors.npy"):
            return Support(mean, covariance, n)
        values, vectors = (np.asarray(self._array(f"{stem}_{part}.npy")) for part in ("values", "vectors"))
        series = f"{stem}_lengths.npy"
        return Support(
            mean, covariance, n, (values, vectors), np.asarray(self._array(series)) if self.has(series) else None
        )

    # --- files ----------------------------------------------------------------------------------------------------
    @property
    def cache_dir(self) -> Path:
        return self.path.parent.parent

    def has(self, name: str) -> bool:
        return name in self.manifest.files

    def _facts(self, name: str) -> tuple[int, ...]:
        facts = self.manifest.files.get(name)
        if facts is None or facts.shape is None:
            raise StoreError(f"{self.name} has no array {name}; run `python -m analysis verify` on it.")
        return facts.shape

    def _array(self, name: str) -> np.ndarray:
        if not self.has(name):
            raise StoreError(f"{self.name} was built without {name}; build the store again to see this.")
        try:
            return np.load(self.path / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{name} of {self.name} cannot be read ({error}); run `python -m analysis verify`."
            ) from error

    def _table(self, name: str) -> pd.DataFrame:
        if not self.has(name):
            raise StoreError(f"{self.name} was built without {name}; build the store again to see this.")
        try:
            return pd.read_parquet(self.path / name)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{name} of {self.name} cannot be read ({error}); run `python -m analysis verify`."
            ) from error


def open_store(path: str | Path) -> Store:
    """Open a store read-only. Raises StoreError when it is missing, of another schema, or a file is missing or has
    another size than the manifest says."""
    path = Path(path)
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        raise StoreError(
            f"{path} is not a store (no {MANIFEST}); `python -m analysis list` shows what there is, "
            "`python -m analysis build` makes one."
        )
    try:
        manifest = Manifest.from_json(manifest_path.read_text(encoding="utf-8"), where=str(manifest_path))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{manifest_path} cannot be read ({error}); rebuild the store.") from error
    for name, facts in manifest.files.items():
        if name.endswith("/"):
            continue
        try:
            size = (path / name).stat().st_size
        except OSError as error:
            raise StoreError(f"{path.name} lacks {name}; copy the store again or rebuild it.") from error
        if size != facts.bytes:
            raise StoreError(
                f"{name} of {path.name} has {size} bytes, the manifest says {facts.bytes}; "
                "the file is truncated or altered: copy the store again or rebuild it."
            )
    return Store(path, manifest)


def find_stores(cache_dir: str | Path = "cache") -> list[StoreRef]:
    """Every store under `cache_dir`, also those that cannot be opened (with the reason), ordered by path."""
    found = []
    for manifest_path in sorted(Path(cache_dir).glob(f"*/*/{MANIFEST}")):
        path = manifest_path.parent
        if path.name.startswith(".") or path.parent.name.startswith("."):
            continue
        backbone, dataset = path.parent.name, path.name.rsplit("-", 1)[0]
        try:
            store = open_store(path)
            found.append(StoreRef(path, store.backbone, store.dataset, store.label, "", store.manifest.created))
        except (AnalysisError, KeyError) as error:
            found.append(StoreRef(path, backbone, dataset, path.name, str(error)))
    return found
