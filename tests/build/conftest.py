"""Tiny backbones, tiny data and small plans that every test of the builder shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.build.build import build
from tests.build.folders import PAIRS, checkpoint_of, small_plan
from tests.data.writers import write_coco_json


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """checkpoint("clip") -> folder of a tiny model."""
    home, made = tmp_path_factory.mktemp("tiny-models"), {}

    def get(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = checkpoint_of(architecture, home)
        return made[architecture]

    return get


@pytest.fixture(scope="session")
def tiny_qwen(checkpoint: Callable[[str], Path]) -> Path:
    return checkpoint("qwen2_vl")


@pytest.fixture(scope="session")
def coco_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 pictures of two colours with two captions each, one picture file damaged."""
    root = tmp_path_factory.mktemp("coco-tiny")
    write_coco_json(root, PAIRS, split="test")
    return root


@pytest.fixture(scope="session")
def built(
    checkpoint: Callable[[str], Path], coco_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """built("clip") -> the store of coco_folder through that architecture. All lie in one cache."""
    cache, made = tmp_path_factory.mktemp("cache"), {}

    def get(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = build(small_plan(coco_folder, checkpoint(architecture), cache), say=lambda text: None)
        return made[architecture]

    return get
