"""Decoding a stranger's picture in a process apart: one at a time, with limits on memory and time that the system keeps
whatever the file makes its decoder do. What comes back is a plain PNG that later steps can trust.

The process is started with the first picture and stays warm. It is asked in lengths and bytes, and answers in JSON and
bytes: nothing that it says is executed.
"""

from __future__ import annotations

import io
import json
import os
import selectors
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from analysis.data.defects import printable
from analysis.errors import DataError

START = 120.0  # seconds that the process may take to start, on a machine that is busy
SECONDS = 15.0  # that decoding one picture may take
PATIENCE = 60.0  # seconds that somebody waits for the pictures of others
MEMORY = 900_000_000  # bytes that the process may ask for beyond what it has when it starts
LARGEST = 64 * 2**20  # bytes of a file
SENT_BACK = 2**28  # bytes of an answer
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
    "JPEG2000",
)  # PPM is text: a comment in it takes half a minute
_READY = b"ready\n"
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Decoded:
    """An upright RGB picture of at most GUARD_PIXELS pixels, as a PNG, and what decoding did to it, a sentence each."""

    png: bytes
    notes: tuple[str, ...] = ()


def decode_apart(data: bytes, *, name: str = "your picture") -> Decoded:
    """The picture in some bytes; the same pixels as `pictures.decode` gives. DataError in one sentence for what is no picture,
    damaged, too large, or beyond the limits of time and memory."""
    if len(data) > LARGEST:
        raise DataError(
            f"{printable(name)} has {len(data) / 1e6:.0f} MB; at most {LARGEST / 1e6:.0f} are taken: save it smaller."
        )
    if not _turn.acquire(timeout=PATIENCE):
        raise DataError("Pictures of other visitors are being read; try again in a moment.")
    try:
        answer = _worker().ask(name.encode("utf-8", "replace")[:400], data)
    except (EOFError, TimeoutError, OSError) as error:
        raise DataError("The process that decodes pictures does not start; the server's owner can see why.") from error
    finally:
        _turn.release()
    if answer is None:
        raise DataError(
            f"{printable(name)} takes more than {SECONDS:.0f} seconds or {MEMORY / 1e6:.0f} MB to decode; save it as a plain "
            "JPEG or PNG."
        )
    facts, png = answer
    if "problem" in facts:
        raise DataError(str(facts["problem"]))
    return Decoded(png, tuple(map(str, facts["notes"])))


_turn = threading.Lock()
_running: list[_Worker] = []


class _Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "analysis.data.apart"],
            cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        self._sent, self._answers = self._process.stdin, self._process.stdout

        head = self._receive(len(_READY), time.monotonic() + START)
        if head != _READY:
            raise EOFError

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, name: bytes, data: bytes) -> tuple[dict[str, Any], bytes] | None:
        """The answer, None where there is none: the process ended, or had to be ended."""
        deadline = time.monotonic() + SECONDS
        assert self._sent is not None
        sending = threading.Thread(
            target=self._send, args=(struct.pack(">II", len(name), len(data)) + name + data,), daemon=True
        )
        sending.start()
        try:
            head = self._receive(8, deadline)
            facts, length = struct.unpack(">II", head)
            if facts + length > SENT_BACK:
                raise EOFError
            return json.loads(self._receive(facts, deadline)), self._receive(length, deadline)
        except (EOFError, TimeoutError, ValueError, OSError, struct.error):
            self.end()
            return None
        finally:
            sending.join(1)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._sent, self._answers):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _send(self, request: bytes) -> None:
        assert self._sent is not None
        with suppress(OSError, ValueError):  # it ended meanwhile: whoever waits for the answer notices
            self._sent.write(request)
            self._sent.flush()

    def _receive(self, count: int, deadline: float) -> bytes:
        assert self._answers is not None
        pieces, missing = [], count
        with selectors.DefaultSelector() as ready:
            ready.register(self._answers, selectors.EVENT_READ)
            while missing:
                if not ready.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                piece = os.read(self._answers.fileno(), min(missing, 1 << 20))
                if not piece:
                    raise EOFError
                pieces.append(piece)
                missing -= len(piece)
        return b"".join(pieces)


def _worker() -> _Worker:
    """The process, started anew where it ended. Called by whoever has the turn."""
    if not _running or not _running[0].alive:
        _running[:] = [_Worker()]
    return _running[0]


# --- in the process apart ---------------------------------------------------------------------------------------------
def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    _limit()
    answers.write(_READY)
    answers.flush()
    while head := requests.read(8):
        names, length = struct.unpack(">II", head)
        name, data = requests.read(names).decode("utf-8", "replace"), requests.read(length)
        png = b""
        try:
            png, notes = _decoded(data, name)
            facts: dict[str, Any] = {"notes": notes}
        except DataError as error:
            facts = {"problem": str(error)}
        except MemoryError:
            return  # what is left of the process is not worth keeping
        text = json.dumps(facts).encode()
        answers.write(struct.pack(">II", len(text), len(png)) + text)
        answers.write(png)
        answers.flush()
        del data, png


def _decoded(data: bytes, name: str) -> tuple[bytes, list[str]]:
    from analysis.data.pictures import decode, picture_notes

    image = decode(data, name=name, formats=FORMATS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), list(picture_notes(data, name))


def _limit() -> None:
    """From here on the system refuses memory beyond MEMORY, where it can (Linux)."""
    from analysis.data.pictures import Image

    Image.init()
    with suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
