"""The cache contract in code: file names, columns, versions of derived tables and the key of a store. cache/README.md says
the same in words; the two change together with SCHEMA."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from analysis.concepts.scores import SCORES, score_names

SCHEMA = 2  # of manifest.json and of what it lists; an older one that can be read is brought up to date by `rescore`
OLDEST_SCHEMA = 1
MANIFEST = "manifest.json"
DERIVED = "derived.json"
IMPORTED = "imported embeddings"  # model_type of a store that no backbone made
SAMPLE_COLUMNS = (
    "sample_id", "pair_id", "modality", "text", "instruction", "thumb", "source", "split", "licence",
)  # fmt: skip
OTHER_CONCEPT_COLUMNS = ("bridge_partner", "map_x", "map_y", "name")  # beside one column a score
SECOND_COLUMNS = ("second_word", "second_model")  # "" where no second model was asked; tables made before lack them
BRIDGE_COLUMNS = ("image_concept", "text_concept", "coactivation", "cosine", "bridge", "null_quantile", "excess")
EFFECT_COLUMNS = ("task", "concept", "k", "base", "difference", "low", "high")
SIDES = ("queries", "candidates")
NO_PAIRS = "none"  # facts.pairs_from of a store without image-text pairs: bridges and attribution are then missing
EFFECTS = "effects.parquet"  # what the removal of each concept alone does to recall; only where it was measured
UNTRAINED = "untrained.parquet"  # scores of the SAE that training started from; only where a build kept it
PART_VERSIONS = {  # raised when the numbers change
    "bridges": 1, "effects": 1, "map": 1, "names": 2, "neighbours": 1, "results": 2, "second": 1, "untrained": 2,
}  # fmt: skip
_OF_SCHEMA_1 = (
    "energy", "energy_image", "energy_text", "modality_score", "frequency", "frequency_image", "frequency_text",
    "bridge_max", "bridge_diagonal", "bridge_off_diagonal", "bridge_abs_sum", "attribution", "attribution_image",
    "attribution_text",
)  # fmt: skip


def concept_columns() -> tuple[str, ...]:
    """Columns of concepts.parquet: the scores, then the rest."""
    return (*score_names(), *OTHER_CONCEPT_COLUMNS, *SECOND_COLUMNS)


def is_derived(name: str) -> bool:
    """Follows from codes, embeddings and dictionary, and is computed again by `rescore`."""
    tables = ("concepts.parquet", "bridges.parquet", "neighbours.npy", EFFECTS, UNTRAINED)
    return name in tables or (name.startswith("retrieval/") and name.endswith("/results.parquet"))


def current_versions() -> dict[str, int]:
    """Part of the derived tables -> its version in this code. Each score is a part of its own."""
    return {**{f"score {name}": score.version for name, score in SCORES.items()}, **PART_VERSIONS}


def versions_of_schema_1() -> dict[str, int]:
    parts = ("bridges", "map", "names", "neighbours", "results")
    return {**{f"score {name}": 1 for name in _OF_SCHEMA_1}, **dict.fromkeys(parts, 1)}


def store_key(config: dict[str, Any]) -> str:
    """12 hexadecimal digits that name a configuration: sha256 of its canonical JSON."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def shared_thumbs(dataset: str, sha256: str) -> str:
    """Where in the cache the thumbnails lie that all stores of a data set with these pictures read."""
    return "thumbs/" + re.sub(r"[^\w.-]", "_", f"{dataset[:100]}-{sha256[:12]}")


def folder_sha256(folder: Path) -> tuple[int, int, str]:
    """(files, bytes, hash) of a flat folder: one entry in the manifest however many thumbnails there are."""
    digest, total, count = hashlib.sha256(), 0, 0
    for path in sorted(folder.iterdir()):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
        total += path.stat().st_size
        count += 1
    return count, total, digest.hexdigest()
