"""Task codes from modalities, and the two numberings."""

import re

import numpy as np
import pytest

from analysis.data.samples import TASKS
from analysis.data.tasks import (
    IMAGE,
    MODALITY_OF,
    TEXT,
    code_of,
    main_modality,
    mixture,
    modality_bits,
    number_note,
    task_code,
    task_name,
)


def test_every_task_code_has_its_pair_of_modalities():
    codes = {task_code(query, candidate) for query in MODALITY_OF for candidate in MODALITY_OF}
    assert codes == set(TASKS)
    assert task_code(IMAGE | TEXT, IMAGE) == "it2i"


@pytest.mark.parametrize("code", TASKS)
@pytest.mark.parametrize("folder", ["", "mbeir_cirr_task7", "my-own-data"])
def test_the_name_of_a_task_in_a_store_tells_its_code(code, folder):
    assert code_of(task_name(code, folder)) == code


@pytest.mark.parametrize(
    ("spelling", "bits"),
    [("text", TEXT), ("image", IMAGE), ("image,text", 3), ("text, image", 3), ("Image,Text", 3), ("image_text", 3)],
)
def test_spellings_of_modalities(spelling, bits):
    assert modality_bits(spelling) == bits


@pytest.mark.parametrize("spelling", ["video", None, ["image"], "", 3.0])
def test_other_words_are_no_modality(spelling):
    assert modality_bits(spelling) == 0


@pytest.mark.parametrize(
    ("name", "task", "numbering", "words"),
    [
        ("mbeir_cirr_task7", "it2i", "paper", None),
        ("mbeir_cirr_task7", "it2i", "M-BEIR", None),
        ("mbeir_mscoco_task4", "i2t", "paper", None),
        ("mbeir_mscoco_task3", "i2t", "M-BEIR", None),
        ("mbeir_mscoco_task3", "i2t", "paper", "task 3, t2it in the numbering of the paper.*M-BEIR"),
        ("mbeir_nights_task4", "i2i", "paper", "but its files hold i2i.*that of M-BEIR"),
        ("mbeir_nights_task5", "i2i", "M-BEIR", "task 5, no task in the numbering of M-BEIR"),
        ("mbeir_odd_task8", "t2t", "paper", "it2it.*but its files hold t2t: treated as t2t"),
        ("my_pictures", "t2i", "paper", None),
    ],
)
def test_a_note_where_name_and_files_disagree(name, task, numbering, words):
    note = number_note(name, task, numbering)
    if words is None:
        assert note == ""
    else:
        assert re.search(words, note)


def test_the_main_modality_and_what_is_mixed():
    bits = np.array([IMAGE, TEXT, IMAGE, 3], np.int8)
    assert main_modality(bits) == IMAGE
    assert mixture(bits) == "1 text, 2 image, 1 image_text"
    assert mixture(bits[[0, 2]]) == ""
    assert main_modality(np.array([TEXT, IMAGE])) == IMAGE
