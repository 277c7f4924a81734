"""What the server answers at all: requests that name it by a name of its own, pages of its own, uploads within their quota.

A layer in front of Streamlit's. It refuses WebSockets of foreign pages itself: Streamlit would first ask an address on the
internet for its own external address, in order to compare. And Streamlit compares the Host header of WebSockets alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.web.server.server_util import is_allowed_origin
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

SESSION_BYTES = 120_000_000  # uploads that one visitor's session may hold
TOTAL_BYTES = 1_000_000_000  # uploads that all of them may hold
# What a page may load: nothing from elsewhere, whatever is written in it. Streamlit's own scripts and styles need the rest.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; "  # the camera's picture is read from a data address
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; "
    "frame-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_UPLOAD = re.compile(r".*/_stcore/upload_file/([^/]+)/[^/]+")


class Doors:
    """ASGI middleware for `st.App`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._arriving = Arriving()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = refused(Headers(scope=scope), websocket=scope["type"] == "websocket")
        if problem:
            await _refuse(scope, receive, send, 421, problem)
            return
        if scope["path"].endswith("/_stcore/metrics") and not _asked_here(scope):
            await _refuse(scope, receive, send, 404, "Not found.")
            return
        if scope["type"] == "http":
            send = _with_headers(send)
        upload = _UPLOAD.fullmatch(scope["path"]) if scope.get("method") == "PUT" else None
        if upload is None:
            await self._app(scope, receive, send)
        else:
            await self._upload(upload[1], scope, receive, send)

    async def _upload(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand an upload on; its bytes count from the moment its first one arrives."""
        stated = Headers(scope=scope).get("content-length", "")
        if not stated.isdigit():
            await _refuse(scope, receive, send, 411, "An upload must say how long it is (Content-Length).")
            return
        length = int(stated)
        if not self._arriving.add(session, length, held()):
            await _refuse(
                scope, receive, send, 413, "Too many uploads are held at the moment; remove one, or try later."
            )
            return
        arrived = 0

        async def bounded() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            return message if arrived <= length else {"type": "http.disconnect"}

        try:
            await self._app(scope, bounded, send)
        finally:
            self._arriving.remove(session, length)


def refused(headers: Headers, *, websocket: bool) -> str:
    """Why a request is not for this server, "" when it is. A page of another site may not speak for a visitor (its Origin
    differs from Host), nor may a name that somebody pointed at this address (server.allowedHosts)."""
    host = headers.get("host")
    if not is_host_allowed(host):
        return "This server is not known by that name; its owner can add it (server.allowedHosts)."
    origin = headers.get("origin")
    if websocket and origin is not None and urlsplit(origin).netloc != host and not is_allowed_origin(origin):
        return "A page of another site may not connect here; the owner can allow it (server.corsAllowedOrigins)."
    return ""


@dataclass
class Arriving:
    """Bytes of uploads on their way, by session."""

    def __post_init__(self) -> None:
        self._bytes: dict[str, int] = {}

    def add(self, session: str, length: int, held: Mapping[str, int]) -> bool:
        """Count an upload in, unless it exceeds what a session or all of them may hold (held: bytes by session)."""
        mine = self._bytes.get(session, 0) + held.get(session, 0) + length
        everyones = sum(self._bytes.values()) + sum(held.values()) + length
        if mine > SESSION_BYTES or everyones > TOTAL_BYTES:
            return False
        self._bytes[session] = self._bytes.get(session, 0) + length
        return True

    def remove(self, session: str, length: int) -> None:
        self._bytes[session] -= length
        if not self._bytes[session]:
            del self._bytes[session]


def held() -> dict[str, int]:
    """Bytes of uploads in memory, by session."""
    if not Runtime.exists():
        return {}
    manager: Any = Runtime.instance().uploaded_file_mgr
    if not isinstance(manager, MemoryUploadedFileManager):
        return {}
    return {
        session: sum(len(file.data) for file in files.copy().values())
        for session, files in manager.file_storage.copy().items()
    }


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return sending


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, sentence: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": sentence})  # before it is accepted: HTTP 403
    else:
        await PlainTextResponse(sentence, status)(scope, receive, send)


def _asked_here(scope: Scope) -> bool:
    """Whether a request comes from this machine, and not through a proxy on it: the server's numbers are its owner's."""
    client = scope.get("client")
    return client is not None and is_loopback(client[0]) and "x-forwarded-for" not in Headers(scope=scope)


def is_loopback(address: str | None) -> bool:
    """Whether an address that a server listens on can be reached from its own machine alone."""
    return address in ("localhost", "::1") or bool(re.fullmatch(r"127(\.\d{1,3}){3}", address or ""))
