"""Karpathy's splits as published: dataset_coco.json, dataset_flickr8k.json, dataset_flickr30k.json, one file with the
sentences of every image and the split it belongs to ("train", "restval", "val", "test")."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.data.coco_json import find_annotations
from analysis.data.defects import Defects, printable
from analysis.data.disk import clean_text, file_digest, head_of, identifier, read_json
from analysis.data.names import Finder, files_of
from analysis.data.pairs import PairGroup, build_pairs
from analysis.data.samples import PairSet, Picture
from analysis.data.splits import chosen_splits
from analysis.errors import DataError

PREFIX = "dataset_"
_HEAD = 1 << 16  # bytes of a file in which the first image stands
_FOLDERS = ("images", "flickr30k-images", "flickr30k_images", "Flicker8k_Dataset")


def find_karpathy(path: Path) -> list[Path]:
    """Karpathy files of a dataset folder, or the file itself: a JSON file whose images hold sentences. A folder with
    COCO's own captions is read as COCO; the Karpathy file in it has to be named."""
    if path.is_file():
        return [path] if path.suffix == ".json" and _has_sentences(path) else []
    if find_annotations(path):
        return []
    folders = (path, path / "annotations", path / "karpathy")
    files = [file for folder in folders for file in files_of(folder, prefix=PREFIX, suffix=".json")]
    return [file for file in files if _has_sentences(file)]


def load_karpathy(
    path: Path, *, split: str | None = None, limit: int | None = None, seed: int = 0, check: bool = False
) -> PairSet:
    """Pairs of one Karpathy file. `split` is one of the file's own, two joined by "+" ("train+restval", the usual training
    set of COCO), or None for all. Raises DataError where a folder holds several files, or no pair is left."""
    files = find_karpathy(path)
    if len(files) > 1:
        raise DataError(
            f"{path.name} holds {', '.join(file.name for file in files)}; name the one to read with its path."
        )
    file = files[0]
    content = read_json(file)
    images = [image for image in content["images"] if isinstance(image, dict)]
    root = file.parent.parent if file.parent.name in ("annotations", "karpathy") else file.parent
    defects = Defects()
    if len(images) < len(content["images"]):
        defects.add("malformed image", file.name, len(content["images"]) - len(images))
    splits = dict.fromkeys(str(image.get("split") or "") for image in images)
    wanted = chosen_splits(splits, split, file.name)
    chosen = [image for image in images if str(image.get("split") or "") in wanted]
    finder = Finder(
        [root, *(root / name for name in _FOLDERS), root / "images" / str(content.get("dataset", ""))], defects
    )
    found = finder.find_all([name for name in map(_file_name, chosen) if name])
    revision: list[str | bytes] = [file.name, file_digest(file)]
    groups = list(_groups(chosen, found, defects, revision))
    return build_pairs(root.name, groups, defects=defects, revision=revision, limit=limit, seed=seed, check=check)


def _groups(
    images: list[dict[str, Any]], found: dict[str, tuple[Path, int]], defects: Defects, revision: list[str | bytes]
) -> Iterator[PairGroup]:
    seen: set[tuple[str, str]] = set()
    for position, image in enumerate(images):
        name, split = _file_name(image), str(image.get("split") or "")
        ids = (identifier(image.get(key)) for key in ("cocoid", "imgid", "filename"))
        image_id = next(filter(None, ids), str(position))
        if (split, image_id) in seen:
            defects.add("duplicate image id", image_id)
            continue
        seen.add((split, image_id))
        if not name:
            defects.add("image without a file name", image_id)
        if name not in found:
            continue  # counted as missing
        path, size = found[name]
        revision.append(f"{printable(name)} {size}")
        if size == 0:
            defects.add("picture of 0 bytes", name)
            continue
        captions = list(_captions(image, image_id, defects))
        yield PairGroup(image_id, Picture(path=path, name=name), captions, split, source=printable(name))


def _captions(image: dict[str, Any], image_id: str, defects: Defects) -> Iterator[tuple[str, str]]:
    sentences = image.get("sentences")
    for position, sentence in enumerate(sentences if isinstance(sentences, list) else ()):
        record = sentence if isinstance(sentence, dict) else {"raw": sentence}
        where = f"{position} of image {image_id}"
        tokens = record.get("tokens")
        raw = record.get("raw") or (" ".join(map(str, tokens)) if isinstance(tokens, list) else None)
        if text := clean_text(raw, defects, where):
            yield identifier(record.get("sentid")) or str(position), text
        else:
            defects.add("empty caption", where)


def _file_name(image: dict[str, Any]) -> str:
    parts = (image.get("filepath"), image.get("filename"))
    return "/".join(part for part in parts if isinstance(part, str) and part) if image.get("filename") else ""


def _has_sentences(path: Path) -> bool:
    head = head_of(path, _HEAD)
    return b'"sentences"' in head and b'"images"' in head
