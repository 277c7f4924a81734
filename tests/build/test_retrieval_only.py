"""Data that hold retrieval tasks and no captions: every code in both layouts, and which samples the scores are about."""

import numpy as np
import pytest

from analysis.build.build import build
from analysis.data.samples import TASKS
from analysis.errors import UnsupportedModality
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.interventions import BASE
from analysis.retrieval.task import space_from_store
from analysis.store import open_store, verify
from analysis.store.schema import NO_PAIRS
from tests.build.folders import small_plan, task_sides, write_task
from tests.data.writers import Item, write_coco_json, write_mbeir_jsonl, write_mbeir_parquet, write_plain_folder


def built(root, checkpoint, cache, **options):
    model = checkpoint(options.pop("architecture", "clip"))
    return open_store(
        build(small_plan(root, model, cache, fusion="sum_of_unit_vectors", token_views=2, **options), say=print)
    )


@pytest.mark.parametrize("code", TASKS)
def test_a_task_of_every_code_builds_from_both_layouts(checkpoint, tmp_path, code):
    stores = {}
    for layout in ("parquet", "jsonl"):
        root = write_task(tmp_path / layout, code, layout)
        stores[layout] = store = built(root, checkpoint, tmp_path / f"cache-{layout}")
        assert verify(store.path).problems == []
        task = store.task(code)
        assert (len(task.query_rows), len(task.candidate_rows)) == (6, 9)
        np.testing.assert_array_equal(task.qrels.toarray(), np.eye(6, 9))
        assert len(store.results(code)) > 0
    both = [store.embeddings() for store in stores.values()]
    np.testing.assert_allclose(both[0], both[1], rtol=0, atol=1e-5)


def test_an_mllm_builds_a_task_of_image_and_text_queries(checkpoint, tmp_path):
    root = write_task(tmp_path, "it2i", "parquet")
    store = built(root, checkpoint, tmp_path / "cache", architecture="qwen2_vl")
    assert verify(store.path).problems == []
    assert "mean_no_image" in store.variants


@pytest.mark.parametrize("large", [False, True])
def test_a_dual_encoder_refuses_image_and_text_before_anything_is_embedded(checkpoint, tmp_path, monkeypatch, large):
    if large:  # sides are then left as the loader holds them
        monkeypatch.setattr("analysis.build.corpus.COMPARED", 3)
    for code in ("i2i", "it2i"):
        write_task(tmp_path / "data", code, "parquet")
    plan = small_plan(tmp_path / "data", checkpoint("clip"), tmp_path / "cache")
    with pytest.raises(
        UnsupportedModality, match=r"together occur in it2i; .*--fusion sum_of_unit_vectors.*--tasks i2i"
    ):
        build(plan, say=print)
    assert not list((tmp_path / "cache").glob("work/embeddings-*"))


@pytest.mark.parametrize(
    ("code", "image", "text", "both", "pairs"),
    [("i2t", 6, 9, 0, 6), ("t2i", 9, 6, 0, 6), ("i2i", 15, 0, 0, 0), ("it2i", 9, 0, 6, 0), ("it2it", 0, 0, 15, 0)],
)
def test_scores_are_about_the_samples_of_each_modality(checkpoint, tmp_path, code, image, text, both, pairs):
    store = built(write_task(tmp_path, code, "parquet"), checkpoint, tmp_path / "cache")
    counts, concepts = store.facts["counts"], store.concepts
    assert [counts[name] for name in ("images", "captions", "image_texts", "pairs")] == [image, text, both, pairs]
    assert store.facts["pairs_from"] == (f"queries and targets of {code}" if pairs else NO_PAIRS)
    assert concepts["attribution"].isna().all() == (pairs == 0)
    assert concepts["modality_score"].isna().all() == (not (image and text))
    dense = np.zeros((store.n_samples, store.n_concepts))
    np.put_along_axis(dense, np.asarray(store.codes.indices), np.asarray(store.codes.values), axis=1)
    np.testing.assert_allclose(concepts["energy"], dense.mean(axis=0), rtol=1e-6)
    of_images = dense[(store.samples["modality"] == "image").to_numpy()]
    np.testing.assert_allclose(concepts["energy_image"], of_images.mean(axis=0) if image else 0, rtol=1e-6, atol=0)


def test_attribution_is_over_queries_and_targets(checkpoint, tmp_path):
    store = built(write_task(tmp_path, "t2i", "parquet"), checkpoint, tmp_path / "cache")
    task, dictionary = store.task("t2i"), store.sae().dictionary.astype(np.float64)
    dense = np.zeros((store.n_samples, store.n_concepts))
    np.put_along_axis(dense, np.asarray(store.codes.indices), np.asarray(store.codes.values), axis=1)
    gram, expected = dictionary @ dictionary.T, np.zeros(store.n_concepts)
    query, target = task.qrels.nonzero()
    for q, c in zip(task.query_rows[query], task.candidate_rows[target], strict=True):
        image, text = dense[c], dense[q]
        expected += image * (gram @ text) + text * (gram @ image)
    np.testing.assert_allclose(store.concepts["attribution"], expected / 6, rtol=1e-4, atol=1e-8)


def test_removal_has_no_rows_where_concepts_have_no_attribution(checkpoint, tmp_path):
    store = built(write_task(tmp_path, "i2i", "parquet"), checkpoint, tmp_path / "cache")
    methods = set(store.results("i2i")["method"])
    assert "base" in methods
    assert "removal" not in methods


def test_targets_that_no_pool_holds_are_counted_per_query(checkpoint, tmp_path):
    queries, candidates = task_sides("t2i")
    qrels = [("q:0", "c:0"), ("q:0", "c:gone"), ("q:1", "c:gone"), ("q:2", "c:2"), ("q:3", "c:3")]
    root = write_mbeir_parquet(tmp_path / "mbeir_toy_task1", queries, candidates, qrels)
    store = built(root, checkpoint, tmp_path / "cache")
    task = store.task("t2i")
    np.testing.assert_array_equal(task.missing_per_query, [1, 1, 0, 0])
    assert (task.missing_targets, task.unanswerable_queries) == (2, 1)
    assert any("unknown candidate in qrels" in line for line in store.facts["defects"])
    assert verify(store.path).ok


def test_recall_by_fraction_divides_by_the_missing_targets_too(checkpoint, tmp_path):
    queries, candidates = task_sides("t2i")
    qrels = [("q:0", "c:0"), ("q:0", "c:gone"), ("q:1", "c:gone"), ("q:2", "c:2"), ("q:3", "c:3")]
    root = write_mbeir_parquet(tmp_path / "mbeir_toy_task1", queries, candidates, qrels)
    space = space_from_store(built(root, checkpoint, tmp_path / "cache"), "t2i")
    for definition, expected in (("hit", 3 / 4), ("fraction", (0.5 + 0 + 1 + 1) / 4)):
        table = evaluate(space, [BASE], ks=(9,), definition=definition)
        assert table["recall"].item() == pytest.approx(expected)


def test_two_folders_of_one_code_are_two_tasks(checkpoint, tmp_path):
    for name in ("mbeir_one_task5", "mbeir_two_task5"):
        write_task(tmp_path / "data", "i2i", "parquet", name)
    store = built(tmp_path / "data", checkpoint, tmp_path / "cache")
    assert set(store.tasks) == {"i2i-mbeir_one_task5", "i2i-mbeir_two_task5"}
    one, two = (store.task(name) for name in store.tasks)
    np.testing.assert_array_equal(one.query_rows, two.query_rows)  # the same pictures are embedded once
    assert store.n_samples == 6 + 9


def test_pairs_and_tasks_of_one_folder_share_a_store(checkpoint, tmp_path):
    queries, candidates = task_sides("it2i")
    write_plain_folder(tmp_path / "data", [(item.image, ["a caption"]) for item in candidates])
    write_task(tmp_path / "data", "it2i", "parquet")
    store = built(tmp_path / "data", checkpoint, tmp_path / "cache")
    assert set(store.tasks) == {"i2t", "t2i", "it2i"}
    assert store.facts["pairs_from"] == "image-caption pairs"
    assert store.facts["counts"]["image_texts"] == 0  # retrieval only: not what the concept scores are about
    pool = store.task("it2i").candidate_rows
    assert (store.samples["pair_id"].to_numpy()[pool] >= 0).all()  # the candidates are the pictures of the pairs
    assert len(queries) == 6


def test_captions_come_before_a_folder_of_the_same_code(checkpoint, tmp_path):
    write_coco_json(tmp_path / "data", [(item.image, ["a caption"]) for item in task_sides("i2i")[1]])
    write_task(tmp_path / "data", "t2i", "parquet", "mbeir_toy_task1")
    store = built(tmp_path / "data", checkpoint, tmp_path / "cache")
    assert set(store.tasks) == {"i2t", "t2i"}
    assert len(store.task("t2i").query_rows) == 9
    assert any("mbeir_toy_task1 (t2i) is left out" in note for note in store.facts["notes"])
    named = built(tmp_path / "data", checkpoint, tmp_path / "cache", tasks=("mbeir_toy_task1",))
    assert named.tasks == ("t2i-mbeir_toy_task1",)
    assert len(named.task("t2i-mbeir_toy_task1").query_rows) == 6


def test_a_mixed_pool_gives_every_candidate_the_sentence_of_its_modality(checkpoint, tmp_path):
    queries, pictures = task_sides("t2i")
    words = [Item(f"w:{index}", f"only words, number {index}") for index in range(3)]
    qrels = [(query.id, candidate.id) for query, candidate in zip(queries, pictures, strict=False)]
    root = tmp_path / "mbeir"
    write_mbeir_jsonl(root, "mbeir_toy_task0", queries, [*words, *pictures], qrels, pool="global")
    store = built(root, checkpoint, tmp_path / "cache", architecture="qwen2_vl", pool="global")
    sentences = dict(zip(store.samples["modality"], store.samples["instruction"], strict=True))
    assert "image" in sentences["image"]
    assert "sentence" in sentences["text"]
    assert len(store.task("t2i").candidate_rows) == 12
