"""From a pin to a meeting in a real browser: pin, order, present with keys, export, and a cold server that has it all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.store import notebook
from pages.components.shared.state import DEFAULT_PAGE
from tests.e2e.conftest import new_page, serving, settled
from tests.pages.opening import open_page
from tests.synthetic_store import make_store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
BY_HAND = {"concept": "concept"}
BY_SCRIPT = {  # the other pages: what a press of their pins does is the same in any browser
    "overview": "modality", "concepts": "concepts", "retrieval_lab": "recall", "bridges": "bridge", "compare": "pair",
    "live_query": "live-lists", "stores": "stores",
}  # fmt: skip
SHOWING = {"live_query": {"source": "data", "task": "i2t"}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    make_store(folder, backbone="clip-mini")
    make_store(folder, backbone="qwen2-vl-mini", seed=3, tokens=True)
    return folder


@pytest.fixture(scope="module")
def page(browser: playwright.Browser) -> Iterator[playwright.Page]:
    with new_page(browser, height=720) as page:
        yield page


def open_view(page: playwright.Page, address: str, name: str, query: str = "") -> None:
    path = "" if name == DEFAULT_PAGE else name
    page.goto(f"{address}/{path}{query}")
    page.get_by_role("heading", level=1).first.wait_for()
    settled(page)


def in_deck(page: playwright.Page, script: str):  # type: ignore[no-untyped-def]
    """Run a script in the frame of the frozen slides."""
    frame = next(frame for frame in page.frames if frame.url == "about:srcdoc")
    return frame.evaluate(script)


def pin_by_script(name: str, button: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(name, cache, monkeypatch, **SHOWING.get(name, {}))
    next(one for one in app.button if re.match(f"pin_.*{button}", str(one.key))).click().run()
    next(area for area in app.text_area if area.label == "Note").set_value(f"from {name}")
    app.button(key="pin_keep").click().run()
    assert not app.exception


def pin_by_hand(name: str, button: str, page: playwright.Page, address: str) -> None:
    open_view(page, address, name)
    page.locator(f"[class*='st-key-pin_'][class*='{button}'] button").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Note").fill(f"from {name}")
    dialog.get_by_role("button", name="Pin", exact=True).click()
    dialog.wait_for(state="hidden")


def test_from_a_pin_to_a_meeting_and_again_on_a_cold_server(
    page: playwright.Page, cache: Path, shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = cache / "notes"
    with serving(tmp_path / "first.log", RETRIEVALLENS_CACHE=str(cache)) as address:
        for number, (name, button) in enumerate((BY_HAND | BY_SCRIPT).items(), start=1):
            if name in BY_HAND:
                pin_by_hand(name, button, page, address)
            else:
                pin_by_script(name, button, cache, monkeypatch)
            kept = notebook.findings(notes)
            assert len(kept) == number
            assert kept[-1].page == name
            assert kept[-1].note == f"from {name}"
            whole = notebook.finding(notes, kept[-1].id)
            assert whole.parts
            assert whole.stores or name == "stores"
            assert whole.command
        order = [one.id for one in notebook.findings(notes, collection=kept[0].collection)]

        open_view(page, address, "findings", f"?collection={kept[0].collection}")
        page.locator(f".st-key-down_{order[0]} button").first.click()
        settled(page)
        page.screenshot(path=shots / "findings.png")
        order[0], order[1] = order[1], order[0]
        assert [one.id for one in notebook.findings(notes, collection=kept[0].collection)] == order

        page.get_by_role("button", name="Export").click()
        page.get_by_role("button", name="Make deck.html").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=re.compile(r"Save deck\.html")).click()
        file = tmp_path / "deck.html"
        download.value.save_as(file)
        assert file.stat().st_size < 5_000_000

    with serving(tmp_path / "second.log", RETRIEVALLENS_CACHE=str(cache)) as address:
        page.goto(f"{address}/present?collection={kept[0].collection}&finding={order[1]}")
        screen = page.locator("dialog .screen")
        screen.wait_for()
        page.wait_for_function("() => true")
        frame = page.frame_locator("iframe[title='Findings, frozen']")
        frame.locator("section.present h2").first.wait_for()
        at = int(screen.get_attribute("data-slide") or -1)
        assert at >= 2
        title = in_deck(page, "document.querySelector('section.present h2').textContent")
        assert title.startswith(notebook.finding(notes, order[1]).headline[:30])
        for key, by in (
            ("ArrowLeft", -1),
            ("PageUp", -1),
            ("PageDown", 1),
            ("ArrowRight", 1),
            ("End", 100),
            ("Home", -100),
        ):
            page.keyboard.press(key)
            page.wait_for_timeout(300)
            now = int(screen.get_attribute("data-slide") or -1)
            assert now == max(0, at + by) if abs(by) == 1 else (now == 0) == (by < 0)
            assert in_deck(page, "Reveal.getIndices().h") == now
            at = now
        assert in_deck(page, READABLE) == []  # letters of at least 24 pixels on every slide
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(400)
        page.screenshot(path=shots / "present.png")

        at = screen.get_attribute("data-slide")
        page.keyboard.press("d")  # the other colours, on the same slide
        page.get_by_role(
            "button", name="Light" if page.get_by_role("button", name="Dark").count() else "Dark"
        ).wait_for()
        frame.locator("section.present h2").first.wait_for()
        assert screen.get_attribute("data-slide") == at
        assert in_deck(page, "window.ready.then(() => Reveal.getIndices().h)") == int(at)

        page.keyboard.press("l")
        live = page.frame_locator("iframe[title='The view as it is now']")
        live.locator("[data-testid=stMain]").first.wait_for()
        live.locator("[data-testid=stPlotlyChart], [data-testid=stDataFrame]").first.wait_for()
        assert live.get_by_role("heading", level=1).count() == 0
        page.screenshot(path=shots / "present-live.png")
        page.keyboard.press("PageDown")
        page.locator("iframe[title='The view as it is now']").wait_for(state="hidden")
        page.keyboard.press("Escape")
        page.get_by_role("heading", name="What have we found?").wait_for()
        assert "finding=" in page.url


READABLE = """(() => { const small = [];
  for (const slide of document.querySelectorAll('.slides section')) {
    const hidden = slide.style.display; slide.style.display = 'block';
    const walk = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const box = walk.currentNode.parentElement, words = walk.currentNode.textContent.trim();
      if (!words || box.closest('script, aside')) continue;
      const scaled = box.closest('.scaled');
      const scale = scaled ? new DOMMatrix(getComputedStyle(scaled).transform).a : 1;
      const size = scale * parseFloat(getComputedStyle(box).fontSize);
      if (size < 23.5) small.push([Math.round(size), words.slice(0, 40)]);
    }
    slide.style.display = hidden;
  }
  return small; })()"""
