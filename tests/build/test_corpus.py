from analysis.build.corpus import assemble, load_corpus
from analysis.build.plan import DataPlan
from analysis.data.samples import PairSet, Sample


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


def test_the_same_text_under_two_instructions_is_two_samples():
    pairs = PairSet("toy", [Sample("t:0", "text", "a dog", pair_id=0)])
    other = [Sample("t:0", "text", "a dog").with_instruction("x")]
    corpus = assemble(pairs, {}, "uniform")
    assert len(corpus.samples) == 1
    assert other[0].instruction != corpus.samples[0].instruction


def test_task_rows_point_at_the_samples_of_the_task(coco_folder):
    corpus = load_corpus(DataPlan(str(coco_folder), limit=5), "uniform")
    task = corpus.tasks["i2t"]
    for position, row in enumerate(task.queries):
        assert corpus.samples[row].sample_id == task.source.queries[position].sample_id


def test_the_data_part_of_the_config_changes_with_the_limit(coco_folder):
    few, many = DataPlan(str(coco_folder), limit=3), DataPlan(str(coco_folder), limit=4)
    assert load_corpus(few, "uniform").config(few) != load_corpus(many, "uniform").config(many)
