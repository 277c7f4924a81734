"""A running app and a real browser. Chromium is the machine's own (Debian's package, Chrome on a Mac); without one these
tests skip with the reason, or fail where RETRIEVALLENS_REQUIRE_BROWSER says that there must be one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",  # a camera for those who are allowed one
]  # fmt: skip
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
START_SECONDS = 120
PATIENCE = 120_000  # milliseconds; a busy machine is slow, not wrong
# Without a graphics card every frame of a spinner or a fade is drawn by the processor that runs the app.
STILL = """addEventListener('DOMContentLoaded', () => document.head.appendChild(document.createElement('style')).textContent =
  '*, *::before, *::after { animation: none !important; transition: none !important }')"""
QUIET = """([asked, quiet]) => {
  const now = performance.now(), app = document.querySelector('[data-testid=stApp]');
  if (!window.watch) {
    window.watch = new MutationObserver(() => { window.changed = performance.now(); });
    window.watch.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
  }
  if (window.asked !== asked) [window.asked, window.began, window.changed] = [asked, now, now];
  if (!['notRunning', 'compilationError'].includes(app?.dataset.testScriptState)
      || document.querySelector('[data-stale=true]')) [window.began, window.changed] = [now, now];
  return now - window.changed > quiet || now - window.began > 20 * quiet;  // what never stands still is not waited for
}"""


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None) or (
        str(MAC) if MAC.exists() else None
    )
    if found is None:
        reason = f"no browser among {', '.join(BROWSERS)}: install Chromium to run the browser tests"
        if os.environ.get("RETRIEVALLENS_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Any]:
    """One browser for all tests of this folder: `new_page` gives each a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Any, *, width: int = 1280, height: int = 900, **options: Any) -> Iterator[Any]:
    """A page without animations, which knows nothing of the pages before it."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(PATIENCE)
    context.add_init_script(STILL)
    try:
        yield context.new_page()
    finally:
        context.close()


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots are kept, for people to look at after a run."""
    folder = ROOT / "test-results" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the app on the embedded demo."""
    with serving(tmp_path_factory.mktemp("app") / "server.log") as address:
        yield address


@contextmanager
def serving(log_file: Path, *, port: int = 0, **environment: str) -> Iterator[str]:
    """Address of a fresh app, started as `make run` does, on a port of this machine (0: a free one)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    log = log_file.open("w")
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    server = subprocess.Popen(
        [*command, "--server.address", "127.0.0.1"],
        cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/_stcore/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()


def settled(page: Any, quiet: int = 250) -> None:
    """Until the script has run through and nothing has changed for so many milliseconds."""
    page.wait_for_function(QUIET, arg=[time.monotonic(), quiet], polling=50)


def _wait(address: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the app ended with exit code {server.returncode} while starting")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise RuntimeError(f"the app did not answer at {address} within {START_SECONDS} s")
