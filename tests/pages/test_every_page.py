"""What holds for every page: it runs alone, on an empty cache, from a nonsense link, beside a damaged store; and no visitor
ever sees a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from pages.components.concepts import filter_widgets
from pages.components.shared import caching
from pages.components.shared.state import PAGES, file_of
from tests.pages.opening import ROOT, open_page, sentences, words
from tests.synthetic_store import make_store

EVERY = tuple(PAGES)
OF_STORES = tuple(name for name in PAGES if name not in ("findings", "present"))  # those show what was kept
NONSENSE = {
    "store": "../../etc/passwd",
    "stores": "a,b,,<script>",
    "concept": "-3e9",
    "task": "x2y",
    "query": "NaN",
    "share": "many",
    "reduction": "' OR 1=1",
    "weighting": "heavy",
    "view": "sideways",
    "sort": "colour",
    "modality": "9",
    "page": "-7",
    "words": "(((",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    make_store(folder, backbone="clip-mini")
    make_store(folder, backbone="qwen2-vl-mini", tokens=True, seed=3, demo=True)
    return folder


@pytest.mark.parametrize("name", EVERY)
def test_page_runs_alone(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(name, cache, monkeypatch)
    assert not app.error
    assert app.title[0].value.endswith("?")


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data without image-caption pairs: M-BEIR."""
    folder = tmp_path_factory.mktemp("unpaired")
    make_store(folder, paired=False)
    return folder


@pytest.mark.parametrize("name", OF_STORES)
def test_page_of_data_without_pairs(name: str, unpaired: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(name, unpaired, monkeypatch, **({"words": "dog"} if name == "concepts" else {}))
    assert not app.error, [error.value for error in app.error]
    read = words(app)
    assert "never fires" not in read
    assert "nan %" not in read


@pytest.mark.parametrize("name", OF_STORES)
def test_empty_cache_says_what_is_missing_and_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page(name, tmp_path / "nothing", monkeypatch)
    assert app.title[0].value.endswith("?")
    assert "There is no store" in words(app)
    assert any("python -m analysis demo" in block.value for block in app.code)


@pytest.mark.parametrize("name", EVERY)
def test_nonsense_link_gets_sentences_and_the_page(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(name, cache, monkeypatch, **NONSENSE)
    assert not app.error
    assert len(app.main) > (2 if name in OF_STORES else 1)
    assert "Traceback" not in words(app)
    if "store" in PAGES[name].params:
        assert any("no store" in sentence and "etc/passwd" in sentence for sentence in sentences(app))


@pytest.mark.parametrize("name", OF_STORES)
def test_truncated_store_is_one_sentence_and_the_others_work(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cache, tmp_path / "cache")
    broken = next((tmp_path / "cache").glob("clip-mini/*/codes/values.npy"))
    broken.write_bytes(broken.read_bytes()[:100])
    identity = f"clip-mini/{broken.parents[1].name}"
    app = open_page(name, tmp_path / "cache", monkeypatch, store=identity, stores=identity)
    assert sum("truncated or altered" in sentence for sentence in sentences(app)) == 1
    assert "qwen2-vl-mini" in words(app)


@pytest.mark.parametrize("name", OF_STORES)
def test_only_damaged_stores_is_an_empty_state_with_reasons(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store(tmp_path)
    (path / "manifest.json").write_text('{"schema": 99}')
    app = open_page(name, tmp_path, monkeypatch)
    assert any("schema 99" in sentence for sentence in sentences(app))


@pytest.mark.parametrize("name", OF_STORES)
def test_store_damaged_while_the_page_is_open_is_noticed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store(tmp_path)
    make_store(tmp_path, backbone="qwen2-vl-mini")
    app = open_page(name, tmp_path, monkeypatch, store="clip-mini", stores="clip-mini")
    assert not sentences(app)
    (path / "postings/values.npy").write_bytes(b"gone")
    app.run()
    assert not app.exception
    assert any("postings/values.npy" in sentence for sentence in sentences(app))


@pytest.mark.parametrize("name", EVERY)
def test_second_run_shows_the_same(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(name, cache, monkeypatch)
    before = words(app)
    app.run()
    assert words(app) == before


@pytest.mark.parametrize("name", OF_STORES)
def test_the_files_of_a_store_are_looked_at_once_a_run(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    looked = caching._stamp
    monkeypatch.setattr(caching, "_stamp", lambda path: asked.append(path) or looked(path))
    app = open_page(name, cache, monkeypatch)
    for _ in range(2):
        assert asked
        assert len(asked) == len(set(asked))
        asked.clear()
        app.run()


DEFAULTS = {  # of bound widgets, which Streamlit leaves out of the address
    "overview": {
        "weighting": "concepts",
        "share": "1",
        "reduction": "max",
        "relative": "false",
        "every_method": "false",
    },
    "concepts": {"view": "table", "sort": "energy", "order": "descending", "energy": "100", "alive": "true"},
    "concept": {"section": "Scores"},
    "retrieval_lab": {"k": "10", "definition": "hit", "pool": "local", "tab": "All queries"},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_link_carries_what_is_there_by_default(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = parse_qs(urlsplit(link_of(open_page(name, cache, monkeypatch))).query)
    assert {key: link[key][0] for key in DEFAULTS[name]} == DEFAULTS[name]
    shown = (
        {"store"} if name == "retrieval_lab" else {"store", "stores"}
    )  # several models stand on another tab of the lab
    assert set(link) >= set(PAGES[name].params) & shown


def test_a_link_shows_the_same_after_a_default_changed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = parse_qs(urlsplit(link_of(open_page("concepts", cache, monkeypatch))).query)
    assert link["frequency"] == ["0", "100"]
    monkeypatch.setitem(filter_widgets.DEFAULTS, "frequency", (0.1, 5.0))
    later = open_page("concepts", cache, monkeypatch)
    assert parse_qs(urlsplit(link_of(later)).query)["frequency"] == ["0.1", "5"]
    again = open_page("concepts", cache, monkeypatch, **link)
    assert again.session_state["frequency"] == (0.0, 100.0)
    assert parse_qs(urlsplit(link_of(again)).query) == link


def link_of(app: AppTest) -> str:
    """The address in the popover Link."""
    return app.code[0].value


def test_bug_in_a_page_is_a_sentence_and_a_log_line(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pages.components.shared import caching

    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret internals")

    monkeypatch.setattr(caching, "drawn", fail)
    app = open_page("concept", cache, monkeypatch)
    assert any("could not be shown (ZeroDivisionError)" in sentence for sentence in sentences(app))
    assert "secret internals" not in words(app)
    assert "secret internals" in caplog.text


def test_router_opens_the_overview_and_every_page_after_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(cache))
    app = AppTest.from_file(ROOT / "app.py", default_timeout=120).run()
    assert not app.exception
    assert app.title[0].value == "Why do generative giants retrieve badly?"
    for name in EVERY:
        app.switch_page(file_of(name)).run()
        assert not app.exception
        assert app.title[0].value.endswith("?")


def test_chosen_store_goes_along_from_page_to_page(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(cache))
    app = AppTest.from_file(ROOT / "app.py", default_timeout=120).run()
    app.switch_page("pages/concepts.py").run()
    app.selectbox(key="_pick_store").select_index(1).run()
    chosen = app.query_params["store"]
    app.switch_page("pages/concept.py").run()
    assert app.query_params["store"] == chosen
    assert app.selectbox(key="_pick_store").value == (chosen[0] if isinstance(chosen, list) else chosen)


def test_default_view_leaves_the_address_alone_but_its_link_is_complete(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("concept", cache, monkeypatch)
    assert not app.query_params
    link = app.code[0].value if "concept=" in app.code[0].value else app.code[1].value
    assert "store=clip-mini/" in link
    assert "concept=" in link
    assert "task=i2t" in link


def test_what_is_not_the_default_stands_in_the_address(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concept", cache, monkeypatch)
    app.selectbox(key="_pick_store").select_index(1).run()
    app.number_input(key="_jump").set_value(7).run()
    assert "qwen2-vl-mini/" in str(app.query_params["store"])
    assert "7" in app.query_params["concept"]


def test_short_name_of_a_store_in_the_address_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("concepts", cache, monkeypatch, store="qwen2-vl-mini")
    assert app.query_params["store"] in ("qwen2-vl-mini", ["qwen2-vl-mini"])
    assert not sentences(app)


def test_backbone_alone_means_its_store_of_pooled_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):  # whatever the order of their keys
        make_store(tmp_path, backbone="qwen2-vl-mini", unit="token", seed=seed)
    pooled = make_store(tmp_path, backbone="qwen2-vl-mini", seed=9)
    for params in ({"store": "qwen2-vl-mini"}, {}):
        app = open_page("concepts", tmp_path, monkeypatch, **params)
        assert app.selectbox(key="_pick_store").value == f"qwen2-vl-mini/{pooled.name}"
        assert any(f"store=qwen2-vl-mini/{pooled.name}" in block.value for block in app.code)
