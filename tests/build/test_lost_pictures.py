"""The one rule for pictures that cannot be embedded: pairs leave whole, lost targets of qrels count as missing."""

import pytest

from analysis.build.build import build
from analysis.data.registry import load_retrieval
from analysis.store import open_store, verify
from tests.build.folders import GOOD_PAIRS, small_plan
from tests.data.writers import Item, write_coco_json, write_mbeir_parquet


@pytest.fixture(scope="module")
def store(checkpoint, tmp_path_factory):
    """Six pairs, number 2 without a usable picture; a t2i task with a damaged candidate, whose first query says the same as
    a caption of that picture."""
    root = tmp_path_factory.mktemp("mixed")
    pairs = [(picture if i != 2 else b"damaged", texts) for i, (picture, texts) in enumerate(GOOD_PAIRS[:6])]
    write_coco_json(root, pairs)
    queries = [Item("q:0", GOOD_PAIRS[2][1][0]), Item("q:1", "another text"), Item("q:2", "a third")]
    pool = [Item(f"c:{i}", None, GOOD_PAIRS[6 + i][0] if i != 1 else b"damaged too") for i in range(4)]
    write_mbeir_parquet(root / "mbeir_toy_task1", queries, pool, [("q:0", "c:0"), ("q:1", "c:1"), ("q:2", "c:2")])
    assert load_retrieval(root / "mbeir_toy_task1").task == "t2i"
    said = []
    plan = small_plan(
        root, checkpoint("clip"), tmp_path_factory.mktemp("cache"), tasks=("i2t", "t2i", "mbeir_toy_task1")
    )
    found = open_store(build(plan, say=said.append))
    return found, "\n".join(said)


def test_a_pair_leaves_whole(store):
    found, said = store
    counts = found.facts["counts"]
    assert (counts["images"], counts["captions"], counts["pairs"]) == (5, 10, 10)
    for code, sides in (("i2t", (5, 10)), ("t2i", (10, 5))):
        task = found.task(code)
        assert (len(task.query_rows), len(task.candidate_rows), task.missing_targets) == (*sides, 0)
    assert "2 samples left out, and with them 2 captions" in said
    assert verify(found.path).ok


def test_every_picture_left_out_is_named_with_its_reason(store):
    found, said = store
    reasons = found.facts["skipped"]["reasons"]
    assert len(reasons) == found.facts["skipped"]["count"] == 2
    for name, reason in reasons.items():
        assert name in said
        assert "is not a picture" in reason


def test_a_lost_target_of_qrels_is_a_miss(store):
    found, _ = store
    task = found.task("t2i-mbeir_toy_task1")
    assert (len(task.query_rows), len(task.candidate_rows)) == (3, 3)
    assert task.missing_per_query.tolist() == [0, 1, 0]
    assert task.unanswerable_queries == 1


def test_a_caption_that_is_a_query_of_its_own_stays_for_that_task(store):
    found, _ = store
    task = found.task("t2i-mbeir_toy_task1")
    (row,) = [row for row in task.query_rows if found.samples["text"][row] == GOOD_PAIRS[2][1][0]]
    assert row not in set(found.task("t2i").query_rows)
