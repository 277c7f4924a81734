"""In a real browser: whatever link, store, label or text field say, no request leaves the page and no link leads away."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from pages.components.shared import state
from pages.components.shared.state import PAGES
from tests.e2e.conftest import new_page, serving, settled
from tests.hostile_store import EVIL, POISON, make_hostile_store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def tab(browser: playwright.Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    folder = tmp_path_factory.mktemp("hostile")
    make_hostile_store(folder / "cache", backbone="qwen2-vl-mini", tokens=True, demo=True, r2=0.1)
    with (
        serving(folder / "app.log", RETRIEVALLENS_CACHE=str(folder / "cache")) as address,
        new_page(browser, height=1000, base_url=address) as page,
    ):
        page.left = []
        page.on("request", lambda asked: page.left.append(asked.url) if not _ours(asked.url, address) else None)
        yield page


def _ours(url: str, address: str) -> bool:
    return url.startswith((address, address.replace("http", "ws", 1), "data:", "blob:"))


def settle(page) -> None:
    page.get_by_test_id("stHeading").first.wait_for()
    settled(page)


def quiet(page) -> None:
    hrefs = page.evaluate(
        "[...document.querySelectorAll('a[href], img[src], use, iframe')].map(e => e.href || e.src || '')"
    )
    home = page.evaluate("location.origin")
    away = [href for href in hrefs if str(href) and not str(href).startswith((home, "data:", "blob:", "{"))]
    assert (away, page.left) == ([], [])


@pytest.mark.parametrize("name", PAGES)
def test_no_request_leaves_and_no_link_leads_away(name: str, tab) -> None:
    path = "/" if name == "overview" else f"/{name}"
    every = dict.fromkeys(sorted(state.KNOWN - {state.STORE, state.STORES}), POISON)
    found = {"store": "qwen2-vl-mini", "source": "data", "concept": "0"}  # what leads to the texts of the store
    for params in ({**every, **found}, {"text": POISON}) if name == "live_query" else ({**every, **found},):
        tab.goto(f"{path}?{urlencode(params)}")
        settle(tab)
        if name not in ("stores", "findings", "present"):  # these show no text of a store or a link by themselves
            tab.wait_for_function("evil => document.documentElement.innerHTML.includes(evil)", arg=EVIL, polling=200)
        quiet(tab)
    boxes = tab.locator("input[type=text]:visible, textarea:visible")
    for slot in range(min(boxes.count(), 2)):
        box = boxes.nth(slot)
        if box.is_enabled() and box.is_editable():
            box.fill(POISON[:150])
            box.press("Enter")
            settle(tab)
            quiet(tab)
