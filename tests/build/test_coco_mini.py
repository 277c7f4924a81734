"""Real COCO photographs through every architecture: from the JSON as it lies, and from parquet shards in the hub's schema."""

from pathlib import Path

import numpy as np
import pytest

from analysis.build.build import build
from analysis.build.plan import DataPlan, SaePlan
from analysis.data.registry import load_pairs
from analysis.store import open_store, verify
from tests.build.folders import small_plan
from tests.data.writers import write_coco_parquet

COCO_MINI = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco-mini"
PICTURES = 3
pytestmark = pytest.mark.skipif(not COCO_MINI.is_dir(), reason="../shared/data/coco-mini is not there")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The same pictures, as bytes in two shards."""
    groups: dict[int, tuple[bytes, list[str]]] = {}
    for sample in load_pairs(COCO_MINI, split="val", limit=PICTURES).samples:
        if sample.picture is not None:
            groups[sample.pair_id] = (sample.picture.bytes(), [])
        else:
            groups[sample.pair_id][1].append(sample.text)
    folder = tmp_path_factory.mktemp("coco-parquet")
    write_coco_parquet(folder, list(groups.values()), split="val", shards=2)
    return folder


@pytest.mark.parametrize("architecture", ["clip", "siglip", "qwen2_vl", "qwen3_vl", "paligemma", "chameleon"])
def test_json_and_parquet_give_one_store_of_every_architecture(checkpoint, shards, tmp_path, architecture):
    stores = []
    for data, limit in ((COCO_MINI, PICTURES), (shards, None)):
        sae = SaePlan(n_concepts=32, top_k=4, steps=5, data=DataPlan(str(data), split="val", limit=limit))
        plan = small_plan(data, checkpoint(architecture), tmp_path, split="val", limit=limit, sae=sae)
        stores.append(open_store(build(plan, say=print)))
    json, parquet = stores
    assert all(verify(store.path).problems == [] for store in stores)
    assert (json.samples["modality"] == "image").sum() == PICTURES
    assert json.samples["text"].tolist() == parquet.samples["text"].tolist()
    assert json.variants == parquet.variants
    for variant in json.variants:
        found, expected = parquet.embeddings(variant), json.embeddings(variant)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        assert np.nanmax(np.abs(found - expected)) <= 1e-5 * np.nanmax(np.abs(expected))
    for task in ("i2t", "t2i"):
        np.testing.assert_array_equal(json.task(task).qrels.toarray(), parquet.task(task).qrels.toarray())
