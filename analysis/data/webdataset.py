"""WebDataset shards: plain tar files in which the members of one sample share a name and differ in what follows its first
dot ("000012.jpg", "000012.txt"). Read in place: one pass over the headers, then pictures by their offset."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.data.columns import CAPTION, captions_in, column_of
from analysis.data.defects import Defects, printable
from analysis.data.disk import clean_text, head_of, lfs_pointer
from analysis.data.names import files_of, is_litter, is_picture, subfolders
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.samples import PairSet, Picture
from analysis.data.splits import canonical, chosen_splits, split_of_file
from analysis.errors import DataError

TEXTS = ("txt", "text", "caption", "captions")
_PACKED = re.compile(r"\.(tar\.(gz|bz2|xz|zst)|tgz)$")


@dataclass(frozen=True, slots=True)
class TarCell:
    """Bytes of one member of a tar file, read on call; picklable."""

    path: str
    offset: int
    size: int

    def __call__(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise DataError(
                f"{Path(self.path).name} could not be read ({error.strerror or error}); check the dataset folder."
            ) from error
        if len(data) < self.size:
            raise DataError(f"{Path(self.path).name} is shorter than it was; download the shard again.")
        return data


@dataclass
class _Sample:
    """What the members of one name hold: the picture, and texts by the end of their name."""

    picture: TarCell | None = None
    picture_name: str = ""
    texts: dict[str, TarCell] = field(default_factory=dict)


def find_tars(path: Path) -> list[Path]:
    """Tar shards: a file, those of a folder, or of its folders that are called after a split."""
    if path.is_file():
        return [path] if path.suffix == ".tar" or _PACKED.search(path.name) else []
    found = [file for end in (".tar", ".tar.gz", ".tgz", ".tar.zst") for file in files_of(path, suffix=end)]
    named = [folder for folder in subfolders(path) if canonical(folder.name)] if path.is_dir() and not found else []
    return sorted(found or (file for folder in named for file in files_of(folder, suffix=".tar")))


def load_tars(
    path: Path, *, split: str | None = None, limit: int | None = None, seed: int = 0, check: bool = False
) -> PairSet:
    """Pairs of WebDataset shards. An image id is "shard/name"; its captions are the members .txt or .caption (one), or the
    caption or text inside .json. The split is the word for one in the shard's name or folder. Raises DataError for
    compressed shards, in which nothing can be looked up, and where no pair is left."""
    root = path.parent if path.is_file() else path
    files = find_tars(path)
    packed = [file.name for file in files if _PACKED.search(file.name)]
    if packed:
        raise DataError(
            f"{packed[0]} is compressed, so no picture can be looked up in it; unpack it to a plain .tar first."
        )
    splits = {file: split_of_file(file, root) for file in files}
    wanted = chosen_splits(dict.fromkeys(splits.values()), split, root.name)
    defects = Defects()
    revision: list[str | bytes] = []
    groups = [
        group
        for file in files
        if splits[file] in wanted
        for group in _groups(file, file.relative_to(root).with_suffix("").as_posix(), splits[file], defects, revision)
    ]
    return build_pairs(root.name, groups, defects=defects, revision=revision, limit=limit, seed=seed, check=check)


def _groups(path: Path, shard: str, split: str, defects: Defects, revision: list[str | bytes]) -> Iterator[PairGroup]:
    samples = _samples(path, defects)
    revision += [shard, str(path.stat().st_size)]
    for key, sample in samples.items():
        name = f"{shard}/{printable(key.removeprefix('./'))}"
        cells = [sample.picture, *sample.texts.values()]
        revision.append(f"{name} {[(cell.offset, cell.size) for cell in cells if cell]}")
        if sample.picture is None:
            if sample.texts:
                defects.add("picture missing", name)
            continue
        if sample.picture.size == 0:
            defects.add("picture of 0 bytes", name)
            continue
        captions = list(_captions(sample, name, defects, revision))
        yield PairGroup(name, Picture(read=sample.picture, name=sample.picture_name), captions, split, source=name)


def _samples(path: Path, defects: Defects) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    where = path.name
    try:
        with tarfile.open(path, "r:", errorlevel=0) as tar:
            end = path.stat().st_size
            for member in tar:
                name = member.name.rpartition("/")[2]
                if not member.isfile() or is_litter(name) or name.startswith("."):
                    continue
                if member.offset_data + member.size > end:
                    defects.add("tar shard that is cut off", f"{where} in {printable(member.name)}")
                    break
                stem, _, ending = name.partition(".")
                key = member.name[: len(member.name) - len(name)] + stem
                _place(
                    samples.setdefault(key, _Sample()),
                    TarCell(str(path), member.offset_data, member.size),
                    name,
                    ending.lower(),
                    defects,
                )
    except (tarfile.TarError, OSError, EOFError) as error:
        pointer = lfs_pointer(head_of(path))
        kind = "tar shard that is a Git LFS pointer (run `git lfs pull`)" if pointer else "unreadable tar shard"
        defects.add(kind, f"{where} ({error})")
    return samples


def _place(sample: _Sample, cell: TarCell, name: str, ending: str, defects: Defects) -> None:
    if is_picture(name):
        if sample.picture is not None:
            defects.add("second picture of one name (the first is taken)", name)
        else:
            sample.picture, sample.picture_name = cell, printable(name)
    elif ending in TEXTS or ending == "json":
        sample.texts[ending] = cell


def _captions(sample: _Sample, name: str, defects: Defects, revision: list[str | bytes]) -> Iterator[tuple[str, str]]:
    """(number, text). A text member comes before JSON, which often repeats it."""
    ending = next((ending for ending in (*TEXTS, "json") if ending in sample.texts), None)
    if ending is None:
        return
    data = sample.texts[ending]()
    revision.append(data)
    values: list[Any] = [data.decode("utf-8", "replace")]
    if ending == "json":
        try:
            record = json.loads(data)
        except ValueError:
            defects.add("unreadable JSON in a tar shard", name)
            return
        column = column_of(record, CAPTION, name) if isinstance(record, dict) else None
        values = captions_in(record[column]) if column else [None]
    for number, value in enumerate(values):
        if text := clean_text(value, defects, name):
            yield str(number), text
        else:
            defects.add("empty caption", name)
