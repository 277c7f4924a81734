"""Thirty steps through the app, then all of them back and ten forth again: address and page agree wherever that leads."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import new_page, settled

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
STORE = "qwen2-vl-mini"


def test_thirty_steps_back_and_forth(browser: playwright.Browser, app: str) -> None:
    with new_page(browser) as page:
        page.goto(f"{app}/concepts?store={STORE}")
        page.locator("h1").first.wait_for()
        settled(page)
        start = address(page)
        seen = {start: shown(page)}
        for step in steps(page):
            step()
            found = shown(page)
            seen[address(page)] = found
        assert len(seen) >= 25, "the steps lead to different places"
        wrong, met = [], set()
        for way, most in ((page.go_back, 60), (page.go_forward, 10)):  # each costs a second of processor time
            for _ in range(most):
                way()
                found, here = shown(page), address(page)
                if here in seen:
                    met.add(here)
                    if found != seen[here]:
                        wrong.append((here, seen[here], found))
                if here == start:
                    break
        assert not wrong, wrong[:3]
        assert len(met) >= len(seen) - 3


def test_a_link_of_the_navigation_is_one_step_of_the_browser(browser: playwright.Browser, app: str) -> None:
    """Whatever a page opens on: one step back leads to where the visitor was."""
    with new_page(browser) as page:
        page.goto(app)
        page.locator("h1").first.wait_for()
        settled(page)
        links = page.get_by_test_id("stTopNavLink")
        assert links.count() >= 9
        for number in range(1, links.count()):
            before = page.evaluate("history.length")
            links.nth(number).click()
            settled(page)
            assert page.evaluate("history.length") == before + 1, page.url
            page.go_back()
            settled(page)
            assert urlsplit(page.url).path == "/"
            page.goto(f"{app}?again={number}")  # a history that ends here
            settled(page)


def steps(page: Any) -> list[Any]:
    """What a visitor does, one thing at a time."""

    def choose(label: str, option: str) -> Any:
        def go() -> None:
            page.get_by_role("combobox", name=re.compile(label)).first.click()
            page.keyboard.type(option)
            page.get_by_role("option", name=option, exact=True).or_(page.get_by_role("option")).first.wait_for()
            page.keyboard.press("Enter")

        return go

    def press(name: str, role: str = "button") -> Any:
        return lambda: page.get_by_role(role, name=name, exact=True).first.click()

    def link(name: str) -> Any:
        return lambda: page.get_by_test_id("stTopNavLink").get_by_text(name, exact=True).click()

    def find(words: str) -> Any:
        def go() -> None:
            page.get_by_role("textbox", name="Search").fill(words)
            page.keyboard.press("Enter")

        return go

    return [
        find("dog"), press("map", "radio"), press("table", "radio"), find("snow"), find(""),
        choose("Sort by", "attribution"), choose("Order", "ascending"),
        link("Concept"), press("Next"), press("Next"), press("Previous"),
        link("Retrieval lab"), choose("Method", "ReAlign"), choose("Method", "Centring"), choose("Task", "t2i"),
        press("Query by query", "tab"), press("Next"), press("Next"), press("all", "radio"), press("Previous"),
        press("Why it works or not", "tab"), press("All queries", "tab"), choose("Method", "Removal"),
        link("Live query"), choose("Task", "i2t"), choose("Method", "ReAlign"), press("Another"), press("Another"),
        choose("Method", "Centring"), link("Overview"),
    ]  # fmt: skip


def address(page: Any) -> str:
    parts = urlsplit(page.url)
    return f"{parts.path}?{parts.query}"


def shown(page: Any) -> tuple[str, str]:
    """What tells one place from another: the title, what was chosen, and the words of the page, once they stand still."""
    settled(page)
    before = None
    while (found := read(page)) != before:
        before = found
        settled(page, 500)  # with half of it a click on a tab was read too early once, both cores busy
    return found


def read(page: Any) -> tuple[str, str]:
    chosen = page.evaluate(
        "() => ['stSelectbox', 'stNumberInput', 'stTextInput']"
        ".flatMap(id => [...document.querySelectorAll(`[data-testid=${id}]`)])"
        ".map(box => box.innerText.replace(/\\s+/g, ' ') + (box.querySelector('input')?.value || '')).join('|')"
        "+ [...document.querySelectorAll('[aria-checked=true],[aria-selected=true]')].map(e => e.innerText)"
    )
    title = page.locator("h1").first.inner_text()
    words = page.evaluate(
        "() => [...document.querySelectorAll('[data-testid=stMain] [data-testid=stMarkdown]')].map(e => e.innerText)"
        ".join(' ').replace(/\\s+/g, ' ').slice(0, 1500)"
    )
    return title, re.sub(r"\s*\d+/100", "", f"{chosen} {words}")  # letters of the field that has the focus
