"""One tiny MLLM and one tiny dual encoder, their stores, and the loaded backbones, made once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.models.backbones import Backbone, load_backbone
from analysis.store import Store, open_store
from tests.query.live_store import make_checkpoint, make_live_store


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {family: make_checkpoint(folder / f"tiny-{family}", family) for family in ("qwen2_vl", "clip")}


@pytest.fixture(scope="session")
def live_cache(tmp_path_factory: pytest.TempPathFactory, checkpoints: dict[str, Path]) -> Path:
    cache = tmp_path_factory.mktemp("live") / "cache"
    for checkpoint in checkpoints.values():
        make_live_store(cache, checkpoint)
    return cache


@pytest.fixture(scope="session")
def stores(live_cache: Path) -> dict[str, Store]:
    return {family: open_store(next((live_cache / f"tiny-{family}").iterdir())) for family in ("qwen2_vl", "clip")}


@pytest.fixture(scope="session")
def mllm(checkpoints: dict[str, Path]) -> Iterator[Backbone]:
    backbone = load_backbone(checkpoints["qwen2_vl"], device="cpu", dtype="float32")
    yield backbone
    backbone.unload()


@pytest.fixture(scope="session")
def dual(checkpoints: dict[str, Path]) -> Iterator[Backbone]:
    backbone = load_backbone(checkpoints["clip"], device="cpu", dtype="float32")
    yield backbone
    backbone.unload()
