"""A visitor of the app without a browser: starts the server, opens its websocket, asks for page runs and times them.

What is timed is what the server does between a request and its "script finished" message, serialisation included and
drawing in the browser not. `analysis` does not import Streamlit, so the few fields of its protocol that are needed are
written here by their numbers (streamlit/proto/*.proto; protobuf never renumbers a field).
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from analysis.errors import AnalysisError

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds a server may take to start or a page to run
# Icons of the sentences that stand for a failed page, and two widgets alike.
_BROKEN = (b":material/error:", b":material/bug_report:", b"DuplicateElement")
_RERUN, _FILE_URLS = 11, 16  # BackMsg
_NEW_SESSION, _DELTA, _FINISHED, _NOT_FOUND, _FILE_URLS_RESPONSE, _NAVIGATION = 4, 5, 6, 15, 19, 23  # ForwardMsg
_FRAGMENT = 8  # of a Delta
_EARLY_FOR_RERUN = 2


@dataclass(frozen=True)
class Run:
    """One run of a page. seconds: from the request to its end; deltas: (fragment or "", element) of what it drew."""

    seconds: float
    deltas: tuple[tuple[str, bytes], ...]

    def shows(self, mark: str | bytes) -> bool:
        mark = mark.encode() if isinstance(mark, str) else mark
        return any(mark in element for _, element in self.deltas)

    def widget(self, key: str) -> tuple[str, str]:
        """(id of the widget with a key, the fragment it stands in)."""
        pattern = re.compile(rb"(.)(\$\$ID-[0-9a-f]+-" + re.escape(key.encode()) + rb")", re.DOTALL)
        for fragment, element in self.deltas:
            for length, identifier in pattern.findall(element):
                if ord(length) == len(identifier):  # a longer key that begins with this one has another length
                    return identifier.decode(), fragment
        raise AnalysisError(f"The page shows no widget {key!r}; was it renamed? Adapt analysis/bench/pages.py.")


class Server:
    """The app on a cache folder, in a process of its own. Use as a context manager."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache.absolute()
        self.port = _free_port()
        self.started = time.perf_counter()
        command = [
            sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(self.port),
            "--server.headless", "true", "--server.enableXsrfProtection", "false",  # uploads without a browser's cookie
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "RETRIEVALLENS_CACHE": str(self.cache)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self._wait()
        except AnalysisError:
            self.close()
            raise
        self.healthy = time.perf_counter() - self.started  # seconds until the server answered

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_loaded(self, library: str) -> bool | None:
        """Whether a shared library is mapped into the server; None where the system does not say."""
        try:
            return library in Path(f"/proc/{self._process.pid}/maps").read_text(encoding="utf-8")
        except OSError:
            return None

    def _wait(self) -> None:
        address = f"http://127.0.0.1:{self.port}/_stcore/health"
        while time.perf_counter() - self.started < PATIENCE:
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(address, timeout=1):
                    return
            except OSError:
                time.sleep(0.02)
        raise AnalysisError(
            f"The app did not answer on port {self.port} (exit code {self._process.poll()}); "
            "start it with `make run` to see why."
        )


class Visitor:
    """One browser tab on one page."""

    def __init__(self, server: Server, page: str) -> None:
        """page: the stem of its file, e.g. "concept"; "" is the first page."""
        from websockets.sync.client import connect

        self._page, self._port, self._session, self._hash = page, server.port, "", ""
        self._socket = connect(f"ws://127.0.0.1:{server.port}/_stcore/stream", max_size=None, open_timeout=PATIENCE)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def turn_to(self, page: str) -> None:
        """Another page in the same tab: the next run is of that one."""
        self._page, self._hash = page, ""

    def run(self, query: str = "", *, widgets: tuple[bytes, ...] = (), fragment: str = "") -> Run:
        """Run the page with an address's query string and changed widgets, or one fragment of it.

        AnalysisError when the page ends in an error sentence: a failed page would be a fast one.
        """
        start = time.perf_counter()
        self._socket.send(_message(_RERUN, self._asked(query, widgets, fragment)))
        drawn: list[bytes] = []
        while True:
            for number, value in self._receive():
                if number == _NEW_SESSION:
                    self._session = self._session or _session_id(value)
                elif number == _NAVIGATION:
                    self._hash = next((v.decode() for n, v in _fields(value) if n == 4), "")
                elif number == _DELTA:
                    drawn.append(value)
                elif number == _NOT_FOUND:
                    raise AnalysisError(f"The app has no page {self._page!r}; adapt PAGES in analysis/bench/pages.py.")
                elif number == _FINISHED and value != _EARLY_FOR_RERUN:
                    return self._sound(Run(time.perf_counter() - start, tuple(map(_element, drawn))), query)

    def leave(self, query: str) -> None:
        """Ask for a page and close the tab before it is there."""
        self._socket.send(_message(_RERUN, self._asked(query)))
        self._socket.close()

    def upload(self, name: str, data: bytes) -> bytes:
        """Send a file to the server; gives the uploader's state for `file_widget`. Needs a run before."""
        request = _text(1, uuid.uuid4().hex) + _text(2, name) + _text(3, self._session)
        self._socket.send(_message(_FILE_URLS, request))
        answer = None
        while answer is None:
            answer = next((value for number, value in self._receive() if number == _FILE_URLS_RESPONSE), None)
        urls = next(value for number, value in _fields(answer) if number == 2)
        parts = {number: value.decode() for number, value in _fields(urls)}
        _put(f"http://127.0.0.1:{self._port}{parts[2]}", name, data)
        info = _text(2, name) + _number(3, len(data)) + _text(4, parts[1]) + _message(5, urls)
        return _message(2, info)

    def _asked(self, query: str, widgets: tuple[bytes, ...] = (), fragment: str = "") -> bytes:
        state = _text(1, query) + _message(2, b"".join(_message(1, widget) for widget in widgets))
        return state + _text(3, self._hash) + _text(4, "" if self._hash else self._page) + _text(5, fragment)

    def _receive(self) -> list[tuple[int, Any]]:
        try:
            received = self._socket.recv(timeout=PATIENCE)
        except TimeoutError as error:
            raise AnalysisError(f"The page {self._page or 'start'} took more than {PATIENCE:.0f} s.") from error
        return list(_fields(received if isinstance(received, bytes) else received.encode()))

    def _sound(self, run: Run, query: str) -> Run:
        if any(run.shows(mark) for mark in _BROKEN):
            raise AnalysisError(
                f"The page {self._page or 'start'}?{query} ended in an error; open it in the app to see which."
            )
        return run


def button_widget(identifier: str) -> bytes:
    """A button that was just pressed."""
    return _text(1, identifier) + _number(2, 1)


def file_widget(identifier: str, state: bytes) -> bytes:
    return _text(1, identifier) + _message(13, state)


def choice_widget(identifier: str, chosen: tuple[str, ...]) -> bytes:
    """Pills and segmented controls, by the words that are shown."""
    return _text(1, identifier) + _message(9, b"".join(_text(1, word) for word in chosen))


def _element(delta: bytes) -> tuple[str, bytes]:
    return next((value.decode() for number, value in _fields(delta) if number == _FRAGMENT), ""), delta


def _session_id(new_session: bytes) -> str:
    first = next((value for number, value in _fields(new_session) if number == 1), b"")
    return next((value.decode() for number, value in _fields(first) if number == 6), "")


def _put(address: str, name: str, data: bytes) -> None:
    border = uuid.uuid4().hex
    head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename={json.dumps(name)}\r\n'
    body = head.encode() + b"Content-Type: image/png\r\n\r\n" + data + f"\r\n--{border}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={border}"}
    request = urllib.request.Request(address, body, headers, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass
    except urllib.error.HTTPError as error:
        raise AnalysisError(f"The upload was refused ({error.code}: {error.read()[:200]!r}).") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- protobuf's wire format: a key (field number and kind), then a number or a length and its bytes -------------------
def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode()) if value else b""


def _message(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, int or bytes) of a message, in order."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, at = _read_varint(data, at)
        yield key >> 3, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
        shift += 7
