"""Signing in by OIDC against a provider that this test plays: nothing is shown before, the visitor's pages after, and what
a role does not include is refused in a sentence."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.e2e.conftest import new_page, serving
from tests.synthetic_store import make_store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
jose = pytest.importorskip("authlib.jose", reason="authlib is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
PORT = 8629  # the provider sends visitors back to an address that is known beforehand


class Provider(ThreadingHTTPServer):
    """The part of OpenID Connect that a sign-in uses: description, authorisation, token, keys."""

    daemon_threads = True

    def __init__(self, email: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.key = jose.JsonWebKey.generate_key("RSA", 2048, {"kid": "k"}, is_private=True)
        self.email, self.asked = email, {}  # type: ignore[var-annotated]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        home = self.server.address
        if path == "/.well-known/openid-configuration":
            self._json(
                {
                    "issuer": home, "authorization_endpoint": f"{home}/authorize", "token_endpoint": f"{home}/token",
                    "jwks_uri": f"{home}/keys", "id_token_signing_alg_values_supported": ["RS256"],
                    "code_challenge_methods_supported": ["S256"],
                }
            )  # fmt: skip
        elif path == "/keys":
            self._json({"keys": [self.server.key.as_dict(is_private=False)]})
        elif path == "/authorize":
            self.server.asked = {name: values[0] for name, values in query.items()}
            back = urlencode({"code": "code-1", "state": query["state"][0]})
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri'][0]}?{back}")
            self.end_headers()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        asked, now = self.server.asked, int(time.time())
        verifier = hashlib.sha256(form["code_verifier"][0].encode()).digest()
        if (
            form["code"] != ["code-1"]
            or base64.urlsafe_b64encode(verifier).rstrip(b"=").decode() != asked["code_challenge"]
        ):
            self.send_error(400)
            return
        claims = {
            "iss": self.server.address, "aud": asked["client_id"], "sub": "1", "email": self.server.email, "iat": now,
            "exp": now + 600, "nonce": asked.get("nonce"),
        }  # fmt: skip
        token = jose.jwt.encode({"alg": "RS256", "kid": "k"}, claims, self.server.key).decode()
        self._json({"access_token": "a", "token_type": "Bearer", "expires_in": 600, "id_token": token})

    def _json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The test's output stays free of requests."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    found = Provider("eve@lab.org")
    thread = threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def test_a_visitor_signs_in_and_does_what_the_role_includes(
    provider: Provider, browser: playwright.Browser, tmp_path: Path
) -> None:
    make_store(tmp_path / "cache", backbone="clip-mini", n_pairs=12)
    (tmp_path / "secrets.toml").write_text(
        f'[auth]\nredirect_uri = "http://127.0.0.1:{PORT}/oauth2callback"\ncookie_secret = "{"s" * 40}"\n'
        'client_id = "lens"\nclient_secret = "secret"\n'
        f'server_metadata_url = "{provider.address}/.well-known/openid-configuration"\n'
    )
    environment = {
        "RETRIEVALLENS_CACHE": str(tmp_path / "cache"), "STREAMLIT_SECRETS_FILES": str(tmp_path / "secrets.toml"),
        "RETRIEVALLENS_ROLES": "write=ann@lab.org",
    }  # fmt: skip
    with (
        serving(tmp_path / "app.log", port=PORT, **environment) as address,
        new_page(browser, base_url=address) as page,
    ):
        page.goto("/concept?store=clip-mini&concept=1")
        page.get_by_role("button", name="Sign in").wait_for()
        assert page.get_by_text("stand for?").count() == 0
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("How many", exact=False).or_(page.get_by_text("?", exact=False)).first.wait_for()
        page.goto("/concept?store=clip-mini&concept=1")
        page.get_by_text("stand for?").wait_for()
        page.get_by_role("button", name="Label").click()
        page.get_by_label("Your label").fill("mine")
        page.get_by_role("button", name="Keep").click()
        page.get_by_text("You may look at everything here, and not write labels").wait_for()
