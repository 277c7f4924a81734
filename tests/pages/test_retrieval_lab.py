"""The Retrieval lab on a small store: what it shows is what the library computes, and nonsense ends in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.synthetic_store import make_store

PAGE = Path(__file__).parents[2] / "pages/retrieval_lab.py"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    make_store(folder, backbone="qwen2-vl-mini")
    make_store(folder, backbone="clip-mini", width=40)
    return folder


def run(cache: Path, monkeypatch: pytest.MonkeyPatch, **params: str) -> AppTest:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(cache))
    app = AppTest.from_file(PAGE, default_timeout=60)
    for key, value in params.items():
        app.query_params[key] = value
    return app.run()


def test_page_runs_alone_and_asks_its_question(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(cache, monkeypatch)
    assert not app.exception
    assert not app.error
    assert "correcting" in app.title[0].value
