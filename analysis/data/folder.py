"""A plain folder: pictures and a table of captions with the columns file and caption, or what other tools call them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from analysis.data.columns import captions_in
from analysis.data.defects import Defects, printable
from analysis.data.disk import clean_text, fingerprint, read_bytes
from analysis.data.names import Finder, listing
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.samples import PairSet, Picture
from analysis.data.splits import chosen_splits
from analysis.data.tables import TableRow, read_table, without_number
from analysis.errors import DataError

# What a table of captions is called: ours, the hub's image folders, Flickr8k and Flickr30k.
TABLES = (
    "captions.csv", "captions.jsonl", "captions.tsv", "captions.json", "captions.txt", "metadata.csv", "metadata.jsonl",
    "results.csv", "flickr_annotations_30k.csv", "results_20130124.token", "Flickr8k.token.txt",
)  # fmt: skip
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".token", ".txt")
PICTURE_FOLDERS = ("images", "Images", "pictures", "flickr30k-images", "flickr30k_images", "Flicker8k_Dataset", "img")


def find_tables(path: Path) -> list[Path]:
    """The caption tables of a folder, or the file itself where it can be one."""
    if path.is_file():
        of_mbeir = path.parent.parent.name in ("query", "cand_pool", "qrels")
        return [path] if path.name in TABLES or (path.suffix.lower() in SUFFIXES and not of_mbeir) else []
    names = listing(path) if path.is_dir() else {}
    return [path / name for name in TABLES if name in names]


def load_folder(
    path: Path, *, split: str | None = None, limit: int | None = None, seed: int = 0, check: bool = False
) -> PairSet:
    """Pairs of a plain folder. File names count from the folder or from its images/ folder, and are the image ids;
    several lines may name one file, one cell may hold a list of captions. Such a folder has splits only where a column
    `split` says so: asking for another one raises DataError."""
    tables = find_tables(path)
    root = path.parent if path.is_file() else path
    defects = Defects()
    rows = [(table.name, row) for table in tables for row in read_table(table, defects)]
    splits = sorted({row.split for _, row in rows} - {""})
    if split is not None and not splits:
        raise DataError(f"{root.name} is a plain folder without splits, so it has no {split!r}; leave the split out.")
    wanted = chosen_splits(splits, split, root.name)
    finder = Finder([root, *(root / name for name in PICTURE_FOLDERS)], defects)
    named = _Named(finder, defects)
    named.add([(table, row) for table, row in rows if split is None or row.split in wanted])
    revision: list[str | bytes] = [fingerprint(read_bytes(table) for table in tables)]
    groups = list(named.groups(revision))
    if split is None or len(wanted) == len(splits):
        used = {picture.path for picture in named.pictures.values()}
        for folder in {path.parent for path, _ in named.files.values()} or {root}:
            for unnamed in sorted(finder.pictures(folder)):
                if folder / unnamed not in used:
                    defects.add("picture without a caption", unnamed)
    return build_pairs(root.name, groups, defects=defects, revision=revision, limit=limit, seed=seed, check=check)


@dataclass
class _Named:
    """The pictures that rows name, each with its captions. Two spellings of one file are one picture, which is called by
    the first of them."""

    finder: Finder
    defects: Defects
    files: dict[str, tuple[Path, int]] = field(default_factory=dict)
    pictures: dict[Path, _Entry] = field(default_factory=dict)

    def add(self, rows: list[tuple[str, TableRow]]) -> None:
        spelled = {row.file: self._spelled(row.file) for _, row in rows if row.file}
        self.files = self.finder.find_all(list(spelled.values()))
        for table, row in rows:
            where = f"{table} line {row.line}"
            if not row.file:
                self.defects.add("line without a file", where)
                continue
            name = spelled[row.file]
            if name not in self.files:
                continue  # counted as missing, once a picture
            path, size = self.files[name]
            entry = self.pictures.setdefault(path, _Entry(name.replace("\\", "/"), path, size, row.split))
            for caption in captions_in(row.caption):
                text = clean_text(caption, self.defects, where)
                if not text:
                    self.defects.add("empty caption", where)
                elif text in entry.captions:
                    self.defects.add("duplicate caption", where)
                else:
                    entry.captions.append(text)

    def _spelled(self, name: str) -> str:
        """The name without a caption's number behind it, unless a file is really called that."""
        bare = without_number(name)
        return name if bare == name or self.finder.find(name) is not None else bare

    def groups(self, revision: list[str | bytes]) -> Iterator[PairGroup]:
        for entry in self.pictures.values():
            name = printable(entry.name)
            revision.append(f"{name} {entry.size}")
            if entry.size == 0:
                self.defects.add("picture of 0 bytes", name)
                continue
            numbered = [(str(number), text) for number, text in enumerate(entry.captions)]
            yield PairGroup(name, Picture(path=entry.path, name=name), numbered, entry.split, source=name)


@dataclass
class _Entry:
    name: str
    path: Path
    size: int
    split: str
    captions: list[str] = field(default_factory=list)
