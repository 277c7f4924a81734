"""COCO captions as parquet shards (lmms-lab/COCO-Caption): one row is one picture with its captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.data.disk import clean_text
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.parquet import PictureCell, Shard, find_shards, open_shards
from analysis.data.samples import Defects, PairSet, Picture
from analysis.errors import DataError

COLUMNS = ("question_id", "answer", "file_name", "id", "license", "coco_url")  # all but the pictures
# The `licenses` table of the COCO annotation files, to which the column `license` refers.
LICENCES = {
    1: "CC BY-NC-SA 2.0",
    2: "CC BY-NC 2.0",
    3: "CC BY-NC-ND 2.0",
    4: "CC BY 2.0",
    5: "CC BY-SA 2.0",
    6: "CC BY-ND 2.0",
    7: "No known copyright restrictions",
    8: "United States Government Work",
}


def find_pair_shards(path: Path) -> list[Path]:
    """Parquet shards that hold captions: a file, or those of a folder or its data/ folder. Retrieval shards
    (query-, corpus-, qrels-) are not among them."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return [file for file in find_shards(path) if not file.name.startswith(("query", "queries", "corpus", "qrels"))]


def load_coco_parquet(
    path: Path, *, split: str | None = None, limit: int | None = None, seed: int = 0, check: bool = False
) -> PairSet:
    """Pairs of a folder of shards or of one shard.

    The split is what stands before "-00000-of-00013" in a shard's name. Loading reads every column but the pictures;
    those are fetched row by row when a sample is decoded. Raises DataError when no pair is left.
    """
    files = find_pair_shards(path)
    splits = sorted({_split_of(file) for file in files})
    files = [file for file in files if split is None or _split_of(file) == split]
    if not files:
        raise DataError(f"{path.name} has no shards of split {split!r}; found {', '.join(splits) or 'none'}.")
    defects = Defects()
    shards = open_shards(files, defects)
    for shard in shards:
        if not {"image", "answer"} <= shard.columns:
            raise DataError(
                f"{shard.path.name} has the columns {', '.join(sorted(shard.columns))}; expected image and answer."
            )
    seen: set[tuple[str, str]] = set()
    groups = (group for shard in shards for group in _groups(shard, seen, defects))
    revision = [part for shard in shards for part in (shard.path.name, shard.footer)]
    name = _name_of(path)
    return build_pairs(name, groups, defects=defects, revision=revision, limit=limit, seed=seed, check=check)


def _groups(shard: Shard, seen: set[tuple[str, str]], defects: Defects) -> Iterator[PairGroup]:
    split = _split_of(shard.path)
    for number in range(shard.n_groups):
        rows = shard.read(number, COLUMNS).to_pylist()
        present = shard.has_picture(number).tolist()
        for position, (row, has_picture) in enumerate(zip(rows, present, strict=True)):
            image_id = _identifier(row, f"{shard.path.stem}:{number}:{position}")
            if (split, image_id) in seen:
                defects.add("duplicate image id", image_id)
                continue
            seen.add((split, image_id))
            if not has_picture:
                defects.add("picture missing", image_id)
                continue
            name = str(row.get("file_name") or image_id)
            yield PairGroup(
                image_id,
                Picture(read=PictureCell(str(shard.path), number, position), name=name),
                _captions(row["answer"], image_id, defects),
                split,
                row.get("coco_url") or name,
                LICENCES.get(row.get("license"), str(row.get("license") or "")),
            )


def _captions(answer: Any, image_id: str, defects: Defects) -> list[tuple[str, str]]:
    """(position, text) of the captions that say something; `answer` is a list or a single string."""
    values = answer if isinstance(answer, list) else [answer]
    captions = [(str(position), clean_text(value)) for position, value in enumerate(values)]
    for position, text in captions:
        if not text:
            defects.add("empty caption", f"{position} of image {image_id}")
    return [caption for caption in captions if caption[1]]


def _identifier(row: dict[str, Any], fallback: str) -> str:
    value = next((row[key] for key in ("id", "question_id", "file_name") if row.get(key) is not None), fallback)
    return str(value)


def _split_of(path: Path) -> str:
    name, separator, _ = path.stem.partition("-")
    return name if separator else ""


def _name_of(path: Path) -> str:
    folder = path.parent if path.is_file() else path
    return folder.parent.name if folder.name == "data" else folder.name
