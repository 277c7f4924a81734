import os

import numpy as np
import pytest

from analysis.build.files import link_or_copy, only_one, remove_partial, save_blocks
from analysis.errors import AnalysisError


@pytest.mark.parametrize("sizes", [(3, 0, 4), (7,), (0,), ()])
def test_blocks_make_the_file_that_numpy_would_write(tmp_path, sizes):
    whole = np.random.default_rng(0).normal(size=(sum(sizes), 5)).astype(np.float32)
    save_blocks(tmp_path / "a.npy", np.split(whole, np.cumsum(sizes)[:-1]) if sizes else [], whole.shape, "float16")
    np.save(tmp_path / "b.npy", whole.astype(np.float16))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize("block", [np.zeros((2, 5)), np.zeros((3, 4))])
def test_blocks_of_another_shape_leave_no_file(tmp_path, block):
    with pytest.raises(ValueError, match=r"a\.npy"):
        save_blocks(tmp_path / "a.npy", [block], (3, 5), "float32")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_the_file_and_survives_its_source(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").unlink()
    assert (tmp_path / "b").read_bytes() == b"content"


def test_without_hard_links_the_file_is_copied(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"content")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"


def test_only_half_written_files_are_removed(tmp_path):
    for name in (".shard-00001.npz.77.part", "shard-00000.npz", ".lock"):
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "shard-00000.npz"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "cache").touch()  # a file where the folder should be
    with (
        pytest.raises(AnalysisError, match=r"The work folder a could not be written \(Not a directory\)"),
        only_one(tmp_path / "cache" / "a", "embedding"),
    ):
        pytest.fail("the lock was given")
