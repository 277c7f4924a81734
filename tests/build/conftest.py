"""A tiny backbone and tiny data that every test of the builder shares."""

from pathlib import Path

import pytest
from PIL import Image

from analysis.models.tiny import make_qwen2_vl
from tests.data.writers import write_coco_json

COLOURS = {"red": (200, 30, 30), "blue": (30, 60, 200), "green": (40, 160, 60), "white": (240, 240, 240)}


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_qwen2_vl(tmp_path_factory.mktemp("qwen") / "tiny-qwen2-vl")


@pytest.fixture(scope="session")
def coco_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 pictures of two colours with two captions each, one picture file damaged."""
    root = tmp_path_factory.mktemp("coco-tiny")
    names = list(COLOURS)
    pairs = []
    for index in range(12):
        left, right = names[index % 4], names[(index + 1 + index // 4) % 4]
        picture = Image.new("RGB", (56, 56), COLOURS[left])
        picture.paste(COLOURS[right], (28, 0, 56, 56))
        captions = [f"a {left} half beside a {right} half, number {index}", f"{left} and {right} {index}"]
        pairs.append((picture if index != 5 else b"not a picture", captions))
    write_coco_json(root, pairs, split="test")
    return root
