"""The types refuse what contradicts itself, and survive the way to a worker process."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from analysis.data.defects import Defects
from analysis.data.samples import PairSet, Picture, RetrievalSet, Sample
from analysis.errors import DataError
from tests.data.writers import solid


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"modality": "video"}, "modality"),
        ({"modality": "image"}, "picture"),
        ({"modality": "text", "text": "a", "picture": Picture(data=b"x")}, "picture"),
        ({"modality": "text", "text": " \n"}, "text is empty"),
        ({"modality": "image_text", "text": "", "picture": Picture(data=b"x")}, "text is empty"),
    ],
)
def test_a_sample_holds_what_its_modality_says(fields, words):
    with pytest.raises(DataError, match=words):
        Sample("s1", **fields)


def test_samples_survive_pickling():
    sample = Sample("s1", "image_text", "hello", Picture.of(solid(9, 8, 7)), pair_id=3)
    again = pickle.loads(pickle.dumps(sample))
    assert again == sample
    assert again.picture.load().getpixel((0, 0)) == (9, 8, 7)


def test_a_picture_that_is_gone_says_so(tmp_path):
    with pytest.raises(DataError, match=r"'gone\.jpg' could not be read"):
        Picture(path=tmp_path / "gone.jpg").load()
    with pytest.raises(DataError, match="neither a file nor bytes"):
        Picture(name="nothing").load()


def test_defects_count_and_keep_the_first():
    defects = Defects()
    assert not defects
    defects.add("empty caption", 7)
    defects.add("empty caption", 8, 3)
    defects.add("another", "x")
    assert defects.count("empty caption") == 4
    assert defects.count("never seen") == 0
    assert defects.lines() == ["1 x another, first: x", "4 x empty caption, first: 7"]


def test_shapes_of_a_retrieval_set_must_fit():
    query, candidate = Sample("q", "text", "a"), Sample("c", "text", "b")
    with pytest.raises(DataError, match=r"expected \(1, 1\)"):
        RetrievalSet("t2t", [query], [candidate], sp.csr_array((2, 1)))
    with pytest.raises(DataError, match=r"expected \(1,\)"):
        RetrievalSet("t2t", [query], [candidate], sp.csr_array((1, 1)), missing_per_query=np.zeros(2, np.int32))


def test_pairs_are_counted_by_their_ids():
    assert PairSet("empty", []).n_pairs == 0
    assert PairSet("one", [Sample("a", "text", "x", pair_id=0), Sample("b", "text", "y", pair_id=4)]).n_pairs == 5
