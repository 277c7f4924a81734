"""What the generator knows of the demo's scenes, as evidence for concepts: which attribute a concept really stands for.

The scenes of the test split are drawn again from the generator's seed, without a picture, and count only where every
caption of the store is one of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.concepts.evidence import LEAST, Evidence
from analysis.concepts.held_out import HeldOut, hold_out
from analysis.concepts.metrics import energy, modality_score
from analysis.sae.codes import Codes
from analysis.store.read import Store

if TYPE_CHECKING:
    from analysis.data.emoji_scenes import Scene

MOST = 100_000  # scenes that are drawn at all


@dataclass(frozen=True)
class Truth:
    """held: the test of every concept with attributes of the scenes, chosen on one half and tested on the other; attributes:
    what `held.word` counts; untrained: the median F1 of the SAE that training started from, NaN where no build kept it."""

    held: HeldOut
    attributes: np.ndarray
    untrained: float


def truth_of(store: Store) -> Truth | None:
    """What the concepts of a store stand for; None for data that the generator did not make."""
    scenes = drawn_scenes(store)
    if scenes is None:
        return None
    evidence = scene_evidence(store, scenes)
    held = hold_out(store.codes, evidence, store.concepts["modality_score"].to_numpy(float))
    return Truth(held, evidence.spelled, _untrained(store, evidence))


def _untrained(store: Store, evidence: Evidence) -> float:
    from analysis.sae.checkpoint import load_untrained
    from analysis.sae.encode import encode

    start = load_untrained(store.cache_dir / store.config["sae"]["path"])
    if start is None:
        return float("nan")
    f1 = held_of_codes(encode(start, store.embeddings()), evidence).f1
    return float(np.nanmedian(f1)) if not np.isnan(f1).all() else float("nan")


def held_of_codes(codes: Codes, evidence: Evidence) -> HeldOut:
    """`hold_out` with the modality scores that the codes themselves have on the samples that are evidence."""
    images, texts = (np.flatnonzero((evidence.half >= 0) & side) for side in (evidence.is_image, ~evidence.is_image))
    return hold_out(codes, evidence, modality_score(energy(codes[images]), energy(codes[texts])))


def drawn_scenes(store: Store) -> list[dict[str, Any]] | None:
    """The scenes of the store's pictures, None where its captions are not those of the generator."""
    data, samples = store.config["data"], store.samples
    in_pair = samples["pair_id"].to_numpy() >= 0
    if data["name"] != "emoji-scenes" or data.get("split") != "test" or not in_pair.any():
        return None
    names = [_image_id(name) for name in samples["sample_id"][in_pair]]
    if not all(name.isdecimal() for name in names) or not 0 < max(map(int, names)) <= MOST:
        return None
    found = _test_scenes(max(map(int, names)))
    said = {str(number): set(sentences) for number, (_, sentences) in enumerate(found, start=1)}
    texts = samples["text"][in_pair].to_numpy()
    if not all(not text or text in said[name] for name, text in zip(names, texts, strict=True)):
        return None
    return [{"image_id": number, **scene.truth()} for number, (scene, _) in enumerate(found, start=1)]


@lru_cache(maxsize=2)
def _test_scenes(n: int) -> list[tuple[Scene, list[str]]]:
    """The first n scenes with their captions; all stores of the demo share them."""
    from analysis.data.emoji_scenes import draw_scenes

    return draw_scenes(n, seed=0, split="test", taken=set(), unique=True)


def attributes(scene: Mapping[str, Any]) -> set[str]:
    """What the generator knows of a scene: its objects, their number, ground, layout, relation and categories."""
    found = {f"object {name}" for name in scene["objects"]} | {f"category {name}" for name in scene["categories"]}
    found |= {f"number {count}" for count in scene["counts"]} | {f"size {size}" for size in scene["sizes"]}
    found |= {f"ground {value}" for value in _ground(scene["ground"])} | {f"layout {scene['layout']}"}
    return found | ({f"relation {scene['relation']}"} if scene["relation"] else set())


def scene_evidence(store: Store, scenes: Iterable[Mapping[str, Any]]) -> Evidence:
    """Attributes of the scenes in the place of words, on the pictures and captions of the store's pairs."""
    import scipy.sparse as sp

    known = {str(scene["image_id"]): attributes(scene) for scene in scenes}
    samples = store.samples
    pair = samples["pair_id"].to_numpy()
    names = [_image_id(name) for name in samples["sample_id"]]
    spelled = np.asarray(sorted(set().union(*known.values())) if known else [])
    column = {name: slot for slot, name in enumerate(spelled)}
    rows, columns = [], []
    for row, name in enumerate(names):
        if pair[row] >= 0 and name in known:
            columns += sorted(column[attribute] for attribute in known[name])
            rows += [row] * len(known[name])
    table = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(samples), len(spelled)))
    often = np.flatnonzero(np.asarray((table > 0).sum(axis=0)).ravel() >= LEAST)
    half = np.where(np.diff(table.indptr) > 0, pair % 2, -1).astype(np.int8)
    return Evidence(sp.csr_array(table[:, often]), spelled[often], half, (samples["modality"] == "image").to_numpy())


def _ground(ground: Any) -> list[str]:
    """What is said of a ground: of a scene just drawn it is an object of its own."""
    values = ground.values() if isinstance(ground, Mapping) else vars(ground).values()
    return np.hstack(list(values)).astype(str).tolist()


def _image_id(sample: object) -> str:
    """ "test/3#15" -> "3": the picture that a sample belongs to."""
    return str(sample).split("/")[-1].split("#")[0]
