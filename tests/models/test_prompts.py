import pytest

from analysis.data.samples import MODALITIES, SHORT, TASKS
from analysis.errors import AnalysisError
from analysis.models.prompts import instruction_for

BOTH = "\nSummarize the above image and the sentence in one word: "


@pytest.mark.parametrize(
    ("task", "side", "modality", "sentence"),
    [
        ("t2i", "query", "text", "\nSummarize the above sentence in one word: "),
        ("t2i", "candidate", "image", "\nSummarize the above image in one word: "),
        ("it2it", "query", "image_text", BOTH),
        ("it2it", "candidate", "image_text", BOTH),
        ("it2t", "query", "image_text", "\nSummarize above image and sentence in one word: "),
        ("it2t", "candidate", "text", "\nSummarize the above sentence in one word: "),
        ("t2it", "candidate", "image_text", "\nSummarize above image and sentence in one word: "),
        ("it2i", "query", "image_text", "\nSummarize the above image with the question in one word: "),
        (None, None, "image", "\nSummarize the above image in one word: "),
    ],
)
def test_paper_prompts_are_the_authors_sentences(task, side, modality, sentence):
    assert instruction_for("paper", task, side, modality) == sentence


def test_uniform_gives_a_modality_one_sentence_whatever_the_task():
    for modality in MODALITIES:
        found = {instruction_for("uniform", task, side, modality) for task in TASKS for side in ("query", "candidate")}
        assert len(found | {instruction_for("uniform", None, None, modality)}) == 1


def test_every_side_of_every_task_has_a_sentence():
    long = {short: modality for modality, short in SHORT.items()}
    for name in ("paper", "uniform"):
        for task in TASKS:
            for side, short in zip(("query", "candidate"), task.split("2"), strict=True):
                sentence = instruction_for(name, task, side, long[short])
                assert sentence.startswith("\nSummarize")
                assert sentence.endswith("in one word: ")


def test_unknown_prompts_and_modalities_are_named():
    with pytest.raises(AnalysisError, match="Did you mean 'uniform'"):
        instruction_for("unifrom", None, None, "text")
    with pytest.raises(AnalysisError, match="no sentence for modality 'sound'"):
        instruction_for("paper", None, None, "sound")
