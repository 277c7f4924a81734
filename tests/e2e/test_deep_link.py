"""A link from a colleague is the first thing that a fresh server sees; the browser's back button returns to what it showed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import new_page, serving
from tests.synthetic_store import make_store

pytestmark = pytest.mark.browser
SECONDS = 120_000  # milliseconds; a busy machine is slow, not wrong


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    make_store(folder, backbone="clip-mini")
    make_store(folder, backbone="qwen2-vl-mini", seed=3)
    return folder


@pytest.fixture
def fresh(cache: Path) -> Iterator[str]:
    """Address of a server that nobody has visited yet, on a small store. The first link of others: "/" in test_main_job, a
    concept in test_sign_in, bridges in test_explorer, the hidden page in test_findings."""
    with serving(cache / "server.log", RETRIEVALLENS_CACHE=str(cache)) as address:
        yield address


@pytest.mark.slow
def test_deep_links_on_a_fresh_server_and_the_way_back(fresh: str, browser: Any, shots: Path) -> None:
    from playwright.sync_api import expect

    with new_page(browser, height=1000) as page:
        # A page whose controls write the address is the first that the server shows.
        page.goto(f"{fresh}/retrieval_lab?store=qwen2-vl-mini")
        expect(page.get_by_role("heading", name="What helps retrieval?")).to_be_visible(timeout=SECONDS)
        expect(page.get_by_role("link", name="Stores", exact=True)).to_be_visible(timeout=SECONDS)  # the router ran
        assert page.get_by_text("Page not found").count() == 0
        assert "qwen2-vl-mini" in page.url

        page.goto(f"{fresh}/concept?store=qwen2-vl-mini&concept=2")
        expect(page.get_by_role("heading", name="What does concept 2, “dog”, stand for?")).to_be_visible(
            timeout=SECONDS
        )
        expect(page.get_by_role("link", name="Stores")).to_be_visible(timeout=SECONDS)  # the navigation: the router ran
        assert page.get_by_text("Page not found").count() == 0

        page.get_by_role("button", name="Next").click()
        expect(page.get_by_role("heading", name="What does concept 3")).to_be_visible(timeout=SECONDS)
        assert "concept=3" in page.url
        page.go_back()
        expect(page.get_by_role("heading", name="What does concept 2")).to_be_visible(timeout=SECONDS)
        page.screenshot(path=shots / "deep-link.png")
