"""From a name or a path to data: which format lies there, its pairs, its retrieval tasks."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import analysis
from analysis.data import (
    arrow,
    coco_json,
    coco_parquet,
    folder,
    karpathy,
    mbeir_jsonl,
    mbeir_layout,
    mbeir_parquet,
    webdataset,
)
from analysis.data.names import is_picture, listing, subfolders
from analysis.data.retrieval import pairs_as_retrieval
from analysis.data.samples import TASKS, PairSet, RetrievalSet
from analysis.errors import DataError

log = logging.getLogger(__name__)
CACHE = Path(analysis.CACHE)
# Datasets that a command of ours builds: name -> (folder below the cache, that command).
BUILT = {"emoji-scenes": ("datasets/emoji-scenes", ".venv/bin/python -m analysis demo")}
# Format -> (what finds its files in a path, what loads them), in the order in which they are tried.
PAIR_FORMATS = {
    "Karpathy JSON": (karpathy.find_karpathy, karpathy.load_karpathy),
    "COCO captions JSON": (coco_json.find_annotations, coco_json.load_coco_json),
    "COCO-Caption parquet": (coco_parquet.find_pair_shards, coco_parquet.load_coco_parquet),
    "save_to_disk folder": (arrow.find_arrow, coco_parquet.load_saved),
    "WebDataset": (webdataset.find_tars, webdataset.load_tars),
    "plain folder": (folder.find_tables, folder.load_folder),
}
EXPECTED = (
    "annotations/captions_*.json or dataset_*.json with pictures, *.parquet with image and answer, a save_to_disk folder, "
    "WebDataset *.tar, captions.csv or captions.jsonl with pictures, or M-BEIR tasks"
)


@dataclass(frozen=True)
class TaskPlace:
    """A retrieval task on disk. `path` alone finds it again: a folder of parquet shards or an M-BEIR query file."""

    name: str  # "mbeir_cirr_task7"
    task: str  # "it2i"; empty where only loading tells
    path: Path
    layout: str  # "parquet" | "jsonl"


def load_pairs(
    name_or_path: str | Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    check: bool = False,
    cache: Path = CACHE,
) -> PairSet:
    """Image-caption pairs of a known name ("emoji-scenes") or of a path in any of PAIR_FORMATS.

    `limit` picks whole pictures with their captions (see pairs.build_pairs), `check` also verifies picture headers.
    Raises DataError in one sentence where nothing usable is found.
    """
    path = resolve(name_or_path, cache=cache)
    found = pair_format(path)
    if found is None:
        raise DataError(_nothing_found(path))
    try:
        return PAIR_FORMATS[found][1](path, split=split, limit=limit, seed=seed, check=check)
    except DataError as error:
        packed = _packed(path) if "picture missing" in str(error) else []
        if packed:
            raise DataError(f"{error} {packed[0]} lies there packed: unpack it.") from error
        raise


def load_retrieval(
    name_or_path: str | Path,
    *,
    task: str | None = None,
    split: str | None = None,
    pool: str = "local",
    limit_queries: int | None = None,
    seed: int = 0,
    check: bool = False,
    cache: Path = CACHE,
) -> RetrievalSet:
    """One retrieval task: of a task folder, a query file, or a dataset that holds several.

    `task` is a code ("it2i") or a task's name ("mbeir_cirr_task7"); it may be left out where there is one task only.
    i2t and t2i are also made from image-caption pairs. `split` and `pool` ("local", "global") concern M-BEIR as
    published. Raises DataError where the task is not there or not the only one of that code.
    """
    path = resolve(name_or_path, cache=cache)
    places = find_retrieval_tasks(path)
    chosen = [place for place in places if task is None or task in (place.task, place.name)]
    if not chosen and task in ("i2t", "t2i") and pair_format(path) is not None:
        pairs = load_pairs(path, split=split, limit=None, seed=seed, check=check)
        return pairs_as_retrieval(pairs, task, limit_queries=limit_queries, seed=seed)
    if len(chosen) != 1:
        raise DataError(_which_task(path, task, places, chosen))
    place = chosen[0]
    if place.layout == "parquet":
        return mbeir_parquet.load_mbeir_parquet(place.path, limit_queries=limit_queries, seed=seed, check=check)
    layout = mbeir_layout.layout_of(place.path, split=split, pool=pool)
    return mbeir_jsonl.load_mbeir_jsonl(layout, limit_queries=limit_queries, seed=seed, check=check)


def find_retrieval_tasks(name_or_path: str | Path, *, cache: Path = CACHE) -> list[TaskPlace]:
    """M-BEIR tasks in a path and the two levels of folders below it; empty where there are none. i2t and t2i that
    follow from image-caption pairs are not listed."""
    path = resolve(name_or_path, cache=cache)
    if path.is_file():
        return [_jsonl_place(path)] if path.suffix == ".jsonl" and path.parent.parent.name == "query" else []
    places: list[TaskPlace] = []
    for place in _folders(path, depth=2):
        if mbeir_parquet.is_task_folder(place):
            places.append(TaskPlace(place.name, mbeir_parquet.peek_task(place), place, "parquet"))
        elif (place / "query").is_dir() and (place / "cand_pool").is_dir():
            places += [_jsonl_place(file) for file in mbeir_layout.find_query_files(place)]
    return places


def pair_format(path: Path) -> str | None:
    """The name of the pair format that lies in a path, or None."""
    return next((name for name, (find, _) in PAIR_FORMATS.items() if find(path)), None)


def resolve(name_or_path: str | Path, *, cache: Path = CACHE) -> Path:
    """The absolute path of a known name or an existing path. Raises DataError with the nearest known name."""
    name = str(name_or_path).strip()
    if not name:
        raise DataError("The dataset's name is empty; expected a known name or the path of a folder.")
    known = {folder.name: folder for folder in subfolders(cache / "datasets")}
    known |= {name: cache / below for name, (below, _) in BUILT.items()}
    if name in known and known[name].is_dir():
        return Path(os.path.abspath(known[name]))
    path = os.path.abspath(os.path.expanduser(name))
    if os.path.exists(path):
        return Path(path)
    if name in BUILT:
        raise DataError(f"{name} is not built yet: run `{BUILT[name][1]}`.")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known names are {', '.join(sorted(known))}."
    raise DataError(f"{name!r} is neither a file or folder nor a known dataset; {hint}")


def _jsonl_place(query_file: Path) -> TaskPlace:
    layout = mbeir_layout.layout_of(query_file)
    return TaskPlace(layout.name, mbeir_jsonl.peek_task(layout), query_file, "jsonl")


def _folders(path: Path, depth: int) -> Iterator[Path]:
    """The folder and those below it. One that may not be opened is passed over, and said."""
    yield path
    for below in subfolders(path) if depth else ():
        if os.access(below, os.R_OK | os.X_OK):
            yield from _folders(below, depth - 1)
        else:
            log.warning("%s may not be opened, so no tasks are looked for in it.", below.name)


def _nothing_found(path: Path) -> str:
    if path.is_file():
        return f"{path.name} is no caption file; expected captions_*.json, a parquet shard, captions.csv or .jsonl."
    if find_retrieval_tasks(path):
        return f"{path.name} holds retrieval tasks but no image-caption pairs; expected {EXPECTED}."
    names = listing(path)
    tables = sorted(
        name for name in names if Path(name).suffix.lower() in folder.SUFFIXES and "readme" not in name.lower()
    )
    if tables:
        return (
            f"{path.name} holds {', '.join(tables[:3])}{' ...' if len(tables) > 3 else ''}, which may be its captions and is "
            f"not called as such; give the file, {path / tables[0]}, or call it captions{Path(tables[0]).suffix.lower()}."
        )
    if packed := _packed(path):
        return f"{path.name} holds {packed[0]}, which is packed; unpack it there first."
    inside = [below for below in subfolders(path) if os.access(below, os.R_OK | os.X_OK)]
    if readable := [below for below in inside if pair_format(below)]:
        return f"{path.name} holds no data set itself, its folder {readable[0].name} does; give {readable[0]}."
    pictures = sum(map(is_picture, names))
    shown = next((place for place in _folders(path, depth=2) if any(map(is_picture, listing(place)))), path)
    if shown != path:
        return (
            f"{path.name} holds pictures (in {shown.relative_to(path)}) but no table of captions; add captions.csv with the "
            "columns file, caption."
        )
    if pictures:
        return (
            f"{path.name} holds {pictures} pictures but no captions; add captions.csv with the columns file, caption."
        )
    return f"{path.name} holds no dataset that can be read; expected {EXPECTED}."


def _packed(path: Path) -> list[str]:
    """Archives in a folder and in its annotations, by name."""
    places = (path, path / "annotations") if path.is_dir() else (path.parent,)
    ends = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
    return [name for place in places for name in sorted(listing(place)) if name.lower().endswith(ends)]


def _which_task(path: Path, task: str | None, places: list[TaskPlace], chosen: list[TaskPlace]) -> str:
    names = ", ".join(f"{place.name} ({place.task})" for place in chosen or places)
    if chosen:
        return f"{path.name} holds {len(chosen)} tasks that fit: {names}; name one of them."
    if task is not None and task not in TASKS and task not in {place.name for place in places}:
        near = difflib.get_close_matches(task, [*TASKS, *(place.name for place in places)], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(TASKS)}."
        return f"{task!r} is no retrieval task; {hint}"
    if places:
        return f"{path.name} holds no {task} task, only {names}."
    return f"{path.name} holds no retrieval task; expected folders with query-, corpus- and qrels- parquet, or M-BEIR."
