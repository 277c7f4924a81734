"""Synthetic stores of any size for the page benchmark: codes with Zipf use, scores and retrieval that follow from them.

They lie in a cache folder of their own, so that the app never lists them beside real ones. Bridges, neighbours, names and
the map are drawn at random: a page takes as long to show them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import __version__
from analysis.bench.synthetic import dictionary, paired_codes
from analysis.build.stored_tasks import write_results
from analysis.concepts.metrics import attribution_score, combined_energy, energy, frequency, modality_score
from analysis.concepts.postings import build_postings
from analysis.concepts.scores import score_names
from analysis.sae.checkpoint import Sae, load_sae, save_sae
from analysis.sae.codes import Codes
from analysis.store.schema import MANIFEST
from analysis.store.write import StoreWriter

GENERATOR = 4  # raise it when stores made before are no longer what this makes
CAPTIONS = 4  # of each picture
ATTRIBUTED = 20_000  # pairs that attribution is averaged over
PICTURES = 48
WORDS = [a + b for a in "ba do ki lu me no pa ri su ta ve zo".split() for b in "bo da ke li mu na po re si tu".split()]


def synthetic_store(
    cache: Path, *, n_concepts: int, n_samples: int, width: int, n_queries: int, n_candidates: int, top_k: int = 50
) -> Path:
    """The folder of the store; written first unless it stands there from an earlier run. One picture to four captions."""
    n_pictures = n_samples // (CAPTIONS + 1)
    key = f"synthetic-k{n_concepts}"
    sae, sae_path = _sae(cache, key, n_concepts, width, top_k)
    atoms = sae.dictionary
    config = _config(key, sae, sae_path, n_pictures, [width, n_queries, n_candidates])
    with StoreWriter(cache, key, "synthetic", config) as writer:
        if (writer.target / MANIFEST).is_file():
            return writer.target
        samples = _samples(n_pictures)
        is_image = (samples["modality"] == "image").to_numpy()
        codes = _codes(n_pictures, n_concepts, top_k, is_image)
        samples["thumb"] = _thumbs(writer, is_image)
        writer.samples(samples)
        writer.array("codes/indices.npy", codes.indices)
        writer.array("codes/values.npy", codes.values)
        postings = build_postings(codes)
        for part, array in zip(
            ("offsets", "rows", "values"), (postings.offsets, postings.sample_rows, postings.values), strict=True
        ):
            writer.array(f"postings/{part}.npy", array)
        writer.concepts(_concepts(codes, is_image, atoms))
        writer.bridges(_bridges(n_concepts))
        rng = np.random.default_rng(8)
        writer.array("neighbours.npy", rng.integers(0, n_concepts, (n_concepts, 16)).astype(np.int32))
        writer.array("embeddings/mean.npy", _embeddings(codes, atoms))
        tasks = {name: _task(writer, name, is_image, n_queries, n_candidates) for name in ("i2t", "t2i")}
        facts = _facts(codes, n_pictures)
        write_results(writer, facts, tasks, lambda step, done, total: None, device="cpu")
        return writer.publish(facts, tasks)


def _sae(cache: Path, key: str, n_concepts: int, width: int, top_k: int) -> tuple[Sae, str]:
    """(the SAE, its folder in the cache)"""
    path = f"sae/{key}/synthetic-d{width}-k{top_k}"
    if (cache / path).is_dir():
        return load_sae(cache / path), path
    atoms = dictionary(n_concepts, width, seed=6)
    return save_sae(Sae(atoms, np.zeros(n_concepts), atoms, top_k, {"unit": "pooled"}), cache / path), path


def _config(key: str, sae: Sae, sae_path: str, n_pictures: int, sizes: list[int]) -> dict[str, Any]:
    backbone = {"key": key, "model": key, "revision": "none", "tap": "none", "dtype": "float32", "contrastive": False}
    facts = {"path": sae_path, "sha256": sae.sha256, "unit": "pooled", "n_concepts": sae.n_concepts, "top_k": sae.top_k}
    data = {
        "name": "synthetic",
        "revision": str(GENERATOR),
        "split": "",
        "n": n_pictures,
        "seed": 0,
        "tasks": ["i2t", "t2i"],
    }
    return {
        "backbone": backbone, "sae": facts, "prompts": "uniform", "sample_code": "pool_then_encode",
        "weighting": "samples", "embedding_dtype": "float16", "data": data, "sizes": sizes,
    }  # fmt: skip


def _samples(n_pictures: int) -> pd.DataFrame:
    """Each picture, then its captions."""
    pair = np.repeat(np.arange(n_pictures, dtype=np.int32), CAPTIONS + 1)
    place = np.arange(len(pair)) % (CAPTIONS + 1)
    words = np.random.default_rng(7).choice(WORDS, (len(pair), 9))
    text = np.asarray([" ".join(row) for row in words], object)
    return pd.DataFrame(
        {
            "sample_id": [f"{p}:{c}" for p, c in zip(pair, place, strict=True)], "pair_id": pair,
            "modality": np.where(place == 0, "image", "text"), "text": np.where(place == 0, "", text),
            "instruction": "", "thumb": "", "source": "synthetic", "split": "", "licence": "",
        }
    )  # fmt: skip


def _codes(n_pictures: int, n_concepts: int, top_k: int, is_image: np.ndarray) -> Codes:
    image, text = paired_codes(n_pictures * CAPTIONS, n_concepts, top_k, seed=7)
    indices, values = np.zeros((len(is_image), top_k), np.int32), np.zeros((len(is_image), top_k), np.float32)
    for rows, side in ((is_image, image[::CAPTIONS]), (~is_image, text)):
        indices[rows], values[rows] = side.indices, side.values
    return Codes(indices, values, n_concepts)


def _embeddings(codes: Codes, atoms: np.ndarray) -> np.ndarray:
    h = np.empty((len(codes), atoms.shape[1]), np.float16)
    for start in range(0, len(codes), 8192):
        rows = slice(start, start + 8192)
        h[rows] = codes[rows].to_csr() @ atoms
    return h


def _concepts(codes: Codes, is_image: np.ndarray, atoms: np.ndarray) -> pd.DataFrame:
    image, text = codes[is_image], codes[~is_image]
    sides = energy(image), energy(text)
    n_image, n_text = len(image), len(text)
    often = frequency(image), frequency(text)
    pairs = min(n_image, ATTRIBUTED)
    attribution = attribution_score(image[:pairs], text[::CAPTIONS][:pairs], atoms)
    rng = np.random.default_rng(9)
    k = codes.n_concepts
    bridge = np.exp(rng.normal(-6, 1, (4, k)))
    x, y = rng.normal(size=(2, k)).astype(np.float32)
    belief = {name: rng.beta(1, 4, k) for name in score_names()}  # drawn: no page is faster or slower for their values
    return pd.DataFrame(
        belief | {
            "energy": combined_energy(*sides, n_image=n_image, n_text=n_text), "energy_image": sides[0],
            "energy_text": sides[1], "modality_score": modality_score(*sides),
            "frequency": combined_energy(*often, n_image=n_image, n_text=n_text), "frequency_image": often[0],
            "frequency_text": often[1], "bridge_max": bridge[0], "bridge_diagonal": bridge[1],
            "bridge_off_diagonal": bridge[2], "bridge_abs_sum": bridge[3],
            "bridge_partner": rng.integers(0, k, k), "attribution": attribution.total,
            "attribution_image": attribution.image, "attribution_text": attribution.text, "map_x": x, "map_y": y,
            "name": [", ".join(row) for row in rng.choice(WORDS, (k, 3))], "second_word": rng.choice(WORDS, k),
            "second_model": "drawn",
        }
    )  # fmt: skip


def _bridges(n_concepts: int, n: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(10)
    coactivation, cosine = np.sort(np.exp(rng.normal(-5, 1, n)))[::-1], rng.uniform(0.2, 0.9, n)
    bridge = coactivation * cosine
    image, text = np.divmod(rng.choice(n_concepts**2, n, replace=False), n_concepts)
    return pd.DataFrame(
        {
            "image_concept": image.astype(np.int32), "text_concept": text.astype(np.int32),
            "coactivation": coactivation, "cosine": cosine, "bridge": bridge, "null_quantile": bridge / 4,
            "excess": bridge * 3 / 4,
        }
    )  # fmt: skip


def _task(writer: StoreWriter, name: str, is_image: np.ndarray, n_queries: int, n_candidates: int) -> dict[str, Any]:
    """The first n_candidates of the other side; queries spread over the pairs that have a candidate."""
    pair = np.cumsum(is_image) - 1
    images, texts = np.flatnonzero(is_image), np.flatnonzero(~is_image)
    sources, pool = (images, texts) if name == "i2t" else (texts, images)
    candidates = pool[:n_candidates]
    sources = sources[pair[sources] <= pair[candidates[-1]]]
    queries = sources[np.linspace(0, len(sources) - 1, min(n_queries, len(sources))).astype(int)]
    first = np.searchsorted(pair[candidates], pair[queries], side="left")
    count = np.searchsorted(pair[candidates], pair[queries], side="right") - first
    query = np.repeat(np.arange(len(queries)), count)
    within = np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)
    relevant = np.stack([query, np.repeat(first, count) + within, np.ones_like(query)], axis=1)
    writer.array(f"retrieval/{name}/queries.npy", queries.astype(np.int32))
    writer.array(f"retrieval/{name}/candidates.npy", candidates.astype(np.int32))
    writer.array(f"retrieval/{name}/qrels.npy", relevant.astype(np.int32))
    return {
        "prompts": {"queries": "", "candidates": ""}, "n_queries": len(queries), "n_candidates": len(candidates),
        "missing_targets": 0, "unanswerable_queries": 0, "note": "",
    }  # fmt: skip


def _facts(codes: Codes, n_pictures: int) -> dict[str, Any]:
    quality = {"r2_per_dimension": 1.0, "r2_scalar_mean": 1.0, "l0": 50.0, "dead_share": 0.0, "n": len(codes)}
    n_captions = n_pictures * CAPTIONS
    return {
        "demo": False,
        "counts": {"samples": len(codes), "images": n_pictures, "captions": n_captions, "pairs": n_captions},
        "quality": {"all": quality, "image": quality, "text": quality},
        "defects": [],
        "versions": {"retrievallens": __version__},
        "commit": "",
    }


def _thumbs(writer: StoreWriter, is_image: np.ndarray) -> np.ndarray:
    from PIL import Image

    rng = np.random.default_rng(11)
    for number in range(PICTURES):
        picture = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        picture.resize((256, 192), Image.Resampling.BICUBIC).save(buffer, "WEBP", quality=80)
        writer.path(f"thumbs/{number:04d}.webp").write_bytes(buffer.getvalue())
    names = np.asarray([f"thumbs/{number:04d}.webp" for number in range(PICTURES)], object)
    return np.where(is_image, names[np.arange(len(is_image)) % PICTURES], "")
