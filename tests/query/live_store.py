"""A store whose embeddings come from a real forward pass of a tiny checkpoint: what live queries are compared with."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from analysis.build.build import backbone_config
from analysis.data.samples import Picture, Sample
from analysis.models import tiny
from analysis.models.backbones import Backbone, load_backbone
from analysis.models.prompts import instruction_for
from analysis.sae.checkpoint import Sae, save_sae
from analysis.sae.encode import encode
from analysis.store.write import StoreWriter
from tests import synthetic_store
from tests.data.writers import saved

COLORS = ("crimson", "steelblue", "seagreen", "goldenrod", "slateblue", "coral", "teal", "orchid")
SHAPES = ("ellipse", "rectangle")
N_PAIRS = 16


def picture(pair: int) -> bytes:
    image = Image.new("RGB", (112, 112), COLORS[pair % 8])
    getattr(ImageDraw.Draw(image), SHAPES[pair // 8])((20, 30, 90, 80), fill="white")
    return saved(image)


def caption(pair: int) -> str:
    return f"a white {SHAPES[pair // 8]} on a {COLORS[pair % 8]} ground"


def samples() -> list[Sample]:
    """The picture, then the caption of each pair, with the instructions of the uniform prompts."""
    found = []
    for pair in range(N_PAIRS):
        for modality in ("image", "text"):
            found.append(
                Sample(
                    f"{modality}:{pair}", modality, caption(pair) if modality == "text" else "",
                    Picture(data=picture(pair), name=f"{pair}.png") if modality == "image" else None, pair,
                    instruction_for("uniform", None, None, modality), "test", "test", "CC0-1.0",
                )
            )  # fmt: skip
    return found


def make_checkpoint(folder: Path, family: str = "qwen2_vl") -> Path:
    """A random checkpoint of one family: qwen2_vl or clip."""
    return getattr(tiny, f"make_{family}")(folder)


def make_live_store(cache: Path, checkpoint: Path, *, seed: int = 0) -> Path:
    """Embed the samples with the checkpoint and write the store, its SAE and its tasks."""
    backbone = load_backbone(checkpoint, device="cpu", dtype="float32")
    try:
        return _write(cache, backbone, seed)
    finally:
        backbone.unload()


def _write(cache: Path, backbone: Backbone, seed: int) -> Path:
    given = samples()
    variants = tuple(backbone.available_variants)
    embedded = backbone.embed(given, variants=variants)
    hidden = embedded.vectors["mean"]
    sae = _sae(hidden, seed)
    sae_path = f"sae/{backbone.key}/pooled"
    sae = save_sae(sae, cache / sae_path)
    frame = pd.DataFrame(
        {
            "sample_id": [s.sample_id for s in given], "pair_id": np.asarray([s.pair_id for s in given], np.int32),
            "modality": [s.modality for s in given], "text": [s.text for s in given],
            "instruction": [s.instruction for s in given], "thumb": "", "source": "test", "split": "test",
            "licence": "CC0-1.0",
        }
    )  # fmt: skip
    codes = encode(sae, hidden)
    images = np.flatnonzero(frame["modality"] == "image")
    world = synthetic_store._World(frame, codes.to_csr().toarray(), hidden, sae, images, images + 1)
    config = {
        "backbone": backbone_config(backbone), "prompts": "uniform", "variants": sorted(variants),
        "sae": {
            "path": sae_path, "sha256": sae.sha256, "unit": "pooled", "n_concepts": sae.n_concepts, "top_k": sae.top_k,
        },
        "sample_code": "pool_then_encode", "weighting": "samples", "embedding_dtype": "float32",
        "data": {"name": "shapes", "revision": "test", "split": "test", "n": N_PAIRS, "seed": 0, "tasks": ["i2t", "t2i"]},
    }  # fmt: skip
    with StoreWriter(cache, config["backbone"]["key"], "shapes", config) as writer:
        frame["thumb"] = [_thumb(writer, s.picture.bytes(), s.pair_id) if s.picture else "" for s in given]
        writer.samples(frame)
        writer.concepts(synthetic_store._concepts(world))
        writer.bridges(synthetic_store._bridges(world))
        writer.array("neighbours.npy", np.tile(np.arange(8, dtype=np.int32), (sae.n_concepts, 1)))
        writer.array("codes/indices.npy", codes.indices)
        writer.array("codes/values.npy", codes.values)
        synthetic_store._postings(writer, world.codes)
        for variant in variants:
            defined = embedded.defined[variant]
            writer.array(f"embeddings/{variant}.npy", embedded.vectors[variant][defined])
            if not defined.all():
                writer.array(f"embeddings/{variant}.rows.npy", np.flatnonzero(defined).astype(np.int32))
        tasks = {name: synthetic_store._task(writer, world, name) for name in ("i2t", "t2i")}
        return writer.publish(synthetic_store._facts(world, 0.9, False), tasks)


def _sae(hidden: np.ndarray, seed: int, n_concepts: int = 40, top_k: int = 8) -> Sae:
    """Atoms that span the data: principal directions both ways, so that every sample has live concepts."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.svd(hidden, full_matrices=False)[2][: n_concepts // 2]
    atoms = np.concatenate([directions, -directions]) + 0.02 * rng.normal(size=(n_concepts, hidden.shape[1]))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    return Sae(atoms, np.zeros(n_concepts), atoms, top_k, {"unit": "pooled", "data": "shapes"})


def _thumb(writer: StoreWriter, data: bytes, pair: int) -> str:
    name = f"thumbs/{pair:04d}.webp"
    writer.path(name).write_bytes(saved(Image.open(io.BytesIO(data)), "WEBP", quality=80))
    return name
