"""M-BEIR tasks as the hub organisation MRBench writes them."""

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.data.mbeir_parquet import is_task_folder, load_mbeir_parquet, peek_task
from analysis.data.samples import TASKS
from analysis.errors import DataError
from tests.data.writers import Item, solid, write_mbeir_parquet


def items(kind: str, n: int, base: int = 0) -> list[Item]:
    return [
        Item(f"8:{i}", f"text {i}" if "t" in kind else None, solid(i, base, 0) if "i" in kind else None)
        for i in range(n)
    ]


QRELS = [(f"8:{i}", f"8:{(3 * i) % 10}") for i in range(6)]


@pytest.mark.parametrize("code", TASKS)
def test_every_task_code_is_read_as_it_lies(tmp_path, code):
    query, candidate = code.split("2")
    folder = write_mbeir_parquet(
        tmp_path / "mbeir_toy", items(query, 6), items(candidate, 10, 7), QRELS, shards=3, row_group_size=2
    )
    task = load_mbeir_parquet(folder)
    assert task.task == code == peek_task(folder)
    assert (len(task.queries), len(task.candidates), task.name, task.note) == (6, 10, "mbeir_toy", "")
    assert task.defects.lines() == []
    for row, sample in enumerate(task.queries):
        target = task.candidates[int(task.qrels.indices[row])]
        assert target.sample_id == f"mbeir_toy/candidate:8:{(3 * row) % 10}"
        assert sample.sample_id == f"mbeir_toy/query:8:{row}"
        if "i" in candidate:
            assert target.picture.load().getpixel((0, 0)) == ((3 * row) % 10, 7, 0)
        if "t" in query:
            assert sample.text == f"text {row}"


def test_the_tables_behave_like_sequences(tmp_path):
    task = load_mbeir_parquet(write_mbeir_parquet(tmp_path / "a", items("it", 6), items("i", 10), QRELS))
    ids = [sample.sample_id for sample in task.candidates]
    assert task.candidates[-1].sample_id == ids[-1]
    assert [sample.sample_id for sample in task.candidates[2:8:3]] == ids[2:8:3]
    assert task.candidates[4] in task.candidates[4:5]
    with pytest.raises(IndexError):
        task.candidates[10]
    again = pickle.loads(pickle.dumps(task.candidates[3:5]))
    assert again[1].picture.load().getpixel((0, 0)) == (4, 0, 0)


def test_names_that_number_otherwise_are_noted(tmp_path):
    folder = write_mbeir_parquet(tmp_path / "mbeir_mscoco_task3", items("i", 6), items("t", 10), QRELS)
    task = load_mbeir_parquet(folder)
    assert task.task == "i2t"
    assert "task 3, t2it in the numbering of the paper's code (from 1), but its files hold i2t (that of M-BEIR" in (
        task.note
    )


def test_the_task_follows_the_targets_where_the_pool_is_mixed(tmp_path):
    pool = [*items("t", 10), *(Item(f"9:{i}", None, solid(i, 1, 1)) for i in range(30))]
    folder = write_mbeir_parquet(tmp_path / "mixed", items("it", 6), pool, QRELS)
    task = load_mbeir_parquet(folder)
    assert task.task == "it2t" == peek_task(folder)
    assert task.note == "Pool: 10 text, 30 image, in one task."


def test_defects_are_counted_and_named(tmp_path):
    queries = [
        *items("it", 6),
        Item("8:1", "an id twice", solid(1, 1, 1)),
        Item("8:9", "no picture", None, "image,text"),
    ]
    pool = [
        *items("i", 10),
        Item("8:0", None, solid(9, 9, 9)),
        Item("8:77", " ", None, "text"),
        Item("8:78", "x", None),
    ]
    lines = [*QRELS, QRELS[0], ("8:50", "8:1"), ("8:2", "8:60"), ("8:3", "8:77"), ("8:9", "8:78"), ("8:4", "8:5", 0)]
    task = load_mbeir_parquet(write_mbeir_parquet(tmp_path / "mbeir_x_task7", queries, pool, lines, row_group_size=3))
    assert (len(task.queries), len(task.candidates)) == (7, 11)
    assert task.queries[6].modality == "text"  # what is left of it can still be asked
    assert (task.missing_targets, task.unanswerable_queries) == (2, 0)
    assert task.qrels.nnz == 7
    assert task.defects.lines() == [
        "1 x candidate without its text, first: 8:77",
        "1 x duplicate candidate id, first: 8:0",
        "1 x duplicate qrels line, first: 8:0 8:0",
        "1 x duplicate query id, first: 8:1",
        "1 x query without its picture, first: 8:9",
        "1 x unknown candidate in qrels, first: 8:60",
        "1 x unknown query in qrels, first: 8:50",
    ]


def test_undecodable_pictures_wait_until_embedding_or_check(tmp_path):
    pool = [*items("i", 9), Item("8:9", None, b"these bytes are no picture")]
    folder = write_mbeir_parquet(tmp_path / "a", items("t", 6), pool, QRELS)
    with pytest.raises(DataError, match=r"8:9 is not a picture"):
        load_mbeir_parquet(folder).candidates[9].picture.load()
    task = load_mbeir_parquet(folder, check=True)
    assert len(task.candidates) == 9
    assert task.defects.count("candidate picture that cannot be opened") == 1
    assert task.missing_per_query.tolist() == [0, 0, 0, 1, 0, 0]


def test_limited_queries_keep_the_pool(tmp_path):
    folder = write_mbeir_parquet(tmp_path / "a", items("t", 6), items("i", 10), QRELS)
    few, more = (load_mbeir_parquet(folder, limit_queries=n) for n in (2, 4))
    assert (len(few.queries), len(few.candidates), few.qrels.shape) == (2, 10, (2, 10))
    assert {q.sample_id for q in few.queries} < {q.sample_id for q in more.queries}
    assert few.revision == more.revision


def test_nothing_left_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"unknown candidate in qrels, first: z.*of one split"):
        load_mbeir_parquet(write_mbeir_parquet(tmp_path / "a", items("t", 3), items("i", 3), [("8:0", "z")]))
    with pytest.raises(DataError, match="b has no query and no target that is in the pool left"):
        load_mbeir_parquet(write_mbeir_parquet(tmp_path / "b", items("t", 3), items("i", 3), [("z", "8:0")]))
    (tmp_path / "a" / "qrels-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="no readable qrels shard"):
        load_mbeir_parquet(tmp_path / "a")
    write_mbeir_parquet(tmp_path / "c", items("t", 3), [], [("8:0", "8:0")])
    with pytest.raises(DataError, match="1 x empty parquet shard, first: corpus-00000"):
        load_mbeir_parquet(tmp_path / "c")


def test_shards_of_another_schema_are_refused(tmp_path):
    folder = write_mbeir_parquet(tmp_path / "a", items("t", 3), items("i", 3), [("8:0", "8:0")])
    assert is_task_folder(folder)
    pq.write_table(pa.table({"query": ["8:0"]}), folder / "qrels-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"has the columns query; expected query-id, corpus-id"):
        load_mbeir_parquet(folder)
    pq.write_table(pa.table({"did": ["8:0"]}), folder / "corpus-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"has the columns did; expected id, modality"):
        load_mbeir_parquet(folder)


def test_modalities_are_found_where_the_column_is_absent(tmp_path):
    folder = write_mbeir_parquet(tmp_path / "a", items("it", 6), items("i", 10), QRELS)
    for side in ("query", "corpus"):
        path = folder / f"{side}-00000-of-00001.parquet"
        pq.write_table(pq.read_table(path).drop_columns(["modality"]), path)
    assert load_mbeir_parquet(folder).task == "it2i" == peek_task(folder)
