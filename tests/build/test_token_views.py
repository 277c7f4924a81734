"""Stored token codes of a model that reads pictures in tiles: each patch is found again at its place."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.build.score import PairRows
from analysis.build.token_views import write_token_views
from analysis.data.samples import Sample
from analysis.models.backbones import load_backbone
from analysis.models.pooling import Role
from analysis.sae.checkpoint import Sae
from analysis.store import open_store
from tests.models.samples import picture
from tests.synthetic_store import make_store


class Kept:
    """What a store's writer is given."""

    def __init__(self) -> None:
        self.files: dict[str, object] = {}

    def table(self, name: str, table: pd.DataFrame) -> None:
        self.files[name] = table

    array = table


@pytest.mark.parametrize("architecture", ["idefics3", "llava_next"])
def test_the_patches_of_tiles_keep_their_places(architecture, tmp_path):
    from analysis.models import tiny_chat

    backbone = load_backbone(tiny_chat.MAKERS[architecture](tmp_path / architecture), device="cpu")
    given = [Sample("a", "image", picture=picture(112, 56, 1)), Sample("b", "text", text="a cat")]
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(32, backbone.width)).astype(np.float32)
    sae = Sae(weights, np.zeros(32, np.float32), weights / np.linalg.norm(weights, axis=1, keepdims=True), 4)
    kept = Kept()
    rows = PairRows(np.array([0]), np.array([1]), np.array([], int), np.array([0]), np.array([1]), "test")
    noted = write_token_views(
        kept, SimpleNamespace(samples=lambda chosen: [given[i] for i in chosen]), sae,
        SimpleNamespace(get=lambda: backbone), rows, count=2, progress=lambda *_: None,
    )  # fmt: skip
    assert noted["samples"] == 2
    index = kept.files["tokens/index.parquet"].set_index("row")
    tokens = backbone.tokens(given[0])
    assert (tokens.roles == Role.IMAGE).sum() > np.prod(tokens.grid)  # the whole picture is shown once more
    assert list(index.loc[0, "cells"]) == tokens.cells.tolist()
    assert list(index.loc[0, "box"]) == [0, 0, 1, 1]
    assert len(index.loc[1, "cells"]) == 0


def test_a_store_with_the_old_columns_shows_rectangles_and_no_tiles(tmp_path):
    """Image tokens that are as many as the grid has cells lie row by row; others have no known place."""
    store = open_store(make_store(tmp_path, tokens=True))
    first = int(store.token_rows[0])
    assert store.token_view(first).cells.tolist() == [1, 2, 3, 4]
    entry = store._token_index
    entry.loc[0, "grid_columns"] = 3
    assert store.token_view(first).grid is None
    entry.loc[0, "grid_columns"] = 2
    for cells, found in (([4, 3, 2, 1], [4, 3, 2, 1]), ([4, 3, 2, 99], None)):
        entry["cells"] = pd.Series([cells, []])
        entry["box"] = pd.Series([[0.1, 0.0, 0.9, 1.0]] * 2)
        view = store.token_view(first)
        assert (None if view.grid is None else view.cells.tolist()) == found
        assert view.grid is None or view.box == (0.1, 0.0, 0.9, 1.0)
