"""What only a browser can show of the explorer: a line of the bridges opens its pair, a patch its concepts, and the map shows
pictures beside the pointer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import new_page, serving, settled
from tests.synthetic_store import BOAT_IMAGE, BOAT_TEXT, make_store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def page(browser: playwright.Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    folder = tmp_path_factory.mktemp("cache")
    make_store(folder, tokens=True)
    with (
        serving(tmp_path_factory.mktemp("log") / "server.log", RETRIEVALLENS_CACHE=str(folder)) as address,
        new_page(browser) as page,
    ):
        yield page, address


def open_view(page, address: str, view: str) -> None:  # type: ignore[no-untyped-def]
    page.goto(f"{address}/{view}")
    page.get_by_role("heading", level=1).first.wait_for()
    settled(page)


def center(page, script: str) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Where the first element that a script gives stands, in view."""
    found = page.evaluate(
        f"() => {{ const e = {script}; e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2]; }"
    )
    return float(found[0]), float(found[1])


def test_a_node_of_the_graph_leaves_its_bridges_alone(page, shots: Path) -> None:
    page, address = page
    open_view(page, address, "bridges?apart=true")
    page.locator(".js-plotly-plot .scatterlayer .points path").first.wait_for()
    x, y = center(page, "[...document.querySelectorAll('.js-plotly-plot .scatterlayer .points path')].at(-1)")
    page.mouse.move(x, y)
    page.wait_for_timeout(400)
    page.mouse.click(x, y)
    page.wait_for_url(re.compile(r"of=\d+"))
    settled(page)
    assert page.get_by_role("button", name="All bridges", exact=True).is_visible()
    assert page.get_by_text(f"Bridge {BOAT_IMAGE} → {BOAT_TEXT}").is_visible()
    page.screenshot(path=shots / "bridges.png")


def test_a_patch_shows_its_concepts(page, shots: Path) -> None:
    page, address = page
    open_view(page, address, "concept?concept=2&section=Where it fires")
    page.locator("[class*='-patches-'] .js-plotly-plot .bars .point path").first.wait_for()
    x, y = center(page, "document.querySelector(\"[class*='-patches-'] .js-plotly-plot .bars .point path\")")
    page.mouse.move(x, y)
    page.wait_for_timeout(400)
    page.mouse.click(x, y)
    page.get_by_role("heading", name="Concepts on patch 1, 1").wait_for()
    page.screenshot(path=shots / "patch.png")


def test_the_map_shows_pictures_beside_the_pointer(page, shots: Path) -> None:
    page, address = page
    open_view(page, address, "concepts?view=map")
    page.locator(".js-plotly-plot .scatterlayer .points path").first.wait_for()
    page.wait_for_timeout(1500)  # the pictures come after the chart
    x, y = center(page, "document.querySelector('.js-plotly-plot .scatterlayer .points path')")
    page.mouse.move(x - 4, y)
    page.mouse.move(x, y)
    page.locator("[data-testid=map-pictures] img").first.wait_for(state="visible")
    page.screenshot(path=shots / "map.png")
    page.mouse.move(5, 5)
    page.locator("[data-testid=map-pictures]").wait_for(state="hidden")
    page.get_by_text("PCA", exact=True).first.click()  # another chart takes the place of the first
    page.wait_for_timeout(2500)
    x, y = center(page, "document.querySelector('.js-plotly-plot .scatterlayer .points path')")
    page.mouse.move(x - 4, y)
    page.mouse.move(x, y)
    page.locator("[data-testid=map-pictures] img").first.wait_for(state="visible")
