"""Tiny checkpoints, made once a session, and the backbones loaded from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.models.backbones import Backbone, load_backbone


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """checkpoint("qwen2_vl", padding_side="right") -> folder."""
    made: dict[tuple, Path] = {}

    def get(architecture: str, **options: str) -> Path:
        key = (architecture, *sorted(options.items()))
        if key not in made:
            from analysis.models import tiny, tiny_chat

            folder = tmp_path_factory.mktemp("checkpoints") / "-".join([architecture, *options.values()])
            made[key] = (tiny.MAKERS | tiny_chat.MAKERS)[architecture](folder, **options)
        return made[key]

    return get


@pytest.fixture(scope="session")
def backbone(checkpoint: Callable[..., Path]) -> Callable[..., Backbone]:
    """backbone("clip", fusion=...) -> a shared Backbone on the CPU; tests must not change it."""
    loaded: dict[tuple, Backbone] = {}

    def get(architecture: str, **options: str) -> Backbone:
        key = (architecture, *sorted(options.items()))
        if key not in loaded:
            loaded[key] = load_backbone(checkpoint(architecture), device="cpu", **options)
        return loaded[key]

    return get
