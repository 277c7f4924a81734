"""The splits of EmojiScenes in memory: symbolic scenes, captions and a memory-mapped array of pictures for training."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.data.emoji_grounds import SIDE
from analysis.data.emoji_scenes import Scene, draw_scenes, render

N_TRAIN, N_TEST = 24_000, 1_000


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


def draw_splits(n_train: int, n_test: int, *, seed: int) -> dict[str, list[tuple[Scene, list[str]]]]:
    """Scenes and captions of both splits. Their scenes are disjoint: the test split is drawn first and its scenes are
    then taken. Within the test split no caption belongs to two scenes."""
    taken: set[Scene] = set()
    test = draw_scenes(n_test, seed=seed, split="test", taken=taken, unique_captions=True)
    train = draw_scenes(n_train, seed=seed, split="train", taken=taken, unique_captions=False)
    return {"train": train, "test": test}


def load_splits(
    root: Path, *, n_train: int = N_TRAIN, n_test: int = N_TEST, seed: int = 0
) -> tuple[EmojiSplit, EmojiSplit]:
    """(train, test). Pictures are rendered once into <root>/arrays/*.npy (38 kB each) and memory-mapped afterwards."""
    splits = []
    for name, drawn in draw_splits(n_train, n_test, seed=seed).items():
        path = root / "arrays" / f"{name}-{len(drawn)}-seed{seed}.npy"
        if not path.exists():
            _render_all(path, [scene for scene, _ in drawn], seed=seed, split=name)
        pictures = np.load(path, mmap_mode="r")
        splits.append(EmojiSplit(name, [scene for scene, _ in drawn], [five for _, five in drawn], pictures))
    return splits[0], splits[1]


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
