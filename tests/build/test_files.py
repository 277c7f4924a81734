import ast
import errno
import fcntl
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from analysis.build import files
from analysis.build.files import link_or_copy, only_one, remove_partial, save_blocks, write_atomically
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


@pytest.fixture
def no_locks(monkeypatch):
    """no_locks(code): the system refuses every lock with this error, as some network shares do."""

    def refuse(code):
        def flock(descriptor, operation):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", flock)
        files._say_once.cache_clear()

    return refuse


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_a_file_stands_in_and_it_is_said_once(tmp_path, no_locks, caplog, code):
    no_locks(code)
    folder = tmp_path / "cache" / "work" / "a"
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with (
                only_one(folder, "embedding"),
                pytest.raises(AnalysisError, match=r"already x.*delete .*lock-file"),
                only_one(folder, "x"),
            ):
                pytest.fail("the lock was given twice")
    (said,) = [record.getMessage() for record in caplog.records]
    assert "folder cache cannot be locked" in said
    assert "use a local --cache" in said


def test_another_refusal_is_no_missing_lock(tmp_path, no_locks):
    no_locks(errno.EIO)
    with (
        pytest.raises(AnalysisError, match="work folder a could not be written"),
        only_one(tmp_path / "work" / "a", "embedding"),
    ):
        pytest.fail("the lock was given")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_share_that_cannot_force_bytes_to_the_disk_still_takes_files(tmp_path, monkeypatch, code):
    def fsync(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


def test_the_module_needs_nothing_that_only_unix_has():
    tree = ast.parse(Path(files.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names.isdisjoint({"fcntl", "resource", "pwd", "termios"})
