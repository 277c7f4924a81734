"""Whole builds: image-caption pairs through every architecture, and what a store of them must hold."""

import numpy as np
import pytest

from analysis.build.build import build
from analysis.sae.encode import encode
from analysis.store import open_store, verify
from tests.build.folders import DAMAGED, GOOD_PAIRS, PAIRS, small_plan
from tests.data.writers import write_coco_json, write_coco_parquet, write_plain_folder

SIX = ("clip", "siglip", "qwen2_vl", "qwen3_vl", "paligemma", "chameleon")
MLLM_VARIANTS = {"mean", "last", "mean_no_image", "mean_no_prompt", "mean_no_instruction"}


@pytest.mark.parametrize("architecture", SIX)
def test_every_architecture_builds_a_store_that_verifies(built, architecture):
    report = verify(built(architecture))
    assert report.problems == []
    store = open_store(built(architecture))
    expected = {"mean"} if architecture in ("clip", "siglip") else MLLM_VARIANTS
    assert set(store.variants) == expected
    assert store.tasks == ("i2t", "t2i")
    assert store.backbone == f"tiny-{architecture}"
    assert np.isfinite(store.concepts["attribution"]).all()


@pytest.mark.parametrize("architecture", ["clip", "qwen2_vl"])
def test_codes_are_those_of_the_stored_embeddings(built, architecture):
    store = open_store(built(architecture))
    again = encode(store.sae(), store.embeddings("mean"))
    np.testing.assert_array_equal(again.indices, store.codes.indices)
    np.testing.assert_array_equal(again.values, store.codes.values)


def test_codes_are_those_of_embeddings_stored_in_half_precision(checkpoint, coco_folder, tmp_path):
    plan = small_plan(coco_folder, checkpoint("clip"), tmp_path, embedding_dtype="float16")
    store = open_store(build(plan, say=print))
    assert store._array("embeddings/mean.npy").dtype == np.float16
    again = encode(store.sae(), store.embeddings("mean"))
    np.testing.assert_array_equal(again.values, store.codes.values)


def test_the_damaged_picture_is_counted_named_and_absent(built):
    store = open_store(built("qwen2_vl"))
    counts, skipped = store.facts["counts"], store.facts["skipped"]
    assert (counts["images"], counts["captions"], counts["pairs"]) == (11, 22, 22)
    assert skipped["count"] == 1
    name, reason = skipped["first"]
    assert name not in set(store.samples["sample_id"])
    assert f"{DAMAGED + 1:06d}.png" in reason
    assert skipped["captions"] == 2
    for code, sides in (
        ("t2i", (22, 11)),
        ("i2t", (11, 22)),
    ):  # its captions leave with it: no query asks for it in vain
        task = store.task(code)
        assert (len(task.query_rows), len(task.candidate_rows)) == sides
        assert task.unanswerable_queries == task.missing_targets == 0


def test_embeddings_are_those_of_the_backbone_in_the_order_of_the_samples(built, checkpoint, coco_folder):
    from analysis.build.corpus import load_corpus
    from analysis.build.plan import DataPlan
    from analysis.models.backbones import load_backbone

    store = open_store(built("qwen2_vl"))
    samples = {s.sample_id: s for s in load_corpus(DataPlan(str(coco_folder)), "uniform").samples}
    wanted = [samples[name] for name in store.samples["sample_id"]]
    direct = load_backbone(checkpoint("qwen2_vl"), device="cpu").embed(wanted, variants=("mean", "mean_no_image"))
    for variant in ("mean", "mean_no_image"):
        found = store.embeddings(variant)
        assert np.abs(found - direct.vectors[variant]).max() <= 1e-4 * np.abs(found).max()


def test_three_layouts_of_the_same_pairs_give_the_same_numbers(checkpoint, tmp_path):
    write_coco_json(tmp_path / "json", GOOD_PAIRS)
    write_coco_parquet(tmp_path / "parquet", GOOD_PAIRS, shards=2)
    write_plain_folder(tmp_path / "plain", GOOD_PAIRS, kind="jsonl")
    stores = [
        open_store(build(small_plan(tmp_path / name, checkpoint("clip"), tmp_path / "cache"), say=print))
        for name in ("json", "parquet", "plain")
    ]
    assert all(verify(store.path).ok for store in stores)
    for store in stores[1:]:
        assert store.samples["text"].tolist() == stores[0].samples["text"].tolist()
        np.testing.assert_allclose(store.embeddings(), stores[0].embeddings(), rtol=0, atol=1e-5)
        for task in ("i2t", "t2i"):
            np.testing.assert_array_equal(store.task(task).qrels.toarray(), stores[0].task(task).qrels.toarray())


def test_a_configuration_that_is_built_is_returned_as_it_stands(built, checkpoint, coco_folder):
    path = built("clip")
    before = (path / "manifest.json").stat().st_mtime_ns
    said = []
    again = build(small_plan(coco_folder, checkpoint("clip"), path.parent.parent), say=said.append)
    assert again == path
    assert (path / "manifest.json").stat().st_mtime_ns == before
    assert any("already built" in line for line in said)


def test_a_store_of_concepts_alone_has_no_tasks(checkpoint, coco_folder, tmp_path):
    store = open_store(build(small_plan(coco_folder, checkpoint("clip"), tmp_path, tasks=()), say=print))
    assert store.tasks == ()
    assert verify(store.path).ok
    assert np.isfinite(store.concepts["attribution"]).all()


def test_the_work_folder_of_a_published_store_is_gone(built):
    work = built("clip").parent.parent / "work"
    assert not list(work.glob("store-*"))
    assert list(work.glob("embeddings-*"))


@pytest.mark.parametrize(
    ("until", "leaves"), [("extract", "shard-00000.npz"), ("encode", "codes.npz"), ("score", "concepts.parquet")]
)
def test_a_build_that_stops_early_leaves_what_it_says(checkpoint, coco_folder, tmp_path, until, leaves):
    folder = build(small_plan(coco_folder, checkpoint("clip"), tmp_path), until=until, say=print)
    assert (folder / leaves).is_file()
    assert not list(tmp_path.glob("*/*/manifest.json"))


def test_a_build_goes_on_from_every_step(checkpoint, coco_folder, tmp_path, built):
    plan = small_plan(coco_folder, checkpoint("clip"), tmp_path)
    for until in ("extract", "train-sae", "encode", "score"):
        build(plan, until=until, say=print)
    stepwise = open_store(build(plan, say=print))
    whole = open_store(built("clip"))
    assert stepwise.name == whole.name
    assert {n: f.sha256 for n, f in stepwise.manifest.files.items()} == {
        n: f.sha256 for n, f in whole.manifest.files.items()
    }


def test_defects_of_the_data_stand_in_the_facts(checkpoint, tmp_path):
    import json

    root = tmp_path / "coco"
    path = write_coco_json(root, [*PAIRS[:4], (None, ["a picture that is not there"])])
    content = json.loads(path.read_text())
    content["annotations"][0]["caption"] = float("nan")
    content["annotations"].append({**content["annotations"][1], "image_id": 3})  # an id that was given already
    path.write_text(json.dumps(content))
    whole = (root / "images" / "000004.png").read_bytes()
    (root / "images" / "000004.png").write_bytes(whole[: len(whole) - 40])
    store = open_store(build(small_plan(root, checkpoint("clip"), tmp_path / "cache"), say=print))
    defects = "\n".join(store.facts["defects"])
    for kind in ("1 x empty caption, first: 100", "1 x duplicate caption id", "1 x picture missing, first: 000005.png"):
        assert kind in defects
    name, reason = store.facts["skipped"]["first"]
    assert name.endswith("/4")
    assert "damaged" in reason
    assert verify(store.path).ok


def test_a_known_backbone_reads_its_weights_from_a_folder_and_is_found_there_again(checkpoint, coco_folder, tmp_path):
    from analysis.query.compatibility import check_compatible, request_for
    from analysis.query.query import embed_query
    from analysis.query.slot import load_request

    plan = small_plan(coco_folder, "clip-vit-b32", tmp_path, weights=str(checkpoint("clip")), tasks=("i2t",), limit=4)
    store = open_store(build(plan, say=print))
    assert store.backbone == "clip-vit-b32"
    assert store.path.parent.name == "clip-vit-b32"
    live = load_request(request_for(store, device="cpu"))
    check_compatible(store, embed_query(live, text="a red half", prompts=store.config["prompts"]))
