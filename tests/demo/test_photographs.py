"""Stores of photographs with a demo model: made from a COCO folder as it lies, and said to be out of the model's world."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from analysis.data.registry import CACHE
from analysis.demo import pipeline
from analysis.errors import AnalysisError
from analysis.store import find_stores, open_store, verify
from tests.data.writers import solid, write_coco_json
from tests.pages.opening import open_page, words

MODEL = "clip-mini"
COCO_MINI = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco-mini"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with the demo's store of one model and its SAE."""
    folder = tmp_path_factory.mktemp("cache")
    for place in (MODEL, f"sae/{MODEL}"):
        shutil.copytree(Path(CACHE) / place, folder / place)
    return folder


def photographs(folder, cache, **options):
    said = []
    quiet = {"say": said.append, "progress": lambda *done: None}
    return pipeline.run_photographs(folder, models=(), split=None, cache=cache, **quiet, **options), said


@pytest.fixture(scope="module")
def store(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("holiday")
    write_coco_json(folder, [(solid(40 * i, 90, 200 - 30 * i), [f"caption {i} a", f"caption {i} b"]) for i in range(5)])
    (path,), said = photographs(folder, cache)
    assert any("out of this model's world" in line for line in said)
    return open_store(path)


def test_it_has_the_concepts_of_the_demo(cache, store):
    demo = next(open_store(ref.path) for ref in find_stores(cache) if ref.dataset == "emoji-scenes")
    assert store.config["sae"] == demo.config["sae"]
    assert store.tasks == ("i2t", "t2i")
    assert store.manifest.facts["counts"]["images"] == 5
    assert "untrained SAE" in set(store.results("i2t")["method"])
    assert verify(store.path).problems == []
    assert (demo.out_of_world, store.out_of_world) == (False, True)


def test_pages_say_that_the_data_are_out_of_the_model_s_world(cache, store, monkeypatch):
    note = "these data are out of their world"
    assert note in store.caption
    demo = words(open_page("concepts", cache, monkeypatch))
    assert note not in demo
    assert "emoji-scenes" in demo, "the demo's own data come first"
    assert note in words(open_page("concepts", cache, monkeypatch, store=f"{MODEL}/{store.path.name}"))


def test_without_a_demo_store_it_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(AnalysisError, match=r"holds no demo store.*analysis demo"):
        photographs(tmp_path, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not COCO_MINI.is_dir(), reason="../shared/data/coco-mini is not there")
def test_real_photographs_as_they_lie(cache, monkeypatch):
    monkeypatch.setattr(pipeline, "PHOTOGRAPHS", 4)
    (path,), _ = photographs(COCO_MINI, cache)
    assert open_store(path).manifest.facts["counts"]["images"] == 4
    assert verify(path).problems == []
