"""The Live query page with a tiny real model: from a picture to both lists, and every bad input is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.live.live_store import make_checkpoint, make_live_store, picture
from tests.synthetic_store import make_store

PAGE = Path(__file__).parents[2] / "pages/live_query.py"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    for family in ("qwen2_vl", "clip"):
        make_live_store(folder / "cache", make_checkpoint(folder / f"tiny-{family}", family))
    make_store(folder / "cache", backbone="qwen2-vl-mini", tokens=True)
    return folder / "cache"


def run(cache: Path, monkeypatch: pytest.MonkeyPatch, **params: str) -> AppTest:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(cache))
    app = AppTest.from_file(PAGE, default_timeout=120)
    for key, value in params.items():
        app.query_params[key] = value
    return app.run()


def upload(app: AppTest, data: bytes, name: str = "p.png", kind: str = "image/png") -> AppTest:
    app.file_uploader[0].set_value((name, data, kind))
    return app.run()


def text_of(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption))


def test_page_runs_alone_without_a_query(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch, store="tiny-qwen2_vl")
    assert not app.exception
    assert not app.error
    assert "see in your query" in app.title[0].value
    assert "Give a picture" in app.info[0].value


def test_an_uploaded_picture_is_ranked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = upload(run(cache, monkeypatch, store="tiny-qwen2_vl", task="i2t"), picture(3))
    assert not app.exception
    assert not app.error
    assert "**Before**" in text_of(app)
