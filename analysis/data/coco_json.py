"""COCO captions as published: annotations/captions_*.json and folders of pictures.

Several annotation files may lie side by side; files of one split (captions_val2017.json, captions_val2017_full.json,
both over val2017/) are merged, and each may name pictures that are not on disk or leave out some that are. Ids are
compared as numbers where they are numbers: 7, 7.0, "7" and "000000000007" are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.data.columns import captions_in
from analysis.data.defects import Defects, printable
from analysis.data.disk import clean_text, file_digest, head_of, identifier, read_json
from analysis.data.names import Finder, files_of, subfolders
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.samples import PairSet, Picture
from analysis.data.splits import chosen_splits
from analysis.errors import DataError

PREFIX = "captions_"
FILE_KEYS = ("file_name", "filename", "file", "path", "coco_url", "flickr_url", "url")  # of an address its end


def find_annotations(path: Path) -> list[Path]:
    """Caption annotation files of a dataset folder, or the file itself."""
    if path.is_file():
        is_list = head_of(path).lstrip().startswith(b"[")  # a plain table of captions
        return [path] if path.suffix == ".json" and not is_list else []
    folders = (path / "annotations", path)
    return [file for folder in folders for file in files_of(folder, prefix=PREFIX, suffix=".json")]


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
    defects = Defects()
    revision: list[str | bytes] = []
    groups: list[PairGroup] = []
    for name in chosen_splits(by_split, split, root.name):
        table = _Table()
        for file in by_split[name]:
            revision += [file.name, file_digest(file)]
            table.read(file, defects)
        own = next((f for f in (root / name, root / "images" / name) if name and f.is_dir()), None)
        finder = Finder([f for f in (own, root / "images", files[0].parent, root) if f is not None], defects)
        found = finder.find_all([table.file_name(image) for image in table.images.values()])
        groups += _groups(name, table, found, defects, revision)
        if own is not None:  # where splits share a folder, no split can tell whose picture is left over
            used = {path.name for path, _ in found.values()}
            for unnamed in sorted(finder.pictures(own) - used):
                defects.add("picture without a caption", unnamed)
    return build_pairs(root.name, groups, defects=defects, revision=revision, limit=limit, seed=seed, check=check)


@dataclass
class _Table:
    """The images and captions of one split, merged over its files."""

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    captions: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # image id -> (caption id, text)
    licences: dict[str, str] = field(default_factory=dict)
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
            text = " ".join(str(licence[key]) for key in ("name", "url") if licence.get(key))
            self.licences.setdefault(identifier(licence.get("id")), text)
        self._add_images(images, defects)
        self._add_captions(annotations, defects)

    def _add_images(self, images: list[dict[str, Any]], defects: Defects) -> None:
        own: set[str] = set()
        for image in images:
            image_id = identifier(image.get("id"))
            if not image_id:
                defects.add("image without an id", self.file_name(image) or "?")
            elif image_id in own:
                defects.add("duplicate image id", image_id)
            elif not self.file_name(image):
                defects.add("image without a file name", image_id)
            else:
                self.images.setdefault(image_id, image)
            own.add(image_id)

    def _add_captions(self, annotations: list[dict[str, Any]], defects: Defects) -> None:
        own: set[Any] = set()
        for annotation, number, caption in _single(annotations):
            image_id = identifier(annotation.get("image_id"))
            captions = self.captions.setdefault(image_id, [])
            stated = identifier(annotation.get("id"))
            stated += f".{number}" if stated and number else ""
            where = f"{stated or len(captions)} of image {image_id}"
            text = clean_text(caption, defects, where)
            key = stated or (image_id, text)
            if key in own or self.known.get(key, text) != text:
                defects.add("duplicate caption id", where)
            elif key in self.known:
                pass  # another file of this split says the same
            elif image_id not in self.images:
                defects.add("caption of an unknown image id", where)
            elif not text:
                defects.add("empty caption", where)
            else:
                captions.append((stated or str(len(captions)), text))
            own.add(key)
            self.known.setdefault(key, text)

    @staticmethod
    def file_name(image: dict[str, Any]) -> str:
        return next((value for key in FILE_KEYS if isinstance(value := image.get(key), str) and value.strip()), "")


def _single(annotations: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int, Any]]:
    """(annotation, number of the caption in it, caption): some tools write the captions of an image as one list."""
    for annotation in annotations:
        for number, caption in enumerate(captions_in(annotation.get("caption"))):
            yield annotation, number, caption


def _groups(
    split: str, table: _Table, found: dict[str, tuple[Path, int]], defects: Defects, revision: list[str | bytes]
) -> Iterator[PairGroup]:
    for image_id, image in table.images.items():
        file_name = table.file_name(image)
        if file_name not in found:
            continue  # counted as missing
        path, size = found[file_name]
        revision.append(f"{printable(file_name)} {size}")
        if size == 0:
            defects.add("picture of 0 bytes", file_name)
            continue
        yield PairGroup(
            image_id,
            Picture(path=path),
            table.captions.get(image_id, ()),
            split,
            image.get("coco_url") or image.get("flickr_url") or printable(file_name),
            table.licences.get(identifier(image.get("license")), ""),
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
