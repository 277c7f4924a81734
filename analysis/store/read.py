"""Reading stores: lazy, memory-mapped, read-only. Opening checks the manifests and the sizes of all files; an array is
checked for its shape and for values that point nowhere when it is first used; hashes and invariants are `verify`'s work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.concepts.postings import Postings
from analysis.errors import AnalysisError, StoreError
from analysis.sae.codes import Codes
from analysis.store.manifest import Derived, FileFacts, Manifest, split_schema_1
from analysis.store.schema import (
    BRIDGE_COLUMNS,
    DERIVED,
    EFFECT_COLUMNS,
    EFFECTS,
    IMPORTED,
    MANIFEST,
    OTHER_CONCEPT_COLUMNS,
    SAMPLE_COLUMNS,
    SCHEMA,
    SECOND_COLUMNS,
    SIDES,
    UNTRAINED,
    concept_columns,
    current_versions,
    shared_thumbs,
)

FIRST_TASKS = ("i2t", "t2i")  # what every pair data set has, and what the paper removes subspaces on
DEMO_NOTE = "demo: small models trained on EmojiScenes"
DEMO_DATA = "emoji-scenes"
OUT_OF_WORLD = "these data are out of their world"  # behind DEMO_NOTE where a demo model looks at anything else
MAPPED_FROM = 2**20  # bytes; a smaller array is read: each map holds a file descriptor for as long as it is used
_IMAGE_ROLE = 2  # analysis.models.pooling.Role.IMAGE, which is not imported here
SAMPLED = 4096  # values of an array of real numbers that are looked at when it is first used


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
    length_series: np.ndarray | None = None  # (coefficients, n) of the whitened lengths, see `ranking.length_series`


@dataclass(frozen=True)
class TokenView:
    """Codes of every token of one sample: `grid` is (rows, columns) of its picture's patches or None, `cells` the positions
    of their tokens, row by row, `box` the part of the picture under them (left, top, right, bottom; shares of its size)."""

    row: int
    strings: list[str]
    roles: np.ndarray  # (L,) int8
    codes: Codes  # (L, k)
    grid: tuple[int, int] | None
    cells: np.ndarray | None = None
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class StoreRef:
    """One folder that looks like a store. `problem` is empty when it can be opened."""

    path: Path
    backbone: str
    dataset: str
    label: str = ""
    problem: str = ""
    created: str = ""
    out_of_world: bool = False
    embedding_mllm: bool = False
    contrastive: bool = False

    @property
    def ok(self) -> bool:
        return not self.problem


class Store:
    """An open store. Use `open_store`."""

    def __init__(self, path: Path, manifest: Manifest, derived: Derived) -> None:
        self.path = path
        self.manifest = manifest
        self.derived = derived
        self._maps: WeakValueDictionary[str, np.ndarray] = WeakValueDictionary()
        self._results: dict[str, pd.DataFrame] = {}
        self._sound: set[str] = set()  # arrays that were looked through: they are mapped anew whenever somebody asks

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens it again: memory maps do not travel."""
        return open_store, (self.path.absolute(),)

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
    def out_of_world(self) -> bool:
        """Whether a demo model looks at data that it was not made for, such as photographs."""
        return self.is_demo and self.dataset != DEMO_DATA

    @property
    def demo_note(self) -> str:
        """The label of a demo, "" elsewhere."""
        if not self.is_demo:
            return ""
        return f"{DEMO_NOTE}; {OUT_OF_WORLD}" if self.out_of_world else DEMO_NOTE

    @property
    def contrastive(self) -> bool:
        return bool(self.config["backbone"].get("contrastive"))

    @property
    def embedding_words(self) -> str:
        """What the variant "mean" of this store is. Only an MLLM that was not trained to embed has a mean of tokens there."""
        pooling = self.config["backbone"].get("pooling")
        if pooling:
            return f"{'last token' if pooling == 'last' else pooling} of its trained template"
        return "projected feature" if self.contrastive else "mean of all tokens" if self.has_model else "as imported"

    @property
    def one_vector(self) -> bool:
        """Whether the model gives one vector a sample and no tokens to pool otherwise: dual encoders, embedding models."""
        return self.contrastive or bool(self.config["backbone"].get("pooling"))

    @property
    def embedding_mllm(self) -> bool:
        """Whether it is of a multimodal LLM that was trained to embed: of neither kind that the paper compares."""
        return self.one_vector and not self.contrastive

    @property
    def has_model(self) -> bool:
        """False where the embeddings were imported: nothing here can embed another query in the same way."""
        return self.config["backbone"].get("model_type") != IMPORTED

    @property
    def caption(self) -> str:
        """What every figure's caption says: data, split, N, model and tap, of an embedding model its token."""
        data, pairs = self.config["data"], self.facts.get("counts", {})
        split = f" {data['split']}" if data.get("split") else ""
        note = f" · {self.demo_note}" if self.is_demo else ""
        note = (f" ({self.embedding_words})" if self.config["backbone"].get("pooling") else "") + note
        return (
            f"{data['name']}{split}, {pairs.get('images', 0):,} images, {pairs.get('captions', 0):,} captions, "
            f"{self.backbone} @ {self.config['backbone']['tap']}{note}"
        )

    # --- versions -------------------------------------------------------------------------------------------------
    @property
    def older(self) -> tuple[str, ...]:
        """Parts of the derived tables that this version of the code would compute otherwise (see schema.current_versions);
        "layout" for a store of an older schema. Empty where everything is current."""
        stale = [part for part, version in current_versions().items() if self.derived.versions.get(part) != version]
        return tuple(stale if self.manifest.schema == SCHEMA else ["layout", *stale])

    @property
    def older_note(self) -> str:
        """What is older, and the command that brings it up to date; "" where everything is current."""
        if not self.older:
            return ""
        parts = ", ".join(self.older[:4]) + (" ..." if len(self.older) > 4 else "")
        return (
            f"Tables of {self.name} were made by an older version ({parts}); bring them up to date: "
            f"`{rescore_command(self.path)}`."
        )

    # --- tables ---------------------------------------------------------------------------------------------------
    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per sample; the row number is the position everywhere else."""
        return self._table("samples.parquet", SAMPLE_COLUMNS, self.n_samples)

    @cached_property
    def concepts(self) -> pd.DataFrame:
        """One row per concept, the row number is the concept id. Columns: schema.concept_columns(); a score that is newer
        than the store's tables is NaN, see `older_note`."""
        table = self._table("concepts.parquet", OTHER_CONCEPT_COLUMNS, self.n_concepts)
        for column in SECOND_COLUMNS:
            if column not in table:
                table[column] = ""
        scores = [column for column in concept_columns() if column not in (*OTHER_CONCEPT_COLUMNS, *SECOND_COLUMNS)]
        for column in scores:
            if column not in table:
                table[column] = np.nan
            elif not pd.api.types.is_numeric_dtype(table[column]):
                raise StoreError(self._damaged("concepts.parquet", f"its column {column} holds no numbers"))
        return table.loc[:, list(concept_columns())]

    @cached_property
    def bridges(self) -> pd.DataFrame:
        """Strongest image-concept/text-concept pairs with their permutation null."""
        return self._table("bridges.parquet", BRIDGE_COLUMNS)

    @cached_property
    def untrained(self) -> pd.DataFrame | None:
        """Scores of the concepts of the SAE that training started from, the control of this one's; None without."""
        return self._table(UNTRAINED) if self.has(UNTRAINED) else None

    @cached_property
    def effects(self) -> pd.DataFrame | None:
        """What the removal of one concept alone does to recall: a row a task, concept and k, with difference, low and high
        (95 %, paired). None where nobody measured it (`python -m analysis concept-effects`)."""
        return self._table(EFFECTS, EFFECT_COLUMNS) if self.has(EFFECTS) else None

    def results(self, task: str) -> pd.DataFrame:
        """Recall of the standard methods as measured when the store was built. Older tables call a difference delta."""
        if task not in self._results:
            found = self._table(f"retrieval/{task}/results.parquet")
            self._results[task] = found.rename(
                columns={f"delta{end}": f"difference{end}" for end in ("", "_low", "_high")}
            )
        return self._results[task]

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

    @cached_property
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

    def mapped_embeddings(self) -> np.ndarray:
        """(N, D) the mean-pooled embeddings as they are stored: a memory map of float16 or float32."""
        return self._array("embeddings/mean.npy")

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

    def untrained_sae(self) -> Any:
        """The SAE that training of this store's began from, whose scores are `untrained`; None without."""
        from analysis.sae.checkpoint import load_untrained

        return load_untrained(self.cache_dir / self.config["sae"]["path"])

    # --- pictures and tokens --------------------------------------------------------------------------------------
    def thumb_path(self, row: int) -> Path | None:
        """The picture of a sample, None without one. Raises StoreError for a path that leads out of `thumbs/`."""
        name = str(self.samples["thumb"].iat[int(row)] or "")
        if not name:
            return None
        if not name.startswith("thumbs/") or name.count("/") != 1 or name in ("thumbs/.", "thumbs/.."):
            raise StoreError(self._damaged("samples.parquet", f"the thumbnail of row {int(row)} is not in thumbs/"))
        path = self.thumbs / name.removeprefix("thumbs/")
        return self._inside(path, name, self.thumbs.resolve()) if path.is_symlink() else path

    @cached_property
    def thumbs(self) -> Path:
        """The folder of pictures, looked at once, since a page shows fifty of them: the store's own where it has one, else
        the one in the cache that it shares with other stores of the same pictures."""
        own = self.path / "thumbs"
        facts = self.manifest.files.get("thumbs/")
        if facts is None or own.is_dir():
            return self._inside(own, "thumbs/")
        everyone = self.cache_dir / "thumbs"
        return self._inside(self.cache_dir / shared_thumbs(self.dataset, facts.sha256), "thumbs/", everyone.resolve())

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
        roles = np.asarray(self._array("tokens/roles.npy")[span])
        grid = (int(entry["grid_rows"]), int(entry["grid_columns"])) if entry["grid_rows"] else None
        view = TokenView(int(row), list(entry["strings"]), roles, codes, grid)
        if grid is None:
            return view
        # Stores before these columns: patches one after the other, of the whole picture; tiles are not told apart.
        cells = np.asarray(entry["cells"], int) if "cells" in entry else np.flatnonzero(roles == _IMAGE_ROLE)
        if len(cells) != grid[0] * grid[1] or (cells >= len(roles)).any() or (cells < 0).any():
            return replace(view, grid=None)
        left, top, right, bottom = map(float, entry["box"]) if "box" in entry else view.box
        return replace(view, cells=cells, box=(left, top, right, bottom))

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
        return name in self.manifest.files or name in self.derived.files

    def file_facts(self) -> dict[str, FileFacts]:
        """Every listed file, by its path in the store."""
        tables = {self._place(name): facts for name, facts in self.derived.files.items()}
        return {**self.manifest.files, **tables}

    def file_path(self, name: str) -> Path:
        """Where a part lies. Raises StoreError for one that the store does not have, or that a link leads out of it."""
        if not self.has(name):
            raise StoreError(f"{self.name} was built without {name}; build the store again to see this.")
        return self._inside(self.path / self._place(name), name)

    def _place(self, name: str) -> str:
        return name if self.derived.folder == "." or name not in self.derived.files else f"{self.derived.folder}/{name}"

    @cached_property
    def _root(self) -> Path:
        return self.path.resolve()

    def _inside(self, path: Path, name: str, root: Path | None = None) -> Path:
        if not path.resolve().is_relative_to(root or self._root):
            raise StoreError(f"{name} of {self.name} is a link that leads out of the store; put the file itself there.")
        return path

    def _damaged(self, name: str, what: str) -> str:
        if name in self.derived.files:
            remedy = f"`{rescore_command(self.path)} --all` computes it again"
        else:
            remedy = "copy the store again, or remove its folder and build it again"
        return f"{name} of {self.name} cannot be read ({what}); {remedy}."

    def _facts(self, name: str) -> tuple[int, ...]:
        facts = self.manifest.files.get(name)
        if facts is None or facts.shape is None:
            raise StoreError(f"{self.name} has no array {name}; run `.venv/bin/python -m analysis verify` on it.")
        return facts.shape

    def _array(self, name: str) -> np.ndarray:
        """A part as an array, one map of a large file for all who use it; the map is closed with the last of them."""
        known = self._maps.get(name)
        if known is not None:
            return known
        path = self.file_path(name)
        facts = self.manifest.files.get(name) or self.derived.files[name]
        try:
            array: np.ndarray = np.load(path, mmap_mode="r" if facts.bytes >= MAPPED_FROM else None, allow_pickle=False)
        except (OSError, ValueError, EOFError, SyntaxError, OverflowError, MemoryError, RecursionError) as error:
            raise StoreError(self._damaged(name, f"{type(error).__name__}: {str(error)[:120]}")) from error
        if (facts.shape is not None and array.shape != facts.shape) or (
            facts.dtype and str(array.dtype) != facts.dtype
        ):
            raise StoreError(self._damaged(name, f"it is {array.dtype} {array.shape}, not {facts.dtype} {facts.shape}"))
        if name not in self._sound:
            problem = self._nonsense(name, array)
            if problem:
                raise StoreError(self._damaged(name, problem))
            self._sound.add(name)
        if array.nbytes >= MAPPED_FROM:
            self._maps[name] = array
        return array

    def _nonsense(self, name: str, array: np.ndarray) -> str:
        """What no sound file of this name holds: positions outside of what they point into, and numbers that are none
        (looked for in SAMPLED values: garbage shows there, a single altered value is for `verify`)."""
        if array.dtype.kind == "f":
            step = max(1, array.size // SAMPLED)
            return "" if np.isfinite(array.reshape(-1)[::step]).all() else "it holds values that are not finite"
        if name == "postings/offsets.npy":
            ends = self._facts("postings/rows.npy")[0]
            sound = (
                len(array) == self.n_concepts + 1
                and array[0] == 0
                and array[-1] == ends
                and (np.diff(array) >= 0).all()
            )
            return "" if sound else f"the offsets do not rise from 0 to {ends}"
        if name.endswith("/qrels.npy"):
            folder = name.removesuffix("/qrels.npy")
            if array.ndim != 2 or array.shape[1] != 3:
                return "it is no table of three columns"
            sides = [self._facts(f"{folder}/{side}.npy")[0] for side in SIDES]
            return next((p for p in (_outside(array[:, i], n) for i, n in enumerate(sides)) if p), "")
        for pattern, bound in (
            ("codes/indices.npy", self.n_concepts),
            ("tokens/indices.npy", self.n_concepts),
            ("neighbours.npy", self.n_concepts),
            ("postings/rows.npy", self._rows),
            ("embeddings/*.rows.npy", self._rows),
            ("retrieval/*/queries.npy", self._rows),
            ("retrieval/*/candidates.npy", self._rows),
        ):
            if fnmatch(name, pattern):
                return _outside(array, bound)
        return ""

    @property
    def _rows(self) -> int:
        """Number of samples, also of a store that is being written and has no codes yet."""
        return self._facts("codes/indices.npy" if self.has("codes/indices.npy") else "embeddings/mean.npy")[0]

    def _table(self, name: str, columns: tuple[str, ...] = (), rows: int | None = None) -> pd.DataFrame:
        path = self.file_path(name)
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError, KeyError, TypeError, MemoryError, NotImplementedError) as error:
            raise StoreError(self._damaged(name, f"{type(error).__name__}: {str(error)[:120]}")) from error
        missing = [column for column in columns if column not in table]
        if missing:
            raise StoreError(self._damaged(name, f"it lacks the columns {', '.join(missing)}"))
        if rows is not None and len(table) != rows:
            raise StoreError(self._damaged(name, f"it has {len(table)} rows, expected {rows}"))
        return table


def open_store(path: str | Path) -> Store:
    """Open a store read-only. Raises StoreError when it is missing, altered, of a schema that cannot be read, or a file is
    missing or has another size than the manifests say. A store with older derived tables opens: see `Store.older_note`."""
    path = Path(path)
    store = open_base(path)
    if store.manifest.schema == 1:
        _check_sizes(path, store.derived.files)
        return store
    where = path / DERIVED
    try:
        derived = Derived.from_json(where.read_text(encoding="utf-8"), where=str(where))
    except FileNotFoundError as error:
        raise StoreError(
            f"{path.name} lacks {DERIVED}; `{rescore_command(path)}` computes its tables again."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{where} cannot be read ({error}); `{rescore_command(path)}` computes it again.") from error
    if derived.of != store.manifest.digest:
        raise StoreError(
            f"{where} belongs to another {MANIFEST} than the one beside it; `{rescore_command(path)}` computes the tables "
            "again."
        )
    opened = Store(path, store.manifest, derived)
    _check_sizes(path, {opened._place(name): facts for name, facts in derived.files.items()})
    return opened


def open_base(path: str | Path) -> Store:
    """A store without its derived tables: samples, embeddings, codes, tokens and tasks. What `rescore` starts from."""
    path = Path(path)
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        raise StoreError(
            f"{path} is not a store (no {MANIFEST}); `.venv/bin/python -m analysis list` shows what there is, "
            "`.venv/bin/python -m analysis build` makes one."
        )
    try:
        manifest = Manifest.from_json(manifest_path.read_text(encoding="utf-8"), where=str(manifest_path))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{manifest_path} cannot be read ({error}); copy the store again, or run its build again."
        ) from error
    derived = Derived("", ".", {}, {})
    if manifest.schema == 1:
        manifest, derived = split_schema_1(manifest)
    _check_sizes(path, manifest.files)
    return Store(path, manifest, derived)


def rescore_command(path: Path) -> str:
    """The command that computes the derived tables of a store again."""
    try:
        shown = path.resolve().relative_to(Path.cwd())
    except ValueError:
        shown = path
    return f".venv/bin/python -m analysis rescore {shown}"


def _check_sizes(path: Path, files: dict[str, FileFacts]) -> None:
    for name, facts in files.items():
        if name.endswith("/"):
            continue
        try:
            size = (path / name).stat().st_size
        except OSError as error:
            raise StoreError(f"{path.name} lacks {name}; copy the store again, or run its build again.") from error
        if size != facts.bytes:
            raise StoreError(
                f"{name} of {path.name} has {size} bytes, the manifest says {facts.bytes}; "
                "the file is truncated or altered: copy the store again, or run its build again."
            )


def _outside(array: np.ndarray, bound: int) -> str:
    if array.size and (array.min() < 0 or array.max() >= bound):
        return f"it points outside 0..{bound - 1}"
    return ""


def demo_note_of(stores: Iterable[Store]) -> str:
    """The label that stands for several stores: the one that says most, "" where none is a demo's."""
    return max((store.demo_note for store in stores), key=len, default="")


def data_of(stores: Sequence[Store]) -> str:
    """Data, split and N once where all stores share them, then the models with their taps: what a caption says of them."""
    parts = [store.caption.removesuffix(f" · {store.demo_note}").rsplit(", ", 1) for store in stores]
    data = list(dict.fromkeys(part[0] for part in parts))
    if len(parts) > 1 and len(data) == 1:
        return f"{data[0]}; {', '.join(part[1] for part in parts)}"
    return "; ".join(", ".join(part) for part in parts)


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
            kind = (store.out_of_world, store.embedding_mllm, store.contrastive)
            found.append(StoreRef(path, store.backbone, store.dataset, store.label, "", store.manifest.created, *kind))
        except AnalysisError as error:
            found.append(StoreRef(path, backbone, dataset, path.name, str(error)))
    return found
