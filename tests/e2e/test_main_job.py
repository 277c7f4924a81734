"""The main job in a real browser, on the embedded demo: see the findings, open a concept, run a live query with an
uploaded picture or one taken by camera, mask its image tokens, and get the ranking that the command line gives."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner
from PIL import Image

from analysis.cli import main
from analysis.store import Store, find_stores, open_store
from tests.e2e.conftest import ROOT, new_page, settled

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
BACKBONE = "qwen2-vl-mini"


@pytest.fixture(scope="module")
def page(browser: playwright.Browser) -> Iterator[playwright.Page]:
    with new_page(browser, height=1600) as page:
        yield page


@pytest.fixture(scope="module")
def store() -> Store:
    """The demo store of the small multimodal LLM whose SAE fits its embeddings."""
    opened = [open_store(ref.path) for ref in find_stores(ROOT / "cache") if ref.ok and ref.backbone == BACKBONE]
    return next(store for store in opened if store.config["sae"]["unit"] == "pooled" and store.is_demo)


@pytest.fixture(scope="module")
def picture(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph-like upload: a demo scene as a JPEG of another size."""
    row = int(store.task("i2t").query_rows[7])
    path = tmp_path_factory.mktemp("upload") / "scene.jpg"
    Image.open(io.BytesIO(store.thumb_path(row).read_bytes())).convert("RGB").resize((300, 300)).save(path, quality=92)
    return path


def heading(page: playwright.Page, text: str) -> None:
    page.get_by_role("heading", name=re.compile(text), level=1).wait_for()


def ranking(page: playwright.Page, side: str) -> list[str]:
    """The captions of one list, in order, as they stand on the page."""
    text = page.locator(f".st-key-ranked_{side}").inner_text()
    captions = re.findall(r"^\d+\u2002(?:\S+ target )?(.+)$", text, re.MULTILINE)
    assert captions, text
    return captions


def method_in(page: playwright.Page) -> str:
    """Text form of the method in the address; without one a live query shows none."""
    found = parse_qs(urlsplit(page.url).query).get("method")
    return found[0] if found else "base"


def retrieve_command(store: Store, *options: str) -> dict:
    """What `python -m analysis retrieve` prints about i2t, as JSON."""
    return json.loads(_printed("retrieve", str(store.path), "--task", "i2t", *options, "--json"))


def query_command(store: Store, picture: Path, mask: str, method: str) -> list[str]:
    """Captions of the ten best candidates, as `python -m analysis query` prints them."""
    asked = ("--mask", mask, "--method", method, "--device", "cpu", "--json")
    printed = _printed("query", str(store.path), "--task", "i2t", "--image", str(picture), *asked)
    return [row["text"] for row in json.loads(printed)["candidates"]]


def _printed(*command: str) -> str:
    """By the command line in this process, which imports torch once: tests/pages runs commands as a visitor does."""
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_overview_shows_both_models_and_three_findings(page, app, shots):
    page.goto(app)
    heading(page, "Why do generative giants retrieve badly")
    for finding in ("Does text dominate", "Is energy concentrated", "Do the loudest concepts distract"):
        page.get_by_text(re.compile(finding)).first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    settled(page)
    body = page.locator("[data-testid=stMain]").inner_text()
    assert "clip-mini" in body
    assert BACKBONE in body
    assert "demo: small models trained on EmojiScenes" in body
    page.screenshot(path=shots / "overview.png")


def test_a_click_in_the_table_opens_the_concept(page, app, shots):
    page.get_by_role("link", name="Concepts").first.click()
    heading(page, "Which concepts does this model have")
    table = page.get_by_test_id("stDataFrame").first
    table.wait_for()
    settled(page)
    page.screenshot(path=shots / "concepts.png")
    table.click(position={"x": 300, "y": 75})
    heading(page, r"What does concept .* stand for|concept")
    page.wait_for_url(re.compile(r"/concept\?.*concept=\d+"))
    settled(page)
    page.screenshot(path=shots / "concept.png")


def choose(page, method):
    """The one method of a view."""
    box = page.get_by_role("combobox", name="Method")
    box.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # a list that opens while its rail still scrolls closes again
    box.click()
    page.keyboard.type(method)
    page.get_by_role("option", name=method, exact=True).click()


def test_masking_an_uploaded_picture_changes_the_ranking_as_the_command_line_says(page, app, shots, store, picture):
    page.goto(f"{app}/live_query?store={store.backbone}/{store.name}&task=i2t&source=upload")
    heading(page, "What does it see")
    page.get_by_test_id("stButton").get_by_role("button", name="Load").click()
    page.get_by_role("button", name="Unload").wait_for()
    page.locator("input[type=file]").first.set_input_files(picture)
    page.locator(".st-key-ranked_after").wait_for()
    settled(page)
    unmasked = ranking(page, "after")
    assert ranking(page, "before") == query_command(store, picture, "", "base")[: len(unmasked)]
    page.screenshot(path=shots / "live.png")

    page.get_by_role("button", name="w/o image").click()
    page.wait_for_url(re.compile(r"mask=image"))
    settled(page)
    masked = ranking(page, "after")
    page.screenshot(path=shots / "live-masked.png")
    assert masked != unmasked
    assert method_in(page) == "base"  # the mask is seen alone first
    assert masked == query_command(store, picture, "image", "base")[: len(masked)]

    choose(page, "Removal")
    page.wait_for_url(re.compile(r"method=removal"))
    settled(page)
    kept = ranking(page, "after")
    assert kept == query_command(store, picture, "image", method_in(page))[: len(kept)]
    page.get_by_role("slider", name=re.compile("^r, of")).press("ArrowLeft")
    page.wait_for_url(re.compile(r"r%3D\d+|r=\d+"))
    settled(page)
    removed = ranking(page, "after")
    spec = method_in(page)
    assert re.fullmatch(r"removal:attribution,share=0.01,r=\d+", spec)
    assert removed != kept
    assert removed == query_command(store, picture, "image", spec)[: len(removed)]
    page.screenshot(path=shots / "live-removed.png")

    page.get_by_role("button", name="Clear").click()
    page.wait_for_url(lambda url: "mask=" not in url)
    settled(page)
    board = page.locator(".board .grid").first
    board.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    columns = int(re.search(r"\d+ × (\d+) patches", page.locator(".strip .patches").first.inner_text()).group(1))
    cell = board.bounding_box()["width"] / columns
    left, top = (board.bounding_box()[name] for name in ("x", "y"))
    page.mouse.move(left + cell / 2, top + cell / 2)
    page.mouse.down()
    for x, y in ((2.5, 0.5), (1.5, 1.5)):  # a detour: the rectangle lies between the ends of the drag
        page.mouse.move(left + cell * x, top + cell * y)
    page.mouse.up()
    region = f"image.0-1,image.{columns}-{columns + 1}"
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("mask") == [region])
    settled(page)
    assert ranking(page, "after") == query_command(store, picture, region, spec)[: len(removed)]
    page.get_by_role("button", name="All but this region").click()
    rest = region.replace("image.", "image.!")
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("mask") == [rest])
    settled(page)
    assert ranking(page, "after") == query_command(store, picture, rest, spec)[: len(removed)]
    page.screenshot(path=shots / "live-region.png")


def test_a_picture_taken_by_camera_is_ranked(browser, app, shots, store):
    """The browser's own test picture; the server holds the model since the test above, by itself it loads it."""
    with new_page(browser, height=1300, base_url=app, permissions=["camera"]) as page:
        page.goto(f"/live_query?store={store.backbone}/{store.name}&task=i2t")
        page.get_by_test_id("stRadio").get_by_text("Camera", exact=True).click()
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


def test_the_lab_shows_recall_and_both_lists_as_the_command_line_says(page, app, shots, store):
    page.goto(f"{app}/retrieval_lab?store={store.backbone}/{store.name}&task=i2t&method=realign:alpha%3D0.1")
    heading(page, "What helps retrieval")
    page.get_by_text(re.compile(r"Recall@10 goes from")).first.wait_for()
    settled(page)
    sentence = page.get_by_text(re.compile(r"Recall@10 goes from")).first.inner_text()
    rows = retrieve_command(store, "--method", "realign:alpha=0.1", "--k", "10")["rows"]
    for row in rows:
        assert f"{100 * row['recall']:.1f} %" in sentence
    assert f"{100 * rows[1]['difference']:+.1f} points".replace("-", "\N{MINUS SIGN}") in sentence
    page.screenshot(path=shots / "lab.png")

    choose(page, "Removal")
    page.wait_for_url(re.compile(r"method=removal"))
    page.get_by_text(re.compile(r"Recall@10 goes from")).first.wait_for()
    settled(page)
    page.get_by_role("tab", name="Query by query").click()
    page.locator(".st-key-ranked_after").wait_for()
    settled(page)
    page.get_by_text(re.compile(r"^Query \d[\d,]*")).first.wait_for()
    query = re.match(r"Query ([\d,]+)", page.get_by_text(re.compile(r"^Query \d[\d,]*")).first.inner_text())
    assert query
    number = query.group(1).replace(",", "")
    told = retrieve_command(store, "--method", method_in(page), "--query", number)
    for side in ("before", "after"):
        shown = ranking(page, side)
        assert len(shown) == 10
        assert shown == [row["text"] for row in told[side]]
    stands = page.get_by_text(re.compile(r"The best target stands at rank")).first.inner_text()
    assert f"{told['rank_before']:,} before and {told['rank_after']:,} after" in stands
    page.screenshot(path=shots / "lab-query.png")

    page.get_by_role("button", name="Remove just it").click()
    page.wait_for_url(re.compile(r"method=removal(:|%3A)concepts"))
    settled(page)
    told = retrieve_command(store, "--method", method_in(page), "--query", number)
    assert ranking(page, "after") == [row["text"] for row in told["after"]]
    page.screenshot(path=shots / "lab-one-concept.png")


def test_a_nonsense_link_is_one_sentence_and_no_traceback(page, app):
    """Through the router; tests/pages/test_every_page.py opens every page by such a link."""
    page.goto(f"{app}/retrieval_lab?task=nonsense")
    page.get_by_role("heading", level=1).first.wait_for()
    settled(page)
    body = page.locator("[data-testid=stMain]").inner_text()
    assert "Traceback" not in body
