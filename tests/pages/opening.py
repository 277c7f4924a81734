"""Opening a page as a visitor does, without a browser."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from tests.synthetic_store import make_store

ROOT = Path(__file__).parents[2]


def two_models(cache: Path) -> Path:
    """A cache with stores of two backbones on the same data, of different widths."""
    make_store(cache, backbone="qwen2-vl-mini")
    make_store(cache, backbone="clip-mini", width=40)
    return cache


def open_page(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch, **params: str) -> AppTest:
    """Run pages/<name>.py alone with the given URL parameters."""
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(cache))
    app = AppTest.from_file(ROOT / "pages" / f"{name}.py", default_timeout=120)
    for key, value in params.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def words(app: AppTest) -> str:
    """Everything a visitor can read, as one text."""
    kinds = ("title", "subheader", "markdown", "caption", "warning", "error", "info", "success", "code")
    read = "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind))
    return read.replace("\N{NO-BREAK SPACE}", " ")


def sentences(app: AppTest) -> list[str]:
    """What the page complains about."""
    return [str(element.value) for kind in ("warning", "error") for element in getattr(app, kind)]


def values(part: object) -> list[float]:
    """Numbers of a plotly trace, which may be packed."""
    if isinstance(part, dict):
        return np.frombuffer(base64.b64decode(part["bdata"]), part["dtype"]).astype(float).tolist()
    return [float(value) for value in part]  # type: ignore[attr-defined]


def ranked(app: AppTest) -> list[list[str]]:
    """The rows of every ranked list, in the order of the page; behind a list's own rows the targets that are pinned below."""
    lines = [line for element in app.markdown for line in str(element.value).split("\n\n")]
    rows = [line for line in lines if re.match(r"\*\*[\d,]+\*\*\u2002", line)]
    starts = [slot for slot, line in enumerate(rows) if line.startswith("**1**")]
    if not starts:
        return []
    return [rows[start:stop] for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True)]
