"""M-BEIR as published: local and union pools, qrels files, pictures under the root."""

import json
import pickle

import pytest

from analysis.data.mbeir_jsonl import load_mbeir_jsonl, peek_task
from analysis.data.mbeir_layout import find_query_files, layout_of
from analysis.data.samples import TASKS
from analysis.errors import DataError
from tests.data.writers import Item, solid, write_mbeir_jsonl

QRELS = [(f"8:{i}", f"8:{(3 * i) % 10}") for i in range(6)]


def items(kind: str, n: int, base: int = 0) -> list[Item]:
    return [
        Item(f"8:{i}", f"text {i}" if "t" in kind else None, solid(i, base, 0) if "i" in kind else None)
        for i in range(n)
    ]


def load(query_file, **options):
    layout = {key: options.pop(key) for key in ("split", "pool") if key in options}
    return load_mbeir_jsonl(layout_of(query_file, **layout), **options)


@pytest.mark.parametrize("code", TASKS)
def test_every_task_code_is_read_as_it_lies(tmp_path, code):
    query, candidate = code.split("2")
    file = write_mbeir_jsonl(tmp_path, "mbeir_toy", items(query, 6), items(candidate, 10, 7), QRELS)
    task = load(file)
    assert task.task == code == peek_task(layout_of(file))
    assert (len(task.queries), len(task.candidates), task.split, task.note) == (6, 10, "test", "")
    assert task.defects.lines() == []
    for row, sample in enumerate(task.queries):
        target = task.candidates[int(task.qrels.indices[row])]
        assert target.sample_id == f"mbeir_toy/candidate:8:{(3 * row) % 10}"
        if "i" in candidate:
            assert target.picture.load().getpixel((0, 0)) == ((3 * row) % 10, 7, 0)
        if "t" in query:
            assert sample.text == f"text {row}"


def test_the_tables_behave_like_sequences(tmp_path):
    task = load(write_mbeir_jsonl(tmp_path, "mbeir_toy", items("it", 6), items("i", 10), QRELS))
    ids = [sample.sample_id for sample in task.candidates]
    assert [sample.sample_id for sample in task.candidates[2:8:3]] == ids[2:8:3]
    assert [task.candidates[row].sample_id for row in range(-10, 0)] == ids
    assert pickle.loads(pickle.dumps(task.candidates))[3] == task.candidates[3]
    with pytest.raises(IndexError):
        task.candidates[10]


def test_the_union_pool_is_streamed_into_a_few_bytes_a_row(tmp_path):
    pool = [Item(f"{1 + i % 9}:{i}", f"passage {i} " + "and so on " * 30) for i in range(3000)]
    qrels = [(f"8:{i}", pool[400 * i].id) for i in range(6)]
    file = write_mbeir_jsonl(tmp_path, "mbeir_infoseek_task6", items("it", 6), pool, qrels, pool="global")
    task = load(file, pool="global")
    assert task.task == "it2t" == peek_task(layout_of(file))
    assert task.candidates.offsets.nbytes + task.candidates.bits.nbytes == 9 * 3000
    assert [task.candidates[int(c)].sample_id.split(":", 1)[1] for c in task.qrels.indices] == [c for _, c in qrels]
    assert task.note == "Candidates are the global pool."
    assert load(file).note == task.note  # there is no local one


def test_the_union_pool_does_not_look_for_pictures_unless_asked(tmp_path):
    file = write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 6), items("i", 10), QRELS, pool="global")
    (tmp_path / "mbeir_images" / "mbeir_toy" / "candidate_8_4.png").unlink()
    assert len(load(file).candidates) == 10
    checked = load(file, check=True)
    assert len(checked.candidates) == 9
    assert checked.defects.lines() == [
        "1 x candidate without its picture, first: 8:4 (mbeir_images/mbeir_toy/candidate_8_4.png is missing)"
    ]


def test_the_local_pool_is_preferred_and_both_can_be_asked_for(tmp_path):
    file = write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 6), items("t", 10), QRELS)
    write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 6), items("t", 25), QRELS, pool="global")
    assert len(load(file).candidates) == 10
    assert len(load(file, pool="global").candidates) == 25
    with pytest.raises(DataError, match="pool is 'all'; expected local"):
        load(file, pool="all")


def test_splits_are_files_beside_each_other(tmp_path):
    test = write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 6), items("t", 10), QRELS)
    val = write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 3), items("t", 10), QRELS[:3], split="val")
    assert find_query_files(tmp_path) == [test]
    assert len(load(test, split="val").queries) == 3 == len(load(val).queries)
    with pytest.raises(DataError, match=r"no split 'train': query/train/mbeir_toy_train\.jsonl is missing"):
        load(test, split="train")


def test_a_pool_may_carry_the_split_in_its_name(tmp_path):
    file = write_mbeir_jsonl(tmp_path, "mbeir_mscoco_task0", items("t", 6), items("i", 10), QRELS, task_id=0)
    pool = tmp_path / "cand_pool" / "local" / "mbeir_mscoco_task0_cand_pool.jsonl"
    pool.rename(pool.with_name("mbeir_mscoco_task0_test_cand_pool.jsonl"))
    task = load(file)
    assert (task.task, task.note) == ("t2i", "")
    (pool.with_name("mbeir_mscoco_task0_test_cand_pool.jsonl")).unlink()
    with pytest.raises(DataError, match="has no candidate pool"):
        load(file)


def test_positives_of_the_queries_stand_in_for_a_missing_qrels_file(tmp_path):
    file = write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 6), items("i", 10), QRELS)
    with_file = load(file)
    (tmp_path / "qrels" / "test" / "mbeir_toy_test_qrels.txt").unlink()
    without = load(file)
    assert (without.qrels != with_file.qrels).nnz == 0
    assert "pos_cand_list" in without.note


def test_defects_are_counted_and_named(tmp_path):
    queries = [*items("it", 6), Item("8:1", "an id twice", solid(1, 1, 1)), Item("8:9", " ", None, "text")]
    pool = [*items("i", 10), Item("8:0", None, solid(9, 9, 9)), Item("8:77", None, None, "image")]
    lines = [*QRELS, QRELS[0], ("8:50", "8:1"), ("8:2", "8:60"), ("8:3", "8:77"), ("8:4", "8:5", 0)]
    file = write_mbeir_jsonl(tmp_path, "mbeir_x_task7", queries, pool, lines)
    (tmp_path / "mbeir_images" / "mbeir_x_task7" / "candidate_8_3.png").unlink()
    with (tmp_path / "cand_pool" / "local" / "mbeir_x_task7_cand_pool.jsonl").open("a") as handle:
        handle.write('{"did": "8:90"\n\n[1, 2]\n{"txt": "no id"}\n')
    with (tmp_path / "qrels" / "test" / "mbeir_x_task7_test_qrels.txt").open("a") as handle:
        handle.write("8:0 0\n\n8:0 0 8:1 many 7\n")
    task = load(file)
    assert (len(task.queries), len(task.candidates)) == (6, 9)
    assert (task.missing_targets, task.unanswerable_queries) == (3, 1)
    assert task.missing_per_query.tolist() == [0, 1, 1, 1, 0, 0]
    assert task.defects.lines() == [
        "2 x candidate without its picture, first: 8:3 (mbeir_images/mbeir_x_task7/candidate_8_3.png is missing)",
        "1 x duplicate candidate id, first: 8:0",
        "1 x duplicate qrels line, first: 8:0 8:0",
        "1 x duplicate query id, first: 8:1",
        "1 x query without its text, first: 8:9",
        "1 x unknown candidate in qrels, first: 8:60",
        "1 x unknown query in qrels, first: 8:50",
        "5 x unreadable line, first: mbeir_x_task7_test_qrels.txt line 12",
    ]


def test_line_ends_and_blank_lines_do_not_shift_samples(tmp_path):
    file = write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 6), items("t", 10), QRELS)
    pool = tmp_path / "cand_pool" / "local" / "mbeir_toy_cand_pool.jsonl"
    pool.write_bytes(b"\r\n  \r\n" + pool.read_bytes().replace(b"\n", b" \r\n").replace(b"text", "Größe".encode()))
    assert [sample.text for sample in load(file).candidates] == [f"Größe {i}" for i in range(10)]


def test_ids_with_one_hash_are_not_taken_for_duplicates(tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.data.mbeir_jsonl.hash", lambda text: 7, raising=False)
    pool = [*items("t", 10), Item("8:2", "an id twice")]
    task = load(write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 6), pool, QRELS))
    assert len(task.candidates) == 10
    assert task.defects.lines() == ["1 x duplicate candidate id, first: 8:2"]


def test_an_unknown_spelling_of_the_modality_falls_back_to_what_is_there(tmp_path):
    file = write_mbeir_jsonl(
        tmp_path, "mbeir_toy", items("t", 6), [Item(i.id, i.text, i.image, "photo") for i in items("i", 10)], QRELS
    )
    assert load(file).task == "t2i"


def test_the_revision_follows_the_content(tmp_path):
    file = write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 6), items("t", 10), QRELS)
    first = load(file).revision
    assert load(file, limit_queries=2).revision == first
    pool = tmp_path / "cand_pool" / "local" / "mbeir_toy_cand_pool.jsonl"
    pool.write_text(pool.read_text().replace("text 3", "text X"))
    assert load(file).revision != first


def test_a_file_that_changes_under_the_reader_is_noticed(tmp_path):
    task = load(write_mbeir_jsonl(tmp_path, "mbeir_toy", items("t", 6), items("t", 10), QRELS))
    pool = tmp_path / "cand_pool" / "local" / "mbeir_toy_cand_pool.jsonl"
    pool.write_text("x" * 7 + json.dumps({"did": "8:0"}))
    with pytest.raises(DataError, match="changed while it was in use"):
        task.candidates[9]


def test_a_query_file_elsewhere_is_refused(tmp_path):
    (tmp_path / "mbeir_toy_test.jsonl").write_text("")
    with pytest.raises(DataError, match="does not lie under query/"):
        layout_of(tmp_path / "mbeir_toy_test.jsonl")
