"""A stranger's picture is decoded as `decode` does, and whatever a file makes its decoder do ends in a sentence."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from analysis.data import apart
from analysis.data.apart import decode_apart
from analysis.data.pictures import decode
from analysis.errors import DataError


@pytest.fixture(autouse=True, scope="module")
def ended() -> Iterator[None]:
    yield
    for worker in apart._running:
        worker.end()


def saved(kind: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> bytes:
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], len(mode)), np.uint8).squeeze()
    buffer = io.BytesIO()
    Image.fromarray(values, mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_the_pixels_are_those_of_decode(kind: str) -> None:
    data = saved(kind)
    found = decode_apart(data)
    np.testing.assert_array_equal(np.asarray(decode(found.png)), np.asarray(decode(data)))
    assert found.notes == ()


def test_what_was_done_to_it_is_said() -> None:
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert decode_apart(buffer.getvalue(), name="a.gif").notes == (
        "a.gif is an animation or has several pages; its first frame is used.",
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, color: int, extra: bytes = b"") -> bytes:
    """Nothing but zeros, which take a thousandth of their size."""
    depth = {2: 3, 6: 4, 0: 1}[color]
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + width * depth)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def gif_of_comments(count: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("P", (8, 8)).save(buffer, "GIF")
    whole = buffer.getvalue()
    start = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    comment = b"\x21\xfe" + (b"\xff" + b"x" * 255) * 200 + b"\0"
    return whole[:start] + comment * count + whole[start:]


def bombs() -> dict[str, bytes]:
    lossless = io.BytesIO()
    Image.new("RGBA", (9000, 6600), (1, 2, 3, 4)).save(lossless, "WEBP", lossless=True, method=0)
    return {
        "webp": lossless.getvalue(),
        "png rgba": png(7700, 7700, 6),
        "png beyond": png(60_000, 60_000 // 50, 2),
        "text": png(8, 8, 2, chunk(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 2**26)) * 40),
        "profile": png(8, 8, 2, chunk(b"iCCP", b"k\0\0" + zlib.compress(b"\0" * 2**26))),
        "gif comments": gif_of_comments(1100),
        "ppm comment": b"P6\n#" + b"x" * 30_000_000 + b"\n8 8\n255\n" + b"\0" * 192,
        "tiff": saved("TIFF")[:-20],
        "script": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "nothing": b"",
    }


@pytest.mark.slow
def test_bombs_end_in_a_picture_or_a_sentence_within_time_and_memory() -> None:
    decode_apart(saved("PNG"))
    mine = psutil.Process()
    for name, data in bombs().items():
        before, start = mine.memory_info().rss, time.monotonic()
        peak = Peak(apart._running[0]._process.pid)
        try:
            said, made = "", decode_apart(data, name=name).png
        except DataError as error:
            said, made = str(error), b""
        assert made.startswith(b"\x89PNG") or (0 < len(said) < 400 and "\n" not in said), (name, said)
        assert time.monotonic() - start < apart.SECONDS + 10, name
        assert mine.memory_info().rss - before < 300_000_000, name
        assert peak.stop() < apart.MEMORY + 400_000_000, name
        assert len(decode_apart(saved("PNG")).png) > 100  # the next visitor


class Peak:
    """Largest resident memory of a process while it lives."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most, self._done = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            try:
                self._most = max(self._most, psutil.Process(self._pid).memory_info().rss)
            except psutil.Error:
                return

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self._most


def test_a_decoder_that_does_not_come_back_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    decode_apart(saved("PNG"))
    stuck = apart._running[0]
    psutil.Process(stuck._process.pid).suspend()
    monkeypatch.setattr(apart, "SECONDS", 0.5)
    with pytest.raises(DataError, match="takes more than"):
        decode_apart(saved("PNG"))
    assert not stuck.alive
    monkeypatch.setattr(apart, "SECONDS", 15.0)
    assert decode_apart(saved("PNG")).png


def test_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PATIENCE", 0.2)
    with apart._turn, pytest.raises(DataError, match="other visitors are being read"):
        decode_apart(saved("PNG"))


def test_a_file_larger_than_any_picture_is_not_looked_at(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at most 67 are taken"):
        decode_apart(bytes(apart.LARGEST + 1))
