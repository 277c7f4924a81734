"""The splits of EmojiScenes in memory: symbolic scenes, captions and a memory-mapped array of pictures for training."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.data.emoji_grounds import SIDE
from analysis.data.emoji_scenes import Scene, draw_scenes, render

N_TRAIN, N_VAL, N_TEST = 24_000, 2_000, 1_000
GENERATOR = 2  # raised when the same seed would give other pictures or captions


@dataclass(frozen=True)
class EmojiSplit:
    """Scene i, its five captions and its picture. pictures: (N, SIDE, SIDE, 3) uint8, read-only."""

    name: str
    scenes: list[Scene]
    captions: list[list[str]]
    pictures: np.ndarray

    def __len__(self) -> int:
        return len(self.scenes)

    def captions_flat(self) -> list[str]:
        return [sentence for five in self.captions for sentence in five]


@dataclass(frozen=True)
class Splits:
    """train: for learning; val: for every choice (recipes, thresholds); test: for reporting only."""

    train: EmojiSplit
    val: EmojiSplit
    test: EmojiSplit

    def __iter__(self) -> Iterator[EmojiSplit]:
        return iter((self.train, self.val, self.test))


def draw_splits(n_train: int, n_val: int, n_test: int, *, seed: int) -> dict[str, list[tuple[Scene, list[str]]]]:
    """Scenes and captions of the splits, which share no scene: test is drawn first, then val, and both are taken. Within
    the test split no scene recurs and no caption belongs to two scenes."""
    test = draw_scenes(n_test, seed=seed, split="test", taken=set(), unique=True)
    taken = {scene for scene, _ in test}
    val = draw_scenes(n_val, seed=seed, split="val", taken=taken)
    train = draw_scenes(n_train, seed=seed, split="train", taken=taken | {scene for scene, _ in val})
    return {"train": train, "val": val, "test": test}


def load_splits(
    root: Path, *, n_train: int = N_TRAIN, n_val: int = N_VAL, n_test: int = N_TEST, seed: int = 0
) -> Splits:
    """Pictures are rendered once into <root>/arrays/*.npy (28 kB each) and memory-mapped afterwards."""
    splits = {}
    for name, drawn in draw_splits(n_train, n_val, n_test, seed=seed).items():
        path = root / "arrays" / f"{name}-v{GENERATOR}-{len(drawn)}-seed{seed}.npy"
        if not path.exists():
            _render_all(path, [scene for scene, _ in drawn], seed=seed, split=name)
        pictures = np.load(path, mmap_mode="r")
        splits[name] = EmojiSplit(name, [scene for scene, _ in drawn], [five for _, five in drawn], pictures)
    return Splits(**splits)


def pixel_rng(seed: int, split: str, index: int, rendering: int = 0) -> random.Random:
    """The generator that places and shades scene `index`; rendering 1, 2, ... show the same scene differently."""
    return random.Random(f"{seed}/{split}/{index}/pixels/{rendering}")


def _render_all(path: Path, scenes: list[Scene], *, seed: int, split: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    pictures = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(len(scenes), SIDE, SIDE, 3))
    for index, scene in enumerate(scenes):
        pictures[index] = render(scene, pixel_rng(seed, split, index))
    pictures.flush()
    os.replace(part, path)
