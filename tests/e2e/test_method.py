"""Putting a method together in a real browser: what a closed popover holds is not read back."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from analysis.store import find_stores
from tests.e2e.conftest import ROOT, new_page, settled

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
BACKBONE = "qwen2-vl-mini"
FIRST = "removal:attribution,share=0.05"  # of 256 concepts: enough for two steps of r


def test_changes_stay_after_the_method_was_looked_at_as_text(browser, app):
    """On the lab, which has the same control, tests/pages/test_retrieval_lab.py shows it without a browser."""
    ref = next(ref for ref in find_stores(ROOT / "cache") if ref.ok and ref.backbone == BACKBONE)
    with new_page(browser, height=1300) as page:

        def reaches(method: str) -> None:
            page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("method") == [method])
            settled(page)

        page.goto(f"{app}/live_query?source=data&store={BACKBONE}/{ref.path.name}&task=i2t&method={FIRST}")
        slider = page.get_by_role("slider", name="r, of")
        slider.wait_for()
        settled(page)
        page.get_by_role("button", name="As text").click()
        page.get_by_label("The same as text").wait_for()
        page.keyboard.press("Escape")
        settled(page)
        most = int(slider.get_attribute("max"))
        for step in (1, 2):
            slider.press("ArrowLeft")
            reaches(f"{FIRST},r={most - step}")
        page.get_by_role("combobox", name="And then").click()
        page.get_by_role("option", name="ReAlign", exact=True).click()
        reaches(f"{FIRST},r={most - 2}+realign:alpha=0.1")
