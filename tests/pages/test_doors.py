"""Which requests the server answers, what it may hold of uploads, and that nothing of a link makes it reach out."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import Headers
from streamlit import config

from analysis.bench.visitor import Run, Visitor
from pages.components.server import doors
from pages.components.server.doors import Arriving, Doors, is_loopback, refused
from tests.synthetic_store import make_store

ROOT = Path(__file__).parents[2]
FAR = "somebody/far-away-model"


@pytest.fixture
def hosts() -> Iterator[None]:
    before = config.get_option("server.allowedHosts")
    config.set_option("server.allowedHosts", ["localhost", "127.0.0.1", "::1"])
    yield
    config.set_option("server.allowedHosts", before)


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize(
    ("host", "origin", "websocket", "part"),
    [
        ("127.0.0.1:8501", None, True, ""),
        ("127.0.0.1:8501", "http://127.0.0.1:8501", True, ""),
        ("localhost:8501", "http://localhost:8501", True, ""),
        ("[::1]:8501", "http://[::1]:8501", True, ""),
        ("127.0.0.1:8501", "https://evil.example", True, "page of another site"),
        ("127.0.0.1:8501", "http://127.0.0.1:9999", True, "page of another site"),
        ("127.0.0.1:8501", "null", True, "page of another site"),
        ("127.0.0.1:8501", "", True, "page of another site"),
        ("127.0.0.1:8501", "https://evil.example", False, ""),  # HTTP answers carry no leave to read them elsewhere
        ("evil.example:8501", "http://evil.example:8501", True, "not known by that name"),
        ("evil.example", None, False, "not known by that name"),
        ("127.0.0.1.evil.example", None, False, "not known by that name"),
        ("user@127.0.0.1", None, False, "not known by that name"),
        (None, None, False, "not known by that name"),
    ],
)
def test_names_and_pages_of_others_are_refused(host, origin, websocket, part) -> None:
    given = {name: value for name, value in (("host", host), ("origin", origin)) if value is not None}
    said = refused(Headers(given), websocket=websocket)
    assert part in said
    assert bool(said) == bool(part)


def test_loopback_addresses_are_told_from_those_that_others_reach() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.3.2.1", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.5", "", None, "127.0.0.1.evil.example")))


def test_uploads_on_their_way_and_in_memory_count_against_session_and_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "SESSION_BYTES", 100)
    monkeypatch.setattr(doors, "TOTAL_BYTES", 150)
    arriving = Arriving()
    assert arriving.add("a", 60, {})
    assert not arriving.add("a", 41, {})
    assert not arriving.add("a", 30, {"a": 11})
    assert arriving.add("a", 30, {"a": 10})
    assert not arriving.add("b", 51, {"a": 10})
    assert arriving.add("b", 50, {"a": 10})
    arriving.remove("a", 60)
    arriving.remove("a", 30)
    assert arriving.add("a", 100, {})


def put(app: Any, length: str | None, body: list[bytes]) -> tuple[int, int]:
    """(status, bytes that the app behind the doors was given) of an upload."""
    headers = [(b"host", b"127.0.0.1")] + ([(b"content-length", length.encode())] if length is not None else [])
    scope = {"type": "http", "method": "PUT", "path": "/_stcore/upload_file/s1/f1", "headers": headers}
    pieces, sent = list(body), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    seen = SimpleNamespace(total=0)

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            seen.total += len(message["body"])
            if not message["more_body"]:
                await send({"type": "http.response.start", "status": 204, "headers": []})
                return

    asyncio.run(app(behind)(scope, receive, send))
    return next((message["status"] for message in sent if "status" in message), 0), seen.total


@pytest.mark.usefixtures("hosts")
def test_an_upload_is_cut_at_the_length_that_it_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "SESSION_BYTES", 100)
    assert put(Doors, "30", [b"x" * 15, b"x" * 15]) == (204, 30)
    assert put(Doors, "30", [b"x" * 15, b"x" * 95, b"x" * 900]) == (0, 15)
    assert put(Doors, "101", [b"x"]) == (413, 0)
    assert put(Doors, None, [b"x"]) == (411, 0)
    assert put(Doors, "-5", [b"x"]) == (411, 0)


# --- a server that cannot leave this machine --------------------------------------------------------------------------
@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("closed")
    for backbone in ("clip-vit-b32", "qwen3-vl-8b"):  # their weights are on the hub alone
        make_store(folder / "cache", backbone=backbone)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "left.txt"
    hub = {"HF_HUB_CACHE": str(folder / "hub"), "HF_TOKEN": "hf_of_the_owner"}
    command = [sys.executable, "tests/closed_network.py", str(log), "run", "app.py", "--server.port", str(port)]
    environment = {**os.environ, **hub, "RETRIEVALLENS_CACHE": str(folder / "cache")}
    environment.pop("RETRIEVALLENS_MODELS", None)
    with (folder / "server.log").open("w") as out:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield SimpleNamespace(port=port, log=log, hub=folder / "hub", out=folder / "server.log")
    finally:
        server.terminate()
        server.wait(30)


def left(closed: SimpleNamespace) -> str:
    return closed.log.read_text(encoding="utf-8") if closed.log.exists() else ""


def said(run: Run) -> str:
    return b"\n".join(element for _, element in run.deltas).decode("utf-8", "replace")


@pytest.mark.parametrize(
    "model", [FAR, "gpt2", "/etc", "/nowhere-at-all", "../../..", "https://evil.example/model", "qwen2-vl-7b"]
)
def test_a_link_that_names_a_model_asks_nobody_and_learns_nothing(closed: SimpleNamespace, model: str) -> None:
    with Visitor(closed, "live_query") as visitor:  # type: ignore[arg-type]
        shown = said(visitor.run(f"store=clip-vit-b32&task=t2i&text=a+dog&model={model}"))
    assert left(closed) == ""
    assert not list(closed.hub.rglob("*"))
    assert "which this server does not offer" in shown


def test_a_store_whose_weights_are_on_the_hub_asks_for_them_by_a_click_alone(closed: SimpleNamespace) -> None:
    for beside in ("", "&beside=qwen3-vl-8b"):
        with Visitor(closed, "live_query") as visitor:  # type: ignore[arg-type]
            shown = said(visitor.run(f"store=clip-vit-b32&task=t2i&text=a+dog{beside}"))
        assert "is not loaded by itself" in shown
        assert "What is not here comes from the hub first." in shown
        assert left(closed) == ""


def test_foreign_pages_and_names_are_turned_away_without_a_look_outside(closed: SimpleNamespace) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    for name, origin in (("127.0.0.1", "https://evil.example"), ("evil.example", f"http://evil.example:{closed.port}")):
        with pytest.raises(InvalidStatus, match="403"):
            connect(
                f"ws://{name}:{closed.port}/_stcore/stream",
                sock=socket.create_connection(("127.0.0.1", closed.port)),
                origin=origin,  # type: ignore[arg-type]
            )
    request = urllib.request.Request(f"http://127.0.0.1:{closed.port}/_stcore/health", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="421"):
        urllib.request.urlopen(request, timeout=5)
    assert left(closed) == ""


def test_the_closed_network_would_have_seen_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.closed_network import close; close(Path(sys.argv[1]));"
        "from streamlit.net_util import get_external_ip; assert get_external_ip() is None"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], cwd=ROOT, check=True, capture_output=True)
    assert "checkip.amazonaws.com" in (tmp_path / "log").read_text()
