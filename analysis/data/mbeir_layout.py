"""Which files of M-BEIR as published (UniIR) belong to one task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.data.names import files_of
from analysis.data.tasks import CANDIDATE_POOLS
from analysis.errors import DataError

SPLITS = ("test", "val", "train")  # in the order in which one is preferred


@dataclass(frozen=True)
class Layout:
    """The files of one task. `pool` is "local" or "global"; `qrels` None means the query file's own positives."""

    root: Path
    name: str  # "mbeir_cirr_task7"
    split: str
    queries: Path
    candidates: Path
    qrels: Path | None
    pool: str


def find_query_files(root: Path) -> list[Path]:
    """Query files of an M-BEIR root, of one split a task: test before val before train."""
    files: dict[str, Path] = {}
    for split in SPLITS:
        for file in files_of(root / "query" / split, suffix=".jsonl"):
            files.setdefault(_name_and_split(file)[0], file)
    return [files[name] for name in sorted(files)]


def layout_of(query_file: Path, *, split: str | None = None, pool: str = "local") -> Layout:
    """The files that belong to a query file. `split` asks for another split of the same task. Where the pool asked for
    is absent the other one is used. Raises DataError where a file is missing."""
    if pool not in CANDIDATE_POOLS:
        raise DataError(f"pool is {pool!r}; expected local (the task's own candidates) or global (the union of all).")
    name, found_split = _name_and_split(query_file)
    root = next((parent.parent for parent in query_file.absolute().parents if parent.name == "query"), None)
    if root is None:
        raise DataError(f"{query_file.name} does not lie under query/; expected the folders of M-BEIR as published.")
    if split is not None and split != found_split:
        other = root / "query" / split / f"{name}_{split}.jsonl"
        if not other.is_file():
            raise DataError(f"{name} has no split {split!r}: query/{split}/{other.name} is missing.")
        query_file, found_split = other, split
    pools = {
        "local": (f"{name}_{found_split}_cand_pool.jsonl", f"{name}_cand_pool.jsonl"),
        "global": (f"mbeir_union_{found_split}_cand_pool.jsonl",),
    }
    for kind in (pool, *(other for other in CANDIDATE_POOLS if other != pool)):
        candidates = next((f for f in (root / "cand_pool" / kind / n for n in pools[kind]) if f.is_file()), None)
        if candidates is not None:
            qrels = root / "qrels" / found_split / f"{name}_{found_split}_qrels.txt"
            found_qrels = qrels if qrels.is_file() else None
            return Layout(root, name, found_split, query_file, candidates, found_qrels, kind)
    raise DataError(f"{name} has no candidate pool; expected cand_pool/local/{pools['local'][1]}.")


def _name_and_split(query_file: Path) -> tuple[str, str]:
    split = query_file.parent.name
    return query_file.stem.removesuffix(f"_{split}"), split
