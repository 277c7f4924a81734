"""EmojiScenes on disk, in the layouts that the ordinary loaders read: COCO captions and M-BEIR parquet.

<root>/annotations/captions_{train,val,test}.json, images/{train,val,test}/*.webp   image-caption pairs
<root>/annotations/scenes_{train,val,test}.json                                ground truth of every picture
<root>/mbeir/mbeir_emojiscenes_task{1,4,5,7,8}/                            t2i, i2t, i2i, it2i, it2it on the test split
<root>/dataset.json                                                        what was asked for; written last
"""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from analysis.data.emoji_arrays import (
    GENERATOR,
    N_TEST,
    N_TRAIN,
    N_VAL,
    EmojiSplit,
    load_splits,
    pixel_rng,
)
from analysis.data.emoji_grounds import SIDE
from analysis.data.emoji_scenes import CHANGES, Scene, captions, render, vary_scene

N_COMPOSED = 200  # queries of i2i, it2i and it2it
N_DESCRIBED = 400  # test pictures in the pool of it2it, the queries' own among them, beside the targets
CANDIDATES_VERSION = 3  # raised when the same seed would give other queries or candidates
LICENCE = "MIT; pictures composed of Noto Emoji, Apache-2.0"
TASK_NUMBERS = {"t2i": 1, "i2t": 4, "i2i": 5, "it2i": 7, "it2it": 8}  # as the paper's code counts
_FIRST_ID = {"train": 1_000_000, "val": 500_000, "test": 1}
_OTHER_RENDERING, _TARGET_RENDERING = 1, 2


@dataclass(frozen=True)
class Item:
    """One row of a query or candidate table: a text, a picture (encoded), or both."""

    identifier: str
    text: str | None = None
    picture: bytes | None = None

    @property
    def modality(self) -> str:
        return ",".join(name for name, part in (("image", self.picture), ("text", self.text)) if part is not None)


@dataclass(frozen=True)
class Task:
    """Query i has exactly the candidates `targets[i]` as its answers."""

    queries: Sequence[Item]
    candidates: Sequence[Item]
    targets: Sequence[Sequence[str]]


def write_dataset(
    root: Path,
    *,
    n_train: int = N_TRAIN,
    n_val: int = N_VAL,
    n_test: int = N_TEST,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write the data set of a seed below `root` and return `root`. Does nothing where it stands already.

    About 2.5 kB a picture; 27,000 scenes take about two minutes on one core.
    """
    asked = {
        "name": "emoji-scenes",
        "generator": GENERATOR,
        "pools": CANDIDATES_VERSION,
        "n_train": n_train,
        "n_val": n_val,
        "n_test": n_test,
        "seed": seed,
    }
    done = root / "dataset.json"
    if done.is_file() and json.loads(done.read_text()) == asked:
        return root
    done.unlink(missing_ok=True)
    splits = load_splits(root, n_train=n_train, n_val=n_val, n_test=n_test, seed=seed)
    for split in splits:
        _write_pairs(root, split, progress=progress)
    for task, tables in retrieval_tasks(splits.test, seed=seed).items():
        _write_task(root / "mbeir" / f"mbeir_emojiscenes_task{TASK_NUMBERS[task]}", tables)
    _replace(done, json.dumps(asked, indent=1).encode())
    return root


def retrieval_tasks(test: EmojiSplit, *, seed: int) -> dict[str, Task]:
    """The five tasks on the test split. Composed queries say how the target differs from the picture; the pool of it2i
    holds every test picture, that of it2it N_DESCRIBED of them with a caption, the query's own among them, so that
    copying the picture is not an answer. A target may look like a scene of the train split, never like a test scene."""
    pictures = [encode_picture(picture) for picture in test.pictures]
    images = [Item(f"i:{i}", picture=data) for i, data in enumerate(pictures)]
    texts = [Item(f"t:{i}.{j}", text) for i, five in enumerate(test.captions) for j, text in enumerate(five)]
    texts_of = [[f"t:{i}.{j}" for j in range(5)] for i in range(len(test))]
    n = min(N_COMPOSED, len(test) // 4)
    tasks = {
        "i2t": Task(images, texts, texts_of),
        "t2i": Task(texts, images, [[f"i:{i}"] for i in range(len(test)) for _ in range(5)]),
        "i2i": Task(
            [Item(f"q:{i}", picture=_shown_again(test.scenes[i], seed, i, _OTHER_RENDERING)) for i in range(n)],
            images,
            [[f"i:{i}"] for i in range(n)],
        ),
    }
    taken = set(test.scenes)
    for task, start in (("it2i", n), ("it2it", 2 * n)):
        changed = list(_changes(test, range(start, start + n), taken, seed=seed, task=task))
        described = task == "it2it"
        candidates = [
            Item(item.identifier, test.captions[i][0] if described else None, item.picture)
            for i, item in enumerate(images)
            if not described or start <= i < start + max(N_DESCRIBED, n)
        ]
        for i, scene, _ in changed:
            caption = captions(scene, random.Random(f"{seed}/{task}/{i}/caption"))[0]
            picture = _shown_again(scene, seed, i, _TARGET_RENDERING)
            candidates.append(Item(f"c:{i}", caption if described else None, picture))
        tasks[task] = Task(
            [Item(f"q:{i}", wish, pictures[i]) for i, _, wish in changed],
            candidates,
            [[f"c:{i}"] for i, _, _ in changed],
        )
    return tasks


def encode_picture(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="WEBP", quality=90, method=2)
    return buffer.getvalue()


def _changes(
    test: EmojiSplit, indices: range, taken: set[Scene], *, seed: int, task: str
) -> Iterator[tuple[int, Scene, str]]:
    """(index, changed scene, sentence). Kinds of change take turns where they have a meaning; no changed scene is one
    of `taken`, which grows, so every target is the only right answer."""
    for turn, index in enumerate(indices):
        rng = random.Random(f"{seed}/{task}/{index}/change")
        attempt = 0
        while True:
            change = CHANGES[(turn + attempt) % len(CHANGES)]
            varied = vary_scene(test.scenes[index], change, rng)
            if varied is not None and varied[0] not in taken:
                break
            attempt += 1
        taken.add(varied[0])
        yield index, *varied


def _shown_again(scene: Scene, seed: int, index: int, rendering: int) -> bytes:
    return encode_picture(render(scene, pixel_rng(seed, "test", index, rendering)))


def _write_pairs(root: Path, split: EmojiSplit, *, progress: bool) -> None:
    folder = root / "images" / split.name
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations, scenes = [], [], []
    rows = enumerate(zip(split.scenes, split.captions, split.pictures, strict=True))
    for i, (scene, five, pixels) in tqdm(rows, desc=f"{split.name} pictures", total=len(split), disable=not progress):
        image_id = _FIRST_ID[split.name] + i
        file_name = f"{image_id:07d}.webp"
        (folder / file_name).write_bytes(encode_picture(pixels))
        images.append({"id": image_id, "file_name": file_name, "width": SIDE, "height": SIDE, "license": 1})
        annotations += [
            {"id": 5 * image_id + j, "image_id": image_id, "caption": caption} for j, caption in enumerate(five)
        ]
        scenes.append({"image_id": image_id, **scene.truth()})
    table = {
        "info": {"description": f"EmojiScenes, {split.name} split", "version": str(GENERATOR)},
        "licenses": [{"id": 1, "name": LICENCE, "url": "https://github.com/googlefonts/noto-emoji"}],
        "images": images,
        "annotations": annotations,
    }
    folder = root / "annotations"
    folder.mkdir(exist_ok=True)
    _replace(folder / f"captions_{split.name}.json", json.dumps(table).encode())
    _replace(folder / f"scenes_{split.name}.json", json.dumps(scenes).encode())


def _write_task(folder: Path, task: Task) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(q.identifier, target) for q, targets in zip(task.queries, task.targets, strict=True) for target in targets]
    qrels = pa.table(
        {
            "query-id": [query for query, _ in rows],
            "corpus-id": [candidate for _, candidate in rows],
            "score": pa.array([1] * len(rows), pa.int64()),
        }
    )
    for side, table in (("query", _table(task.queries)), ("corpus", _table(task.candidates)), ("qrels", qrels)):
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        _replace(folder / f"{side}-00000-of-00001.parquet", buffer.getvalue())


def _table(items: Sequence[Item]) -> pa.Table:
    def picture(item: Item) -> dict[str, object] | None:
        return None if item.picture is None else {"bytes": item.picture, "path": f"{item.identifier}.webp"}

    return pa.table(
        {
            "id": [item.identifier for item in items],
            "modality": [item.modality for item in items],
            "text": pa.array([item.text for item in items], pa.string()),
            "image": pa.array(
                [picture(item) for item in items], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            ),
        }
    )


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, path)
