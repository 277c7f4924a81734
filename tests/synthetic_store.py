"""A small, complete and consistent store with planted concepts, written through StoreWriter: what reader, pages and
figures are tested on. Scores are computed here in dense float64, independently of analysis.concepts.

Planted: concept 0 fires on every image and on no caption, 1 on every caption and on no image, 2 on both sides of each
third pair ("a dog"), 3 on the image and 4 on the caption of the pairs after those ("a boat"; their directions have cosine
0.6: a bridge between two concepts). Every pair has a concept of its own content among the rest; the last never fires.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from analysis.concepts.scores import score_names
from analysis.sae.checkpoint import UNTRAINED, Sae, save_sae
from analysis.store import open_store
from analysis.store.write import StoreWriter
from tests.data.writers import saved

IMAGE_ONLY, TEXT_ONLY, BRIDGE, BOAT_IMAGE, BOAT_TEXT = range(5)
FIRST_CONTENT = 5
TOP_K = 4
METHODS = ("base", "removal (attribution)", "removal (random)", "ReAlign")
SPECS = ("base", "removal", "removal:random,seeds=10", "realign")
_NOUNS = ("dog", "boat", "tree", "kite", "lamp", "pear", "drum", "rose")
_COLORS = ("crimson", "steelblue", "seagreen", "goldenrod", "slateblue", "coral", "teal", "orchid")


@dataclass(frozen=True)
class _World:
    """The arrays everything else is derived from. Rows: for each pair its image, then its captions."""

    samples: pd.DataFrame
    codes: np.ndarray  # (N, K) dense
    hidden: np.ndarray  # (N, D)
    sae: Sae
    pair_image: np.ndarray
    pair_text: np.ndarray

    @property
    def rows(self) -> dict[str, np.ndarray]:
        return {name: np.flatnonzero(self.samples["modality"] == name) for name in ("image", "text")}


def make_store(
    cache_dir: str | Path,
    *,
    backbone: str = "clip-mini",
    n_pairs: int = 40,
    n_captions: int = 2,
    n_concepts: int = 32,
    width: int = 48,
    seed: int = 0,
    unit: str = "pooled",
    dataset: str = "synthetic",
    tasks: tuple[str, ...] = ("i2t", "t2i"),
    tokens: bool = False,
    pictures: bool = True,
    paired: bool = True,
    r2: float = 0.93,
    demo: bool = False,
) -> Path:
    """Write one store (and its SAE) under `cache_dir` and return its folder. Needs n_concepts <= width."""
    cache_dir = Path(cache_dir)
    world = _world(n_pairs, n_captions, n_concepts, width, seed)
    sae_path = f"sae/{backbone}/{dataset}-{unit}-{seed}"
    sae = save_sae(world.sae, cache_dir / sae_path)
    with StoreWriter(
        cache_dir, backbone, dataset, _config(backbone, dataset, n_pairs, seed, unit, sae_path, sae, tasks)
    ) as writer:
        samples = world.samples.copy()
        if not paired:  # as of data that hold retrieval tasks alone
            samples["pair_id"] = np.int32(-1)
        if pictures:
            samples["thumb"] = _thumbs(writer, samples)
        writer.samples(samples)
        writer.concepts(_concepts(world))
        writer.bridges(_bridges(world))
        cosine = sae.dictionary @ sae.dictionary.T - 2 * np.eye(n_concepts, dtype=np.float32)
        writer.array("neighbours.npy", np.argsort(-cosine, axis=1, kind="stable")[:, :8].astype(np.int32))
        indices, values = _top_k(world.codes)
        writer.array("codes/indices.npy", indices)
        writer.array("codes/values.npy", values)
        _postings(writer, world.codes)
        _embeddings(writer, world, seed)
        if tokens:
            _tokens(writer, world)
        facts_of_tasks = {name: _task(writer, world, name) for name in tasks}
        return writer.publish(_facts(world, r2, demo), facts_of_tasks)


def keep_untrained(path: Path) -> Path:
    """Give a store the SAE that its training would have started from, atoms at random, and compute all its tables."""
    from analysis.build.rescore import rescore

    store = open_store(path)
    start = store.sae()
    atoms = np.random.default_rng(0).standard_normal(start.dictionary.shape).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    folder = store.cache_dir / store.config["sae"]["path"] / UNTRAINED
    save_sae(Sae(atoms, start.encoder_bias, atoms, start.top_k), folder)
    rescore(path, everything=True, say=lambda text: None)
    return path


def _world(n_pairs: int, n_captions: int, n_concepts: int, width: int, seed: int) -> _World:
    rng = np.random.default_rng(seed)
    dictionary = np.linalg.qr(rng.normal(size=(width, n_concepts)))[0].T
    dictionary[BOAT_TEXT] = 0.6 * dictionary[BOAT_IMAGE] + 0.8 * dictionary[BOAT_TEXT]
    records: list[dict[str, Any]] = []
    dense: list[np.ndarray] = []
    pair_image, pair_text = [], []
    for pair in range(n_pairs):
        content = FIRST_CONTENT + pair % (n_concepts - FIRST_CONTENT - 1)
        kind = pair % 3  # 0: dog (bridge), 1: boat (two concepts), 2: neither
        noun = _NOUNS[kind] if kind < 2 else _NOUNS[2 + pair % 6]
        for caption in range(n_captions + 1):
            z = np.zeros(n_concepts)
            is_image = caption == 0
            z[IMAGE_ONLY if is_image else TEXT_ONLY] = 4 + rng.random()
            z[content] = 1 + rng.random()
            if kind == 0:
                z[BRIDGE] = 2 + rng.random()
            if kind == 1:
                z[BOAT_IMAGE if is_image else BOAT_TEXT] = 2 + rng.random()
            (pair_image if is_image else pair_text).append(len(records))
            dense.append(z)
            words = ("a {} {}", "{} {} on plain ground", "picture of the {} {}")[caption % 3]
            records.append(
                {
                    "sample_id": f"{'image' if is_image else 'caption'}:{pair}" + ("" if is_image else f":{caption}"),
                    "pair_id": np.int32(pair),
                    "modality": "image" if is_image else "text",
                    "text": "" if is_image else words.format(_COLORS[pair % 8], noun),
                    "instruction": "",
                    "thumb": "",
                    "source": "synthetic",
                    "split": "test",
                    "licence": "CC0-1.0",
                }
            )
    codes = np.asarray(dense, np.float32)
    sae = Sae(
        _tied_encoder(dictionary), np.zeros(n_concepts), dictionary, TOP_K, {"unit": "pooled", "data": "synthetic"}
    )
    return _World(
        pd.DataFrame(records), codes, (codes @ sae.dictionary).astype(np.float32), sae,
        np.repeat(pair_image, n_captions), np.asarray(pair_text),
    )  # fmt: skip


def _tied_encoder(dictionary: np.ndarray) -> np.ndarray:
    """Dual basis of the atoms: W D^T = identity, so that encode(z D) gives z back although two atoms are not orthogonal."""
    return np.linalg.inv(dictionary @ dictionary.T) @ dictionary


def _config(
    backbone: str, dataset: str, n_pairs: int, seed: int, unit: str, sae_path: str, sae: Sae, tasks: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "backbone": {
            "key": backbone, "model": f"synthetic/{backbone}", "revision": "synthetic", "tap": "last layer",
            "dtype": "float32", "contrastive": "clip" in backbone,
            **({"pooling": "mean"} if "contrastive" in backbone else {}),  # trained to give one vector
        },
        "sae": {
            "path": sae_path, "sha256": sae.sha256, "unit": unit, "n_concepts": sae.n_concepts, "top_k": sae.top_k,
        },
        "prompts": "uniform",
        "sample_code": "pool_then_encode",
        "weighting": "samples",
        "embedding_dtype": "float32",
        "data": {
            "name": dataset, "revision": "synthetic", "split": "test", "n": n_pairs, "seed": seed, "tasks": list(tasks),
        },
    }  # fmt: skip


def _facts(world: _World, r2: float, demo: bool) -> dict[str, Any]:
    quality = {"r2_per_dimension": r2, "r2_scalar_mean": min(r2 + 0.03, 1.0), "l0": 3.2, "dead_share": 1 / 32, "n": 10}
    return {
        "demo": demo,
        "counts": {
            "samples": len(world.samples), "images": len(world.rows["image"]), "captions": len(world.rows["text"]),
            "pairs": len(world.pair_text),
        },
        "quality": {"all": quality, "image": quality, "text": quality},
        "defects": [],
        "versions": {},
        "commit": "",
    }  # fmt: skip


def _concepts(world: _World) -> pd.DataFrame:
    z = world.codes.astype(np.float64)
    image, text = z[world.rows["image"]].mean(0), z[world.rows["text"]].mean(0)
    with np.errstate(invalid="ignore"):
        modality = text / (image + text)
    bridge = _bridge_matrix(world)
    rows, columns, diagonal = bridge.sum(1), bridge.sum(0), np.diag(bridge)
    by_row, by_column = bridge.max(1), bridge.max(0)
    fired = z > 0
    names = [f"{_NOUNS[i % 8]}, {_COLORS[i % 8]}" for i in range(len(image))]
    names[:FIRST_CONTENT] = ["any picture", "any caption", "dog", "boat (seen)", "boat (said)"]
    angle = np.linspace(0, 2 * np.pi, len(image), endpoint=False)
    alive = fired.any(0)
    planted = pd.DataFrame(
        {
            "energy": z.mean(0), "energy_image": image, "energy_text": text, "modality_score": modality,
            "frequency": fired.mean(0), "frequency_image": fired[world.rows["image"]].mean(0),
            "frequency_text": fired[world.rows["text"]].mean(0),
            "bridge_max": np.maximum(by_row, by_column), "bridge_diagonal": diagonal,
            "bridge_off_diagonal": rows + columns - 2 * diagonal,
            "bridge_abs_sum": (np.abs(bridge).sum(1) + np.abs(bridge).sum(0)) / 2,
            "bridge_partner": np.where(by_row >= by_column, bridge.argmax(1), bridge.argmax(0)).astype(np.int32),
            "attribution": rows + columns, "attribution_image": rows, "attribution_text": columns,
            "map_x": np.where(alive, np.cos(angle), np.nan).astype(np.float32),
            "map_y": np.where(alive, np.sin(angle), np.nan).astype(np.float32),
            "name": [name if live else "" for name, live in zip(names, alive, strict=True)],
            "second_word": "", "second_model": "",
        }
    )  # fmt: skip
    return planted.assign(**{name: np.nan for name in score_names() if name not in planted})  # `rescore` computes them


def _bridge_matrix(world: _World) -> np.ndarray:
    image, text = (world.codes[rows].astype(np.float64) for rows in (world.pair_image, world.pair_text))
    dictionary = world.sae.dictionary.astype(np.float64)
    return image.T @ text / len(image) * (dictionary @ dictionary.T)


def _bridges(world: _World) -> pd.DataFrame:
    bridge = _bridge_matrix(world)
    cosine = world.sae.dictionary @ world.sae.dictionary.T
    order = np.argsort(-bridge, axis=None)[:40]
    i, j = np.unravel_index(order, bridge.shape)
    kept = bridge[i, j] > 1e-6
    i, j = i[kept], j[kept]
    return pd.DataFrame(
        {
            "image_concept": i.astype(np.int32), "text_concept": j.astype(np.int32),
            "coactivation": bridge[i, j] / cosine[i, j], "cosine": cosine[i, j], "bridge": bridge[i, j],
            "null_quantile": bridge[i, j] / 3, "excess": bridge[i, j] * 2 / 3,
        }
    )  # fmt: skip


def _top_k(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-codes, axis=1, kind="stable")[:, :TOP_K]
    return order.astype(np.int32), np.take_along_axis(codes, order, axis=1)


def _postings(writer: StoreWriter, codes: np.ndarray) -> None:
    rows, values, offsets = [], [], [0]
    for column in codes.T:
        fired = np.flatnonzero(column)
        fired = fired[np.argsort(-column[fired], kind="stable")]
        rows.append(fired)
        values.append(column[fired])
        offsets.append(offsets[-1] + len(fired))
    writer.array("postings/offsets.npy", np.asarray(offsets, np.int64))
    writer.array("postings/rows.npy", np.concatenate(rows).astype(np.int32))
    writer.array("postings/values.npy", np.concatenate(values).astype(np.float32))


def _embeddings(writer: StoreWriter, world: _World, seed: int) -> None:
    noise = np.random.default_rng(seed + 1).normal(size=world.hidden.shape).astype(np.float32)
    writer.array("embeddings/mean.npy", world.hidden)
    writer.array("embeddings/last.npy", world.hidden + 0.3 * noise)
    images = world.rows["image"]  # a mask of image tokens exists for pictures only: a partial variant
    writer.array("embeddings/mean_no_image.npy", 0.5 * world.hidden[images] + 0.1 * noise[images])
    writer.array("embeddings/mean_no_image.rows.npy", images.astype(np.int32))


def _tokens(writer: StoreWriter, world: _World) -> None:
    """Token codes of the first picture (2 x 2 patches between two template tokens) and of the first caption."""
    entries, roles, dense = [], [], []
    for row in (0, 1):
        is_image = world.samples["modality"].iat[row] == "image"
        strings = ["<s>", *(["<image>"] * 4 if is_image else world.samples["text"].iat[row].split()), "</s>"]
        middle = len(strings) - 2
        entries.append(
            {
                "row": row, "start": sum(map(len, roles)), "length": len(strings),
                "grid_rows": 2 if is_image else 0, "grid_columns": 2 if is_image else 0, "strings": strings,
            }
        )  # fmt: skip
        roles.append(np.asarray([1, *([2 if is_image else 3] * middle), 1], np.int8))
        scale = np.linspace(0.2, 1, len(strings))[:, None]
        dense.append((scale * world.codes[row]).astype(np.float32))
    indices, values = _top_k(np.concatenate(dense))
    writer.table("tokens/index.parquet", pd.DataFrame(entries))
    writer.array("tokens/roles.npy", np.concatenate(roles))
    writer.array("tokens/indices.npy", indices)
    writer.array("tokens/values.npy", values)


def _task(writer: StoreWriter, world: _World, name: str) -> dict[str, Any]:
    sides = {"i": world.rows["image"], "t": world.rows["text"]}
    query, candidate = name.split("2")
    queries, candidates = sides[query], sides[candidate]
    pairs = world.samples["pair_id"].to_numpy()
    q, c = np.nonzero(pairs[queries][:, None] == pairs[candidates][None, :])
    writer.array(f"retrieval/{name}/queries.npy", queries.astype(np.int32))
    writer.array(f"retrieval/{name}/candidates.npy", candidates.astype(np.int32))
    writer.array(f"retrieval/{name}/qrels.npy", np.stack([q, c, np.ones_like(q)], axis=1).astype(np.int32))
    writer.table(f"retrieval/{name}/results.parquet", _results())
    return {
        "prompts": {"queries": "", "candidates": ""}, "n_queries": len(queries), "n_candidates": len(candidates),
        "missing_targets": 0, "unanswerable_queries": 0, "note": "",
    }  # fmt: skip


def _results() -> pd.DataFrame:
    """Plausible recalls, not measured: pages only show them."""
    rows = []
    for slot, method in enumerate(METHODS):
        for k, recall in ((1, 0.10), (5, 0.30), (10, 0.45)):
            value, change = recall + 0.05 * slot, 0.05 * slot
            rows.append(
                {
                    "method": method, "spec": SPECS[slot], "task": "", "k": k, "recall": value, "low": value - 0.04,
                    "high": value + 0.04, "difference": change, "difference_low": change - 0.02,
                    "difference_high": change + 0.02, "band_low": np.nan, "band_high": np.nan, "queries": 40,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _thumbs(writer: StoreWriter, samples: pd.DataFrame) -> list[str]:
    names = []
    for pair, modality in zip(samples["pair_id"], samples["modality"], strict=True):
        if modality != "image":
            names.append("")
            continue
        picture = Image.new("RGB", (96, 96), _COLORS[pair % 8])
        draw = ImageDraw.Draw(picture)
        shape = draw.ellipse if pair % 3 == 0 else draw.rectangle
        shape((24, 24, 72, 72), fill="white")
        draw.text((42, 42), str(pair), fill="black")
        name = f"thumbs/{pair:06d}.webp"
        writer.path(name).write_bytes(saved(picture, "WEBP", quality=80))
        names.append(name)
    return names
