"""Small datasets on disk in every layout that the loaders read, from pictures and captions or from retrieval items."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Pixels = Image.Image | bytes | None  # bytes are written as they are, damaged or not
Pair = tuple[Pixels, Sequence[Any]]
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class Item:
    """A query or candidate. Without `modality` it has what it holds."""

    id: str
    text: str | None = None
    image: Pixels = None
    modality: str | None = None

    @property
    def declared(self) -> str:
        parts = [name for name, part in (("image", self.image), ("text", self.text)) if part is not None]
        return self.modality or ",".join(parts)


def solid(*colour: int, size: tuple[int, int] = (12, 10)) -> Image.Image:
    """A picture of one colour: tells which picture came back."""
    return Image.new("RGB", size, colour)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def blank(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, one bit each: large in pixels, small in work."""
    return saved(Image.new("1", (width, height)), compress_level=1)


def encoded(image: Pixels, kind: str = "PNG") -> bytes | None:
    return saved(image, kind) if isinstance(image, Image.Image) else image


def write_coco_json(
    root: Path, pairs: Sequence[Pair], *, split: str = "test", folder: str = "images", first_id: int = 1
) -> Path:
    """annotations/captions_<split>.json and pictures <folder>/<id>.png; a picture of None is named but not written."""
    images, annotations = [], []
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    for image_id, (image, captions) in enumerate(pairs, first_id):
        name = f"{image_id:06d}.png"
        data = encoded(image)
        if data is not None:
            (root / folder / name).write_bytes(data)
        images.append({"id": image_id, "file_name": name, "license": 4, "coco_url": f"https://pictures.test/{name}"})
        for caption in captions:
            annotations.append({"image_id": image_id, "id": first_id * 100 + len(annotations), "caption": caption})
    content = {
        "images": images,
        "annotations": annotations,
        "licenses": [{"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}],
    }
    path = root / "annotations" / f"captions_{split}.json"
    path.write_text(json.dumps(content))
    return path


def write_plain_folder(root: Path, pairs: Sequence[Pair], *, kind: str = "csv") -> None:
    """Pictures 0.png, 1.png, ... and captions.csv or captions.jsonl, one line a caption."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (image, captions) in enumerate(pairs):
        name = f"{number}.png"
        data = encoded(image)
        if data is not None:
            (root / name).write_bytes(data)
        lines += [{"file": name, "caption": caption} for caption in captions]
    with (root / f"captions.{kind}").open("w", newline="") as file:
        if kind == "csv":
            writer = csv.DictWriter(file, ["file", "caption"])
            writer.writeheader()
            writer.writerows(lines)
        else:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def write_coco_parquet(
    folder: Path,
    pairs: Sequence[Pair],
    *,
    split: str = "val",
    shards: int = 1,
    row_group_size: int = 100,
    answer: str = "list",
) -> list[Path]:
    """Shards in the schema of lmms-lab/COCO-Caption. answer="string" writes the first caption alone."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "question_id": f"COCO_{split}2014_{number:012d}.jpg",
            "image": None if image is None else {"bytes": encoded(image), "path": f"{number}.jpg"},
            "question": "Please carefully observe the image and come up with a caption for the image",
            "answer": list(captions) if answer == "list" else (captions[0] if captions else None),
            "id": number,
            "license": 1 + number % 8,
            "file_name": f"COCO_{split}2014_{number:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/{split}2014/{number}.jpg",
        }
        for number, (image, captions) in enumerate(pairs)
    ]
    text = pa.list_(pa.string()) if answer == "list" else pa.string()
    types = {"image": PICTURE, "answer": text, "id": pa.int64(), "license": pa.int8()}
    names = ("question_id", "image", "question", "answer", "id", "license", "file_name", "coco_url")
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    return _write_shards(folder, split, rows, schema, shards, row_group_size)


def write_mbeir_parquet(
    folder: Path,
    queries: Sequence[Item],
    candidates: Sequence[Item],
    qrels: Sequence[tuple[str, str] | tuple[str, str, int]],
    *,
    shards: int = 1,
    row_group_size: int = 100,
) -> Path:
    """A task folder in the schema of the hub organisation MRBench."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("id", pa.string()), ("modality", pa.string()), ("text", pa.string()), ("image", PICTURE)])
    for side, items, pieces in (("query", queries, 1), ("corpus", candidates, shards)):
        rows = [
            {
                "id": item.id,
                "modality": item.declared,
                "text": item.text,
                "image": None if item.image is None else {"bytes": encoded(item.image), "path": None},
            }
            for item in items
        ]
        _write_shards(folder, side, rows, schema, pieces, row_group_size)
    lines = [{"query-id": q, "corpus-id": c, "score": score[0] if score else 1} for q, c, *score in qrels]
    relevance = pa.schema([("query-id", pa.string()), ("corpus-id", pa.string()), ("score", pa.int64())])
    _write_shards(folder, "qrels", lines, relevance, 1, row_group_size)
    return folder


def write_mbeir_jsonl(
    root: Path,
    name: str,
    queries: Sequence[Item],
    candidates: Sequence[Item],
    qrels: Sequence[tuple[str, str] | tuple[str, str, int]],
    *,
    split: str = "test",
    pool: str = "local",
    task_id: int = 7,
) -> Path:
    """One task in the layout of M-BEIR as published; returns its query file. An empty `qrels` writes no qrels file."""
    positives: dict[str, list[str]] = {}
    for query, candidate, *score in qrels:
        if not score or score[0] > 0:
            positives.setdefault(query, []).append(candidate)
    query_file = root / "query" / split / f"{name}_{split}.jsonl"
    pool_name = f"{name}_cand_pool.jsonl" if pool == "local" else f"mbeir_union_{split}_cand_pool.jsonl"
    _write_lines(
        query_file,
        [
            {
                "qid": item.id,
                "query_txt": item.text,
                "query_img_path": _save(root, name, "query", item),
                "query_modality": item.declared,
                "query_src_content": None,
                "pos_cand_list": positives.get(item.id, []),
                "neg_cand_list": [],
                "task_id": task_id,
            }
            for item in queries
        ],
    )
    _write_lines(
        root / "cand_pool" / pool / pool_name,
        [
            {
                "txt": item.text,
                "img_path": _save(root, name, "candidate", item),
                "modality": item.declared,
                "did": item.id,
                "src_content": None,
            }
            for item in candidates
        ],
    )
    if qrels:
        path = root / "qrels" / split / f"{name}_{split}_qrels.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{q} 0 {c} {score[0] if score else 1} {task_id}\n" for q, c, *score in qrels]
        path.write_text("".join(lines))
    return query_file


def _save(root: Path, name: str, side: str, item: Item) -> str | None:
    data = encoded(item.image)
    if data is None:
        return None
    relative = f"mbeir_images/{name}/{side}_{item.id.replace(':', '_')}.png"
    (root / relative).parent.mkdir(parents=True, exist_ok=True)
    (root / relative).write_bytes(data)
    return relative


def _write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _write_shards(
    folder: Path, prefix: str, rows: list[dict[str, Any]], schema: pa.Schema, shards: int, row_group_size: int
) -> list[Path]:
    cuts = [len(rows) * number // shards for number in range(shards + 1)]
    paths = []
    for number in range(shards):
        path = folder / f"{prefix}-{number:05d}-of-{shards:05d}.parquet"
        table = pa.Table.from_pylist(rows[cuts[number] : cuts[number + 1]], schema=schema)
        pq.write_table(table, path, row_group_size=row_group_size)
        paths.append(path)
    return paths
