import pytest

from analysis.build.plan import DataPlan
from analysis.build.tasks import choose_tasks
from analysis.data.registry import load_pairs
from analysis.errors import DataError
from tests.build.folders import GOOD_PAIRS, write_task
from tests.data.writers import write_coco_json, write_plain_folder


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Pairs, and folders of t2i, i2i (twice) and it2i beside them."""
    root = tmp_path_factory.mktemp("both") / "data"
    write_plain_folder(root, GOOD_PAIRS[:4])
    for name, code in (("toy_task1", "t2i"), ("first_task5", "i2i"), ("second_task5", "i2i"), ("toy_task7", "it2i")):
        write_task(root, code, "parquet", f"mbeir_{name}")
    return root


def chosen(root, tasks=None, pairs=True, **options):
    plan = DataPlan(str(root), tasks=tasks, **options)
    return choose_tasks(plan, load_pairs(root) if pairs else None, cache=root)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, {"i2t", "t2i", "i2i-mbeir_first_task5", "i2i-mbeir_second_task5", "it2i"}),
        ((), set()),
        (("i2t",), {"i2t"}),
        (("t2i", "it2i"), {"t2i", "it2i"}),
        (("i2i",), {"i2i-mbeir_first_task5", "i2i-mbeir_second_task5"}),
        (("mbeir_second_task5",), {"i2i-mbeir_second_task5"}),
        (("i2i-mbeir_first_task5",), {"i2i-mbeir_first_task5"}),
        (("mbeir_toy_task1",), {"t2i-mbeir_toy_task1"}),
    ],
)
def test_tasks_are_asked_for_by_code_folder_or_name(both, asked, found):
    assert set(chosen(both, asked)[0]) == found


def test_a_folder_that_the_captions_replace_is_named(both):
    notes = chosen(both)[1]
    assert len(notes) == 1
    assert "--tasks t2i-mbeir_toy_task1" in notes[0]
    assert chosen(both, ("it2i",))[1] == []


def test_without_pairs_a_folder_has_its_code(both):
    found, notes = chosen(both, ("t2i",), pairs=False)
    assert (list(found), notes) == (["t2i"], [])


def test_an_unknown_task_names_what_there_is(both):
    with pytest.raises(DataError, match=r"holds no task mbeir_toy_task9; expected some of i2t, t2i, .*Did you mean"):
        chosen(both, ("i2t", "mbeir_toy_task9"))


def test_a_split_is_that_of_the_query_files(tmp_path):
    from tests.build.folders import task_sides
    from tests.data.writers import write_mbeir_jsonl

    queries, candidates = task_sides("i2i")
    qrels = [("q:0", "c:0"), ("q:1", "c:1")]
    for split, asked in (("test", queries[:2]), ("val", queries[:1])):
        write_mbeir_jsonl(tmp_path, "mbeir_toy_task4", asked, candidates, qrels[: len(asked)], split=split)
    assert len(chosen(tmp_path, pairs=False, split="val")[0]["i2i"].queries) == 1
    assert len(chosen(tmp_path, pairs=False)[0]["i2i"].queries) == 2
    with pytest.raises(DataError, match="no split 'train'"):
        chosen(tmp_path, pairs=False, split="train")
    write_coco_json(tmp_path, GOOD_PAIRS[:2], split="val2017")
    found, notes = chosen(tmp_path, split="val2017")
    assert found["i2i"].split == "test"
    assert notes == ["mbeir_toy_task4 has no split 'val2017'; its test queries are taken."]


def test_parquet_shards_without_pairs_have_no_split(both):
    with pytest.raises(DataError, match="has no splits; leave out --split test"):
        chosen(both, ("i2i",), pairs=False, split="test")
