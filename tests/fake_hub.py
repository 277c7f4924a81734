"""A model hub on this machine: the part of its protocol that loading a model uses, with files that arrive slowly."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

COMMIT = "c0ffee" * 6 + "beef"
PIECE = 1 << 15  # bytes between two pauses


@contextmanager
def serving_hub(folder: Path, hub_id: str, *, rate: float = 0.0) -> Iterator[FakeHub]:
    """`folder` as the repository `hub_id`, on a free port; weights leave with `rate` bytes a second, 0: at once."""
    hub = FakeHub(folder, hub_id, rate)
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Point the hub client of this process to an address and an empty cache: it read both at import."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


def sharded(checkpoint: Path, folder: Path, n_shards: int) -> Path:
    """A copy of a checkpoint whose weights lie in several files with an index, as large models are stored."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights, key=lambda name: -weights[name].numel())
    where = {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05d}-of-{n_shards:05d}.safetensors"
        save_file({name: weights[name] for name in names[shard::n_shards]}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(names[shard::n_shards], file)
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


class FakeHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, hub_id: str, rate: float) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
        self.hub_id, self.rate = hub_id, rate
        self.line = threading.Lock()  # one slow line for all weights
        self.asked: list[str] = []  # "GET /path", in order

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fetched(self, name: str) -> int:
        """How often a file's bytes were asked for."""
        return sum(line.startswith("GET") and line.endswith(f"/{name}") for line in self.asked)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, with_body: bool) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {path}")
        hub_id = re.escape(self.server.hub_id)
        if re.fullmatch(rf"/api/models/{hub_id}(/revision/(main|{COMMIT}))?", path):
            files = [{"rfilename": name, "size": len(data)} for name, data in self.server.files.items()]
            self._json({"id": self.server.hub_id, "sha": COMMIT, "siblings": files})
        elif re.fullmatch(rf"/api/models/{hub_id}/tree/(main|{COMMIT})", path):
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": _tag(data)}
                    for name, data in self.server.files.items()
                ]
            )
        elif found := re.fullmatch(rf"/{hub_id}/resolve/(?:main|{COMMIT})/([^/]+)", path):
            data = self.server.files.get(found[1])
            if data is None:
                self._refuse("EntryNotFound")
            else:
                self._file(found[1], data, with_body)
        else:
            known = path.startswith((f"/{self.server.hub_id}/", f"/api/models/{self.server.hub_id}/"))
            self._refuse("EntryNotFound" if known else "RepoNotFound")

    def _file(self, name: str, data: bytes, with_body: bool) -> None:
        start = int(re.findall(r"\d+", self.headers.get("Range", "bytes=0-"))[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_tag(data)}"')
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if not with_body:
            return
        if not self.server.rate or not name.endswith((".safetensors", ".bin")):
            self.wfile.write(data[start:])
            return
        for place in range(start, len(data), PIECE):
            with self.server.line:
                time.sleep(PIECE / self.server.rate)
            self.wfile.write(data[place : place + PIECE])

    def _json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """The test's output stays free of requests."""


def _tag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
