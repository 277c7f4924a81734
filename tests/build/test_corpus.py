import numpy as np
import pytest

from analysis.build import corpus as corpus_module
from analysis.build.corpus import Samples, assemble, load_corpus
from analysis.build.plan import DataPlan
from analysis.data.registry import load_retrieval
from analysis.data.samples import PairSet, Sample
from analysis.query.query import query_sample
from tests.build.folders import GOOD_PAIRS, task_sides, write_task
from tests.data.writers import write_mbeir_jsonl, write_plain_folder


def test_a_caption_that_is_also_a_candidate_is_embedded_once(coco_folder):
    corpus = load_corpus(DataPlan(str(coco_folder)), "uniform")
    assert len(corpus.samples) == 12 + 24
    assert sorted(corpus.tasks) == ["i2t", "t2i"]
    i2t, t2i = corpus.tasks["i2t"], corpus.tasks["t2i"]
    assert set(i2t.queries) == set(t2i.candidates)
    assert set(i2t.candidates) == set(t2i.queries)


def test_every_sample_carries_the_instruction_of_its_modality(coco_folder):
    corpus = load_corpus(DataPlan(str(coco_folder)), "uniform")
    for sample in corpus.samples:
        assert ("image" in sample.instruction) == (sample.modality == "image")


def test_the_same_text_under_two_instructions_is_two_samples(tmp_path):
    root = write_task(tmp_path, "it2t", "parquet")
    uniform = load_corpus(DataPlan(str(root)), "uniform")
    paper = load_corpus(DataPlan(str(root)), "paper")
    query, candidate = paper.tasks["it2t"].prompts["queries"], paper.tasks["it2t"].prompts["candidates"]
    assert query.startswith("\nSummarize above image and sentence")
    assert candidate == uniform.tasks["it2t"].prompts["candidates"]
    assert paper.samples[0].instruction != uniform.samples[0].instruction


def test_a_picture_of_the_pairs_that_is_a_candidate_too_is_one_sample(tmp_path):
    _, candidates = task_sides("it2i")
    write_plain_folder(tmp_path / "data", [(item.image, ["a caption"]) for item in candidates])
    write_task(tmp_path / "data", "it2i", "parquet")
    corpus = load_corpus(DataPlan(str(tmp_path / "data")), "uniform")
    assert len(corpus.samples) == 9 + 9 + 6
    assert [corpus.samples[row].pair_id for row in corpus.tasks["it2i"].candidates] == list(range(9))


def test_task_rows_point_at_the_samples_of_the_task(coco_folder):
    corpus = load_corpus(DataPlan(str(coco_folder), limit=5), "uniform")
    task = corpus.tasks["i2t"]
    for position, row in enumerate(task.queries):
        assert corpus.samples[row].sample_id == task.source.queries[position].sample_id


def test_the_data_part_of_the_config_changes_with_the_limit(coco_folder):
    few, many = DataPlan(str(coco_folder), limit=3), DataPlan(str(coco_folder), limit=4)
    assert load_corpus(few, "uniform").config(few) != load_corpus(many, "uniform").config(many)


def test_the_config_changes_with_the_files_of_a_task_beside_the_pairs(tmp_path):
    write_plain_folder(tmp_path / "data", GOOD_PAIRS[:3])
    plan = DataPlan(str(tmp_path / "data"))
    configs = [load_corpus(plan, "uniform").config(plan)]
    for code in ("i2i", "t2t"):
        write_task(tmp_path / "data", code, "parquet", "mbeir_toy")
        configs.append(load_corpus(plan, "uniform").config(plan))
    assert configs[0]["task_revisions"] == {}
    assert configs[0] != configs[1] != configs[2]


def test_a_large_task_is_left_as_the_loader_holds_it(tmp_path, monkeypatch):
    root = write_task(tmp_path, "it2i", "jsonl")
    small = load_corpus(DataPlan(str(root)), "uniform")
    monkeypatch.setattr(corpus_module, "COMPARED", 3)
    large = load_corpus(DataPlan(str(root)), "uniform")
    assert isinstance(large.samples, Samples)
    assert not isinstance(small.samples, Samples)
    assert list(large.samples) == list(small.samples)
    for mine, other in zip(large.tasks["it2i"].candidates, small.tasks["it2i"].candidates, strict=True):
        assert large.samples[int(mine)] == small.samples[int(other)]


def test_tasks_over_one_pool_embed_it_once(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "COMPARED", 3)
    queries, pool = task_sides("t2i")
    for name, asked in (("mbeir_one_task0", queries[:2]), ("mbeir_two_task0", queries[2:])):
        qrels = [(query.id, pool[int(query.id[2:])].id) for query in asked]
        write_mbeir_jsonl(tmp_path, name, asked, pool, qrels, pool="global")
    corpus = load_corpus(DataPlan(str(tmp_path), pool="global"), "uniform")
    one, two = corpus.tasks.values()
    np.testing.assert_array_equal(one.candidates, two.candidates)
    assert len(corpus.samples) == 6 + 9


def test_pairs_beside_a_large_task_stay_the_samples_of_their_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "COMPARED", 3)
    write_plain_folder(tmp_path / "data", GOOD_PAIRS[:3])
    write_task(tmp_path / "data", "i2i", "jsonl")
    corpus = load_corpus(DataPlan(str(tmp_path / "data")), "uniform")
    assert len(corpus.samples) == (3 + 6) + (6 + 9)
    assert corpus.tasks["i2t"].queries.tolist() == [0, 3, 6]


def test_samples_slice_like_a_list():
    texts = [Sample(str(i), "text", f"text {i}") for i in range(7)]
    sentences = {"text": "say it", "image": "", "image_text": ""}
    samples = Samples([(texts[:3], None), (texts[3:5], sentences), ([], None), (texts[5:], None)])
    plain = [*texts[:3], *(sample.with_instruction("say it") for sample in texts[3:5]), *texts[5:]]
    for cut in (slice(None), slice(2, 6), slice(4, 4), slice(-2, None), slice(0, 7, 3), slice(6, 1, -2)):
        assert samples[cut] == plain[cut]
    assert [samples[row] for row in range(-7, 7)] == [*plain, *plain]
    with pytest.raises(IndexError):
        samples[7]


def test_a_mixed_side_gives_each_sample_the_sentence_of_its_modality(tmp_path):
    root = write_task(tmp_path, "t2i", "parquet")
    source = load_retrieval(root)
    words = [Sample(f"w{i}", "text", f"word {i}") for i in range(len(source.candidates))]
    from dataclasses import replace

    mixed = replace(source, candidates=words)
    corpus = assemble(PairSet("none", []), {"t2i": mixed}, "uniform")
    assert all("sentence" in corpus.samples[row].instruction for row in corpus.tasks["t2i"].candidates)
    assert "image" in corpus.tasks["t2i"].prompts["candidates"]  # the side's own sentence, as the task's code names it


@pytest.mark.parametrize("code", ["it2i", "it2t"])
def test_a_live_query_gets_the_sentence_that_the_corpus_gives_its_task(tmp_path, code):
    """Two folders of one code: the tasks are then called code-folder."""
    for folder in ("mbeir_one", "mbeir_two"):
        write_task(tmp_path / "data", code, "parquet", folder)
    for prompts in ("paper", "uniform"):
        corpus = load_corpus(DataPlan(str(tmp_path / "data")), prompts)
        assert set(corpus.tasks) == {f"{code}-mbeir_one", f"{code}-mbeir_two"}
        for name, task in corpus.tasks.items():
            cached = corpus.samples[int(task.queries[0])]
            live = query_sample(cached.picture.bytes(), cached.text, prompts, name)
            assert live.instruction == cached.instruction == task.prompts["queries"]
