"""Plans and folders for the tests of the builder: pictures that differ, tasks of any code in both layouts of M-BEIR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from analysis.build.plan import BuildPlan, DataPlan, ModelPlan, SaePlan
from analysis.data.samples import SHORT
from tests.data.writers import Item, write_mbeir_jsonl, write_mbeir_parquet

COLOURS = {"red": (200, 30, 30), "blue": (30, 60, 200), "green": (40, 160, 60), "white": (240, 240, 240)}
DAMAGED = 5  # the picture among PAIRS that is no picture


def two_colours(index: int) -> tuple[Image.Image, list[str]]:
    """A picture of two colours and its captions; differs for 0 <= index < 12."""
    names = list(COLOURS)
    left, right = names[index % 4], names[(index + 1 + index // 4) % 4]
    picture = Image.new("RGB", (56, 56), COLOURS[left])
    picture.paste(COLOURS[right], (28, 0, 56, 56))
    return picture, [f"a {left} half beside a {right} half, number {index}", f"{left} and {right} {index}"]


GOOD_PAIRS = [two_colours(index) for index in range(12)]
PAIRS = [
    (picture if index != DAMAGED else b"not a picture", captions)
    for index, (picture, captions) in enumerate(GOOD_PAIRS)
]


def checkpoint_of(architecture: str, home: Path) -> Path:
    from analysis.models.tiny import MAKERS

    return MAKERS[architecture](home / f"tiny-{architecture}")


def small_plan(data: Path, model: Path, cache: Path, *, sae: SaePlan | None = None, **options: Any) -> BuildPlan:
    """A build of a second: few concepts, few steps, shards of ten. options: fields of DataPlan, ModelPlan or BuildPlan."""
    of_data = {name: options.pop(name) for name in DataPlan.__dataclass_fields__ if name in options}
    of_model = {name: options.pop(name) for name in ModelPlan.__dataclass_fields__ if name in options}
    return BuildPlan(
        DataPlan(str(data), **of_data),
        ModelPlan(str(model), **{"device": "cpu", **of_model}),
        sae or SaePlan(n_concepts=32, top_k=4, steps=5),
        cache=cache,
        **{"token_views": 6, "thumb_side": 48, "shard_size": 10, **options},
    )


def items_of(side: str, modality: str, n: int) -> list[Item]:
    """n queries or candidates of one modality; candidate i has the colours of query i, and words of its own."""
    found = []
    for index in range(n):
        picture, (text, _) = two_colours(index)
        found.append(
            Item(
                f"{side[0]}:{index}",
                f"{side}: {text}" if "text" in modality else None,
                picture.rotate(90 if side == "candidate" else 0) if "image" in modality else None,
            )
        )
    return found


def task_sides(code: str, n_queries: int = 6, n_candidates: int = 9) -> tuple[list[Item], list[Item]]:
    modality = {short: name for name, short in SHORT.items()}
    query, candidate = (modality[part] for part in code.split("2"))
    return items_of("query", query, n_queries), items_of("candidate", candidate, n_candidates)


def write_task(root: Path, code: str, layout: str, name: str | None = None) -> Path:
    """A folder with one task of a code, each query with the candidate of its number as target; returns what to build."""
    queries, candidates = task_sides(code)
    qrels = [(query.id, candidate.id) for query, candidate in zip(queries, candidates, strict=False)]
    name = name or f"mbeir_toy_{code}"
    if layout == "parquet":
        return write_mbeir_parquet(root / name, queries, candidates, qrels)
    write_mbeir_jsonl(root, name, queries, candidates, qrels)
    return root
