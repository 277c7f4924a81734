"""The two manifests of a store: of what it was built from (`manifest.json`, never changed) and of the tables that follow
from it (`derived.json`, replaced by `rescore`). Both are typed and carry a digest of their own text."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, NoReturn, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from analysis.errors import NewerStore, StoreError
from analysis.store.schema import DERIVED, MANIFEST, OLDEST_SCHEMA, SCHEMA, is_derived, versions_of_schema_1

_LOOSE = ConfigDict(extra="allow", strict=True)  # further keys are facts that nobody computes with
_CLOSED = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class FileFacts:
    """What a manifest promises about one file. `shape` and `dtype` are None for files that are no .npy array."""

    bytes: int
    sha256: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything a reader needs to know before it opens a file.

    config: what changes a number; its hash is the store's key. facts: what was measured or noted while building
    (R², defects, counts, versions, commit) and changes no number. tasks: task -> prompts, missing targets and notes.
    """

    config: dict[str, Any]
    files: dict[str, FileFacts]
    facts: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: str = ""
    schema: int = SCHEMA

    @cached_property
    def digest(self) -> str:
        """sha256 of everything the manifest says."""
        return _digest(asdict(self))

    def to_json(self) -> str:
        return _sealed(asdict(self))

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Manifest:
        """Raises StoreError with the reason, and what to do: for a text that is no manifest, was altered after it was
        written, is of a schema that cannot be read, has a value of a wrong type or a path that leaves the store."""
        raw = _parsed(text, where)
        schema = raw.get("schema")
        if not isinstance(schema, int) or isinstance(schema, bool):
            raise StoreError(
                f"{where} is not a store manifest (no schema); copy the store again, or run its build again."
            )
        if schema > SCHEMA:
            raise NewerStore(f"{where} has schema {schema}, this version reads up to {SCHEMA}: update RetrievalLens.")
        if schema < OLDEST_SCHEMA:
            raise StoreError(
                f"{where} has schema {schema}, this version reads schema {OLDEST_SCHEMA} to {SCHEMA}: run "
                "`.venv/bin/python -m analysis build` again, it replaces the store."
            )
        if schema > 1:
            _check_seal(raw, text, where)
        typed = _typed(_MANIFEST, raw, where)
        files = _file_facts(typed["files"])
        manifest = cls(typed["config"], files, typed["facts"], typed["tasks"], typed["created"], schema)
        if schema > 1:
            manifest.__dict__["digest"] = raw["digest"]  # it was just checked
        return manifest


@dataclass(frozen=True)
class Derived:
    """The tables that follow from a store's codes, embeddings and dictionary.

    of: digest of the manifest they were computed for. folder: where they lie in the store. versions: part -> version of
    the code that made it (see schema.current_versions).
    """

    of: str
    folder: str
    files: dict[str, FileFacts]
    versions: dict[str, int]
    created: str = ""

    def to_json(self) -> str:
        return _sealed(asdict(self))

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Derived:
        raw = _parsed(text, where)
        _check_seal(raw, text, where)
        typed = _typed(_DERIVED, raw, where)
        return cls(typed["of"], typed["folder"], _file_facts(typed["files"]), typed["versions"], typed["created"])


def split_schema_1(manifest: Manifest) -> tuple[Manifest, Derived]:
    """A manifest of schema 1 listed the derived tables beside the rest: the same store as the two manifests of today."""
    base = {name: facts for name, facts in manifest.files.items() if not is_derived(name)}
    tables = {name: facts for name, facts in manifest.files.items() if is_derived(name)}
    of_base = Manifest(manifest.config, base, manifest.facts, manifest.tasks, manifest.created, manifest.schema)
    return of_base, Derived("", ".", tables, versions_of_schema_1(), manifest.created)


# --- types --------------------------------------------------------------------------------------------------------
def _inside(name: str) -> str:
    """A relative path that stays below the folder it is relative to, spelled in one way."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name:
        raise ValueError("leaves the folder it belongs to")
    if str(path) != name.removesuffix("/"):
        raise ValueError("is not spelled as a plain path")
    return name


def _plain(name: str) -> str:
    """A name that is one part of a path."""
    if not re.fullmatch(r"[\w.+-]{1,200}", name) or name.startswith("."):
        raise ValueError("is no plain name")
    return name


Inside = Annotated[str, AfterValidator(_inside)]
Plain = Annotated[str, AfterValidator(_plain)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Natural = Annotated[int, Field(ge=0, le=2**62)]


class _FileFacts(TypedDict):
    __pydantic_config__ = _CLOSED  # type: ignore[misc]
    bytes: Natural
    sha256: Sha256
    shape: list[Natural] | None
    dtype: str | None


class _Backbone(TypedDict, total=False):
    __pydantic_config__ = _LOOSE  # type: ignore[misc]
    key: str
    tap: str
    model: str | None
    revision: str | None
    dtype: str | None
    contrastive: bool
    demo: bool


class _Sae(TypedDict):
    __pydantic_config__ = _LOOSE  # type: ignore[misc]
    path: Inside
    sha256: str
    unit: str
    n_concepts: Annotated[int, Field(ge=1)]
    top_k: Annotated[int, Field(ge=1)]


class _Data(TypedDict, total=False):
    __pydantic_config__ = _LOOSE  # type: ignore[misc]
    name: str
    split: str | None
    revision: str | None


class _Config(TypedDict, total=False):
    __pydantic_config__ = _LOOSE  # type: ignore[misc]
    backbone: _Backbone
    sae: _Sae
    data: _Data
    prompts: str
    sample_code: str
    weighting: str
    embedding_dtype: str
    variants: list[str]


class _Quality(TypedDict, total=False):
    __pydantic_config__ = _LOOSE  # type: ignore[misc]
    r2_per_dimension: float | None
    r2_scalar_mean: float | None
    l0: float | None
    dead_share: float | None
    n: int | None


class _Facts(TypedDict, total=False):
    __pydantic_config__ = _LOOSE  # type: ignore[misc]
    demo: bool
    counts: dict[str, Natural]
    pairs_from: str
    quality: dict[str, _Quality]
    diagnosis: dict[str, Any] | None
    tokens: dict[str, Any] | None
    defects: list[str]
    notes: list[str]
    versions: dict[str, str]
    commit: str


class _Task(TypedDict, total=False):
    __pydantic_config__ = _LOOSE  # type: ignore[misc]
    code: str
    prompts: dict[str, str]
    missing_targets: Natural
    unanswerable_queries: Natural
    note: str
    split: str | None


class _Manifest(TypedDict):
    __pydantic_config__ = _CLOSED  # type: ignore[misc]
    digest: NotRequired[str]  # none in schema 1
    schema: int
    config: _Config
    files: dict[Inside, _FileFacts]
    facts: _Facts
    tasks: dict[Plain, _Task]
    created: str


class _Derived(TypedDict):
    __pydantic_config__ = _CLOSED  # type: ignore[misc]
    digest: str
    of: str
    folder: Annotated[str, Field(pattern=r"^derived/[0-9a-f]{12}$")]
    files: dict[Inside, _FileFacts]
    versions: dict[str, int]
    created: str


_REQUIRED = {
    "config": ("backbone", "sae", "data", "prompts"),
    "config.backbone": ("key", "tap"),
    "config.data": ("name",),
}
_MANIFEST: TypeAdapter[Any] = TypeAdapter(_Manifest)
_DERIVED: TypeAdapter[Any] = TypeAdapter(_Derived)


def first_problem(error: ValidationError) -> tuple[str, str]:
    """(where, what) of the first thing whose type is wrong."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if part != "[key]") or "the whole"
    return place[:120], first["msg"]


def _typed(adapter: TypeAdapter[Any], raw: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        typed: dict[str, Any] = adapter.validate_python(raw)
    except ValidationError as error:
        place, problem = first_problem(error)
        raise StoreError(
            f"{where} lacks a part of the contract: {place} ({problem}); copy the store again, or run its build again."
        ) from error
    if adapter is _MANIFEST:
        for place, names in _REQUIRED.items():
            part: Any = typed
            for step in place.split("."):
                part = part[step]
            for name in names:
                if name not in part:
                    raise StoreError(
                        f"{where} lacks a part of the contract: {place}.{name}; copy the store again, or run its build again."
                    )
    return typed


def _file_facts(files: dict[str, Any]) -> dict[str, FileFacts]:
    return {
        name: FileFacts(
            f["bytes"], f["sha256"], None if f["shape"] is None else tuple(f["shape"]), f["dtype"]
        )
        for name, f in files.items()
    }  # fmt: skip


# --- text ---------------------------------------------------------------------------------------------------------
def _text(payload: dict[str, Any]) -> str:
    return json.dumps(payload, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _digest(payload: dict[str, Any]) -> str:
    return _sha256(_text({k: v for k, v in payload.items() if k != "digest"}))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sealed(payload: dict[str, Any]) -> str:
    return _text({**payload, "digest": _digest(payload)})


def _check_seal(raw: dict[str, Any], text: str, where: str) -> None:
    """The text must be letter by letter what was written: then no change of it, however small, passes unseen."""
    seal = f'\n "digest": {json.dumps(raw.get("digest"))},'  # only the outermost names have one space before them
    unsealed = text.replace(seal, "", 1)  # what was digested
    if text != _text(raw) or unsealed == text or _sha256(unsealed) != raw["digest"]:
        remedy = (
            "`.venv/bin/python -m analysis rescore` of the store writes it anew"
            if where.endswith(DERIVED)
            else "copy the store again, or run its build again"
        )
        raise StoreError(f"{where} was altered after it was written (its digest does not fit): {remedy}.")


def _parsed(text: str, where: str) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        raw = json.loads(text, parse_constant=refuse)
        if not isinstance(raw, dict):
            raise ValueError(f"a JSON {type(raw).__name__}")
        _text(raw)  # a lone surrogate or a number too large to print has no canonical text
        json.dumps(raw, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        kind = "manifest of derived tables" if where.endswith(DERIVED) else "store manifest"
        raise StoreError(
            f"{where} is not a {kind} ({error}); expected the JSON that `build` writes: copy the store again, or run its "
            "build again."
        ) from error
    return raw


__all__ = ["DERIVED", "MANIFEST", "Derived", "FileFacts", "Manifest", "split_schema_1"]
