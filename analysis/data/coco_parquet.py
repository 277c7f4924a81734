"""Tables of pictures and captions as the hub stores them: parquet shards (lmms-lab/COCO-Caption and its kind), and folders
that `datasets.save_to_disk` wrote. One row is one picture with its captions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.data.arrow import ArrowShard, find_arrow, open_arrow
from analysis.data.columns import ANSWER, CAPTION, FILE, captions_in, column_of
from analysis.data.defects import Defects, printable
from analysis.data.disk import clean_text, identifier
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.parquet import Shard, find_shards, open_shards
from analysis.data.samples import PairSet, Picture
from analysis.data.splits import chosen_splits, split_of_file
from analysis.errors import DataError

ID_COLUMNS = ("id", "question_id", "image_id", "img_id", "cocoid", "imgid", "file_name", "filename")
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

    The split is what a row's own column `split` says, else what stands before "-00000-of-00013" in a shard's name, else the
    word for a split in the name or its folder. Loading reads every column but the pictures; those are fetched row by row
    when a sample is decoded. Raises DataError when no pair is left.
    """
    root = path.parent if path.is_file() else path
    files = {file: split_of_file(file, root) for file in find_pair_shards(path)}
    defects = Defects()
    shards = open_shards(list(files), defects)
    return _load(_name_of(path), [(shard, files[shard.path]) for shard in shards], split, defects, limit, seed, check)


def load_saved(
    path: Path, *, split: str | None = None, limit: int | None = None, seed: int = 0, check: bool = False
) -> PairSet:
    """Pairs of a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote. Its splits are the folders of the
    dictionary. Raises DataError where rows were chosen without being written, or no pair is left."""
    defects = Defects()
    shards = open_arrow(find_arrow(path), defects)
    return _load(path.name, [(shard, shard.split) for shard in shards], split, defects, limit, seed, check)


def _load(
    name: str,
    shards: Sequence[tuple[Shard | ArrowShard, str]],
    asked: str | None,
    defects: Defects,
    limit: int | None,
    seed: int,
    check: bool,
) -> PairSet:
    for shard, _ in shards:
        if shard.picture not in shard.columns or _caption_column(shard) is None:
            raise DataError(
                f"{shard.path.name} has the columns {', '.join(sorted(shard.columns))}; expected image and answer (or "
                "caption, text)."
            )
    by_row = any("split" in shard.columns for shard, _ in shards)
    wanted = None
    if not by_row and shards:
        wanted = chosen_splits(dict.fromkeys(split for _, split in shards), asked, name)
        shards = [(shard, split) for shard, split in shards if split in wanted]
    elif asked is not None and shards:
        wanted = chosen_splits(
            dict.fromkeys(s for shard, split in shards for s in _row_splits(shard, split)), asked, name
        )
    groups = _joined([group for shard, split in shards for group in _groups(shard, split, wanted, defects)], defects)
    revision: Iterable[str | bytes] = [part for shard, _ in shards for part in (shard.path.name, shard.footer)]
    return build_pairs(name, groups, defects=defects, revision=revision, limit=limit, seed=seed, check=check)


def _groups(
    shard: Shard | ArrowShard,
    of_file: str,
    wanted: Sequence[str] | None,
    defects: Defects,
) -> Iterator[PairGroup]:
    caption = _caption_column(shard)
    assert caption is not None
    named = next((column for column in FILE if column in shard.columns and column != shard.picture), "file_name")
    columns = (*ID_COLUMNS, caption, named, "license", "coco_url", "split")
    for number in range(shard.n_groups):
        rows = shard.read(number, tuple(dict.fromkeys(columns))).to_pylist()
        present = shard.has_picture(number).tolist()
        for position, (row, has_picture) in enumerate(zip(rows, present, strict=True)):
            split = row["split"] if isinstance(row.get("split"), str) else of_file
            if wanted is not None and split not in wanted:
                continue
            image_id = _identifier(row, f"{shard.path.stem}:{number}:{position}")
            if not has_picture:
                defects.add("picture missing", image_id)
                continue
            name = printable(row.get(named) or image_id)
            yield PairGroup(
                image_id,
                Picture(read=shard.cell(number, position), name=name),
                _captions(row[caption], image_id, defects),
                split,
                row.get("coco_url") or name,
                LICENCES.get(row.get("license"), str(row.get("license") or "")),
            )


def _joined(groups: Sequence[PairGroup], defects: Defects) -> list[PairGroup]:
    """One group an image: tables that have a row a caption name the image in each."""
    found: dict[tuple[str, str], PairGroup] = {}
    for group in groups:
        key = (group.split, group.image_id)
        first = found.setdefault(key, group)
        if first is group:
            continue
        known = {text for _, text in first.captions}
        new = [text for _, text in group.captions if text not in known]
        if not new:
            defects.add("duplicate image id", group.image_id)
            continue
        defects.add("row of an image that has one already (its captions joined)", group.image_id)
        numbered = enumerate([*(text for _, text in first.captions), *new])
        found[key] = replace(first, captions=[(str(number), text) for number, text in numbered])
    return list(found.values())


def _captions(answer: Any, image_id: str, defects: Defects) -> list[tuple[str, str]]:
    """(position, text) of the captions that say something; `answer` is a list or a single string."""
    captions = []
    for position, value in enumerate(captions_in(answer)):
        where = f"{position} of image {image_id}"
        if text := clean_text(value, defects, where):
            captions.append((str(position), text))
        else:
            defects.add("empty caption", where)
    return captions


def _caption_column(shard: Shard | ArrowShard) -> str | None:
    return ANSWER[0] if ANSWER[0] in shard.columns else column_of(shard.columns, CAPTION, shard.path.name)


def _row_splits(shard: Shard | ArrowShard, of_file: str) -> set[str]:
    """The splits of a shard's rows."""
    if "split" not in shard.columns:
        return {of_file}
    told = [value for group in range(shard.n_groups) for value in shard.read(group, ("split",))["split"].to_pylist()]
    return {value if isinstance(value, str) else of_file for value in told}


def _identifier(row: dict[str, Any], fallback: str) -> str:
    return next(filter(None, (identifier(row.get(key)) for key in ID_COLUMNS)), fallback)


def _name_of(path: Path) -> str:
    folder = path.parent if path.is_file() else path
    return folder.parent.name if folder.name == "data" else folder.name
