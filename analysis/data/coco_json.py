"""COCO captions as published: annotations/captions_*.json and folders of pictures.

Several annotation files may lie side by side; files of one split (captions_val2017.json, captions_val2017_full.json,
both over val2017/) are merged, and each may name pictures that are not on disk or leave out some that are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.data.disk import clean_text, file_digest, listing, picture_names, read_json, subfolders
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.samples import Defects, PairSet, Picture
from analysis.errors import DataError

PREFIX = "captions_"


def find_annotations(path: Path) -> list[Path]:
    """Caption annotation files of a dataset folder, or the file itself."""
    if path.is_file():
        return [path] if path.suffix == ".json" else []
    return sorted([*path.glob(f"annotations/{PREFIX}*.json"), *path.glob(f"{PREFIX}*.json")])


def load_coco_json(
    path: Path, *, split: str | None = None, limit: int | None = None, seed: int = 0, check: bool = False
) -> PairSet:
    """Pairs of a COCO captions folder or of one annotation file.

    A file's split is the picture folder that its name starts with, else its name behind "captions_". `split` may leave
    out the year ("val" means val2017); None takes all. Pictures are looked for in <split>/, images/<split>/, images/,
    beside the annotations and in the folder itself. Raises DataError when no pair is left or the split is unknown.
    """
    files = find_annotations(path)
    root = path if path.is_dir() else _root_of(path)
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file, root), []).append(file)
    wanted = [name for name in by_split if split is None or name == split or name.rstrip("0123456789") == split]
    if not wanted:
        raise DataError(
            f"{root.name} has no split {split!r}; its caption files are of {', '.join(by_split) or 'none'}."
        )
    defects = Defects()
    revision: list[str | bytes] = []
    groups: list[PairGroup] = []
    for name in wanted:
        table = _Table()
        for file in by_split[name]:
            revision += [file.name, file_digest(file)]
            table.read(file, defects)
        shelf = _Shelf(root, name, files[0].parent)
        groups += _groups(name, table, shelf, defects, revision)
        for unnamed in sorted(shelf.own_pictures() - table.file_names()):
            defects.add("picture without a caption", unnamed)
    return build_pairs(root.name, groups, defects=defects, revision=revision, limit=limit, seed=seed, check=check)


@dataclass
class _Table:
    """The images and captions of one split, merged over its files."""

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    captions: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # image id -> (caption id, text)
    licences: dict[Any, str] = field(default_factory=dict)
    known: dict[Any, str] = field(default_factory=dict)  # caption id -> text, over all files read so far

    def read(self, path: Path, defects: Defects) -> None:
        content = read_json(path)
        if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
            raise DataError(f"{path.name} lacks 'images' or 'annotations'; expected a COCO captions file.")
        images = _records(content["images"], "image", defects)
        annotations = _records(content["annotations"], "annotation", defects)
        if annotations and not any("caption" in annotation for annotation in annotations[:10]):
            raise DataError(f"{path.name} holds annotations without captions; expected captions_*.json, not instances.")
        for licence in _records(content.get("licenses", []), "licence", defects):
            text = " ".join(filter(None, (licence.get("name", ""), licence.get("url", ""))))
            self.licences.setdefault(licence.get("id"), text)
        self._add_images(images, defects)
        self._add_captions(annotations, defects)

    def _add_images(self, images: list[dict[str, Any]], defects: Defects) -> None:
        own: set[str] = set()
        for image in images:
            image_id = str(image.get("id"))
            if image_id in own:
                defects.add("duplicate image id", image_id)
            elif not image.get("file_name"):
                defects.add("image without a file name", image_id)
            else:
                self.images.setdefault(image_id, image)
            own.add(image_id)

    def _add_captions(self, annotations: list[dict[str, Any]], defects: Defects) -> None:
        own: set[Any] = set()
        for annotation in annotations:
            image_id, text = str(annotation.get("image_id")), clean_text(annotation.get("caption"))
            captions = self.captions.setdefault(image_id, [])
            key = annotation.get("id", (image_id, text))
            caption_id = str(annotation.get("id", len(captions)))
            where = f"{caption_id} of image {image_id}"
            if key in own or self.known.get(key, text) != text:
                defects.add("duplicate caption id", where)
            elif key in self.known:
                pass  # another file of this split says the same
            elif image_id not in self.images:
                defects.add("caption of an unknown image id", where)
            elif not text:
                defects.add("empty caption", where)
            else:
                captions.append((caption_id, text))
            own.add(key)
            self.known.setdefault(key, text)

    def file_names(self) -> set[str]:
        return {Path(image["file_name"]).name for image in self.images.values()}


class _Shelf:
    """Where the pictures of one split lie: file name -> path and size, from one listing per folder."""

    def __init__(self, root: Path, split: str, beside: Path) -> None:
        self.root = root
        self.own = next((f for f in (root / split, root / "images" / split) if split and f.is_dir()), None)
        self.folders = [f for f in (self.own, root / "images", beside, root) if f is not None]
        self.listings = {folder: listing(folder) for folder in self.folders}

    def find(self, file_name: str) -> tuple[Path, int] | None:
        """Path and size, or None. A name with folders in it counts from the root or from images/."""
        for folder in self.folders:
            size = self.listings[folder].get(file_name)
            if size is not None:
                return folder / file_name, size
        if "/" in file_name:
            for path in (self.root / file_name, self.root / "images" / file_name):
                if path.is_file():
                    return path, path.stat().st_size
        return None

    def own_pictures(self) -> set[str]:
        """Pictures of the folder that belongs to this split alone; empty where splits share a folder."""
        return picture_names(self.listings[self.own]) if self.own else set()


def _groups(
    split: str, table: _Table, shelf: _Shelf, defects: Defects, revision: list[str | bytes]
) -> Iterator[PairGroup]:
    for image_id, image in table.images.items():
        file_name = str(image["file_name"])
        found = shelf.find(file_name)
        if found is None:
            defects.add("picture missing", file_name)
            continue
        path, size = found
        revision.append(f"{file_name} {size}")
        if size == 0:
            defects.add("picture of 0 bytes", file_name)
            continue
        yield PairGroup(
            image_id,
            Picture(path=path),
            table.captions.get(image_id, ()),
            split,
            image.get("coco_url") or image.get("flickr_url") or file_name,
            table.licences.get(image.get("license"), ""),
        )


def _records(values: Any, kind: str, defects: Defects) -> list[dict[str, Any]]:
    """The dicts of a list; anything else in it is a defect."""
    if not isinstance(values, list):
        raise DataError(f"The {kind} table is a {type(values).__name__}; expected a list as in COCO captions.")
    kept = [value for value in values if isinstance(value, dict)]
    if len(kept) < len(values):
        defects.add(f"malformed {kind}", next(v for v in values if not isinstance(v, dict)), len(values) - len(kept))
    return kept


def _root_of(annotations: Path) -> Path:
    folder = annotations.resolve().parent
    return folder.parent if folder.name == "annotations" else folder


def _split_of(annotations: Path, root: Path) -> str:
    label = annotations.stem.removeprefix(PREFIX)
    folders = [*subfolders(root), *subfolders(root / "images")]
    owners = [folder.name for folder in folders if label.startswith(folder.name)]
    return max(owners, key=len, default=label)
