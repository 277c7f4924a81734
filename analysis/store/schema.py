"""The cache contract in code: file names, columns, the manifest and the key of a store. cache/README.md says the same in
words; the two change together with SCHEMA."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from analysis.errors import StoreError

SCHEMA = 1
MANIFEST = "manifest.json"
IMPORTED = "imported embeddings"  # model_type of a store that no backbone made
SAMPLE_COLUMNS = (
    "sample_id", "pair_id", "modality", "text", "instruction", "thumb", "source", "split", "licence",
)  # fmt: skip
CONCEPT_COLUMNS = (
    "energy", "energy_image", "energy_text", "modality_score", "frequency", "frequency_image", "frequency_text",
    "bridge_max", "bridge_diagonal", "bridge_off_diagonal", "bridge_abs_sum", "bridge_partner",
    "attribution", "attribution_image", "attribution_text", "map_x", "map_y", "name",
)  # fmt: skip
BRIDGE_COLUMNS = ("image_concept", "text_concept", "coactivation", "cosine", "bridge", "null_quantile", "excess")
SIDES = ("queries", "candidates")
NO_PAIRS = "none"  # facts.pairs_from of a store without image-text pairs: bridges and attribution are then missing


@dataclass(frozen=True)
class FileFacts:
    """What the manifest promises about one file. `shape` and `dtype` are None for files that are no .npy array."""

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

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Manifest:
        try:
            raw = json.loads(text)
            schema = raw["schema"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{where} is not a store manifest ({error}); expected the JSON that `build` writes: rebuild the store."
            ) from error
        if schema != SCHEMA:
            raise StoreError(
                f"{where} has schema {schema}; this version reads schema {SCHEMA}: "
                "rebuild the store with `python -m analysis build`."
            )
        try:
            files = {
                name: FileFacts(**{**facts, "shape": tuple(facts["shape"]) if facts.get("shape") is not None else None})
                for name, facts in raw["files"].items()
            }
            return cls(raw["config"], files, raw.get("facts", {}), raw.get("tasks", {}), raw.get("created", ""), schema)
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{where} lacks a part of the contract ({error}): rebuild the store.") from error


def store_key(config: dict[str, Any]) -> str:
    """12 hexadecimal digits that name a configuration: sha256 of its canonical JSON."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def folder_sha256(folder: Path) -> tuple[int, int, str]:
    """(files, bytes, hash) of a flat folder: one entry in the manifest however many thumbnails there are."""
    digest, total, count = hashlib.sha256(), 0, 0
    for path in sorted(folder.iterdir()):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
        total += path.stat().st_size
        count += 1
    return count, total, digest.hexdigest()
