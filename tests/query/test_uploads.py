"""Kept pictures: found by their hash, small, bounded, and gone when their time is over."""

from __future__ import annotations

import io
import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.errors import DataError
from analysis.query import uploads
from tests.data.writers import saved


def png(width: int = 40, height: int = 30, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels))


def test_a_picture_is_found_again_by_what_it_shows(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    name = uploads.keep(folder, png())
    assert uploads.load(folder, name) == png()
    assert uploads.keep(folder, png()) == name
    assert uploads.keep(folder, png(seed=1)) != name
    assert stat.S_IMODE(uploads.place(folder, name).stat().st_mode) == 0o600


def test_a_small_picture_stays_as_it_is_and_a_large_one_is_made_small() -> None:
    assert uploads.reduced(png()) == png()
    small = uploads.reduced(png(2400, 1800))
    assert max(Image.open(io.BytesIO(small)).size) <= uploads.SIDE
    assert len(small) <= uploads.FILE_BYTES
    assert uploads.reduced(small) == small


def test_after_its_time_it_is_deleted_and_not_only_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = uploads.keep(tmp_path, png())
    old = time.time() - 86_400 * (uploads.DAYS + 0.1)
    os.utime(uploads.place(tmp_path, name), (old, old))
    assert uploads.load(tmp_path, name) is None
    assert not list(tmp_path.iterdir())
    uploads.keep(tmp_path, png())
    monkeypatch.setenv(uploads.VARIABLE, "0")
    assert uploads.load(tmp_path, name) is None
    assert uploads.sweep(tmp_path) == 1
    assert not list(tmp_path.iterdir())


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "TOTAL_BYTES", int(2.5 * len(png())))
    names = []
    for seed in range(4):
        names.append(uploads.keep(tmp_path, png(seed=seed)))
        for age, name in enumerate(reversed(names)):
            if (file := uploads.place(tmp_path, name)).exists():
                os.utime(file, (time.time() - age, time.time() - age))
    assert [uploads.load(tmp_path, name) is not None for name in names] == [False, False, True, True]


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 31, "A" * 32, "0" * 32])
def test_nothing_else_is_read(tmp_path: Path, name: str) -> None:
    uploads.keep(tmp_path, png())
    assert uploads.load(tmp_path, name) is None


def test_a_changed_file_is_no_picture_of_that_hash(tmp_path: Path) -> None:
    name = uploads.keep(tmp_path, png())
    uploads.place(tmp_path, name).write_bytes(png(seed=5))
    assert uploads.load(tmp_path, name) is None


def test_a_setting_that_is_no_number_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(uploads.VARIABLE, "a week")
    with pytest.raises(DataError, match="expected a number of days"):
        uploads.days()
