"""A model of the hub on the live page: its size is said first, its weights arrive in sight, it answers and is unloaded.
The hub is played on this machine by tests/fake_hub.py."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.store import Store, find_stores, open_store
from tests.e2e.conftest import new_page, serving, settled
from tests.fake_hub import COMMIT, FakeHub, serving_hub, sharded, use_hub
from tests.query.live_store import caption, make_checkpoint, make_live_store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
HUB_ID = "somebody/tiny-qwen"
SECONDS = 6  # that the weights take to arrive


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    folder = tmp_path_factory.mktemp("hub")
    repository = sharded(make_checkpoint(folder / "tiny-qwen"), folder / "repository", 6)
    with serving_hub(repository, HUB_ID) as server:
        yield server


@pytest.fixture(scope="module")
def cache(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores: one made by the hub's model, one by another model."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        use_hub(patch, hub.address, tmp_path_factory.mktemp("builder"))
        make_live_store(folder, HUB_ID)
    make_live_store(folder, make_checkpoint(tmp_path_factory.mktemp("other") / "tiny-clip", "clip"))
    return folder


@pytest.fixture(scope="module")
def page(hub: FakeHub, cache: Path, browser: playwright.Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A page of an app whose local hub cache is empty; from now on the hub is slow and remembers what it was asked."""
    hub.asked.clear()
    hub.rate = sum(len(data) for name, data in hub.files.items() if name.endswith(".safetensors")) / SECONDS
    empty = tmp_path_factory.mktemp("hub-cache")
    environment = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(empty), "RETRIEVALLENS_CACHE": str(cache)}
    environment["RETRIEVALLENS_MODELS"] = "clip-vit-b32"
    with (
        serving(empty.parent / "hub-app.log", **environment) as address,
        new_page(browser, height=1300, base_url=address) as page,
    ):
        yield page


@pytest.fixture(scope="module")
def stores(cache: Path) -> dict[str, Store]:
    return {ref.backbone: open_store(ref.path) for ref in find_stores(cache)}


def weights_fetched(hub: FakeHub) -> int:
    return sum(hub.fetched(name) for name in hub.files if name.endswith(".safetensors"))


def load(page) -> None:
    page.get_by_test_id("stButton").get_by_role("button", name="Load", exact=True).click()


def test_a_model_that_does_not_fit_is_refused_without_a_download(page, hub, stores, shots):
    page.goto(f"/live_query?store=tiny-clip/{stores['tiny-clip'].name}&task=t2i&model={HUB_ID}")
    page.get_by_text("is not known before its weights are here").wait_for()
    assert hub.asked == []
    load(page)
    page.get_by_text(
        re.compile("is not loaded, since the candidates of .* were not embedded in the same way")
    ).wait_for()
    page.get_by_text("Reading the model's config").wait_for(state="detached")
    page.screenshot(path=shots / "live-hub-refused.png")
    assert weights_fetched(hub) == 0


def test_a_hub_model_is_estimated_fetched_in_sight_used_and_unloaded(page, hub, stores, shots):
    store = stores["tiny-qwen"]
    assert store.config["backbone"]["revision"] == COMMIT
    page.goto(f"/live_query?store=tiny-qwen/{store.name}&task=t2i&source=upload&model=clip-vit-b32")
    page.get_by_text("What is not here comes from the hub first.").wait_for()
    page.get_by_role("button", name="Model", exact=True).click()
    chosen = page.get_by_role("combobox", name="Model", exact=True)
    chosen.fill(HUB_ID)
    chosen.press("Enter")
    page.get_by_text("is not known before its weights are here").wait_for()
    while chosen.is_visible():  # an open list takes the first key for itself
        page.keyboard.press("Escape")
        settled(page)
    page.screenshot(path=shots / "live-hub-before.png")
    assert weights_fetched(hub) == 0

    load(page)
    said, deadline = [], time.monotonic() + 90
    unload = page.get_by_role("button", name="Unload")
    while not unload.is_visible() and time.monotonic() < deadline:
        for text in page.get_by_test_id("stExpander").all_inner_texts():
            found = re.search(r"Downloading somebody/tiny-qwen \.\.\. .*\((\d+) %\)", text)
            if found and (not said or int(found[1]) != said[-1]):
                said.append(int(found[1]))
                if len(said) == 3:
                    page.screenshot(path=shots / "live-hub-downloading.png")
        page.wait_for_timeout(100)
    unload.wait_for()
    assert said == sorted(said)
    assert len(said) >= 4
    assert said[0] < 50 < said[-1]

    page.get_by_label("Text", exact=True).fill(caption(5))
    page.get_by_label("Text", exact=True).press("Control+Enter")
    page.locator(".st-key-ranked_after").wait_for()
    page.screenshot(path=shots / "live-hub-ranked.png")
    unload.click()
    page.get_by_text("not loaded").first.wait_for()
    assert weights_fetched(hub) == 6  # each shard once
