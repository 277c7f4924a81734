"""A query by camera: the browser's own test picture is taken and ranked."""

from __future__ import annotations

import re

import pytest

from analysis.store import find_stores
from tests.e2e.conftest import ROOT, new_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
BACKBONE = "qwen2-vl-mini"


def test_a_picture_taken_by_camera_is_ranked(browser, app, shots):
    ref = next(ref for ref in find_stores(ROOT / "cache") if ref.ok and ref.backbone == BACKBONE)
    with new_page(browser, height=1300, base_url=app, permissions=["camera"]) as page:
        page.goto(f"/live_query?store={BACKBONE}/{ref.path.name}&task=i2t")
        page.get_by_test_id("stButtonGroup").get_by_text("Camera", exact=True).click()
        page.wait_for_url(re.compile("source=camera"))
        camera = page.get_by_test_id("stCameraInput")
        camera.locator("video").wait_for()
        page.wait_for_function("() => document.querySelector('[data-testid=stCameraInput] video')?.videoWidth > 0")
        page.wait_for_timeout(1500)
        page.screenshot(path=shots / "live-camera.png")

        camera.get_by_role("button", name="Take Photo").click()
        page.locator(".st-key-ranked_after").wait_for()
        page.get_by_role("button", name="Unload").wait_for()
        page.get_by_text(re.compile(r"\d+ tokens")).first.wait_for()
        page.screenshot(path=shots / "live-camera-ranked.png")
        shown = page.locator(".st-key-ranked_after").inner_text()
        assert len(re.findall(r"^\d+\u2002", shown, re.MULTILINE)) >= 8
        assert "Traceback" not in page.locator("[data-testid=stMain]").inner_text()

        camera.get_by_role("button", name="Clear photo").click()
        page.locator(".st-key-ranked_after").wait_for(state="detached")
