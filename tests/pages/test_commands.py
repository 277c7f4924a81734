"""Every command that a page shows runs as it stands, and prints what is on screen."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from analysis.cli import main
from pages.components.shared import commands
from pages.components.shared.state import PAGES
from tests.pages.opening import open_page
from tests.synthetic_store import make_store

PYTHON = ".venv/bin/python"
MAKES = ("build", "demo", "concept-effects", "deck")  # what writes, or needs data of one's own: it is only read
VIEWS = (
    *((name, {}) for name in PAGES),
    ("concepts", {"view": "map", "words": "dog"}), ("concepts", {"view": "histogram", "sort": "name"}),
    ("concepts", {"view": "by example", "sample": "3"}), ("concepts", {"view": "effect"}),
    ("retrieval_lab", {"tab": "Query by query", "query": "2"}), ("retrieval_lab", {"tab": "Why it works or not"}),
    ("retrieval_lab", {"tab": "Masks, all models"}),
    ("retrieval_lab", {"pool": "global", "definition": "fraction", "method": "realign"}),
    ("live_query", {"source": "data", "query": "1", "method": "realign", "why": "after"}),
    ("live_query", {"source": "data", "query": "1", "method": "realign", "beside": "clip-mini"}),
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a folder") / "stores"
    make_store(folder, backbone="qwen2-vl-mini", n_pairs=16, tokens=True)
    make_store(folder, backbone="clip-mini", n_pairs=16, n_concepts=64, width=64)
    return folder


@pytest.mark.parametrize(("page", "params"), VIEWS, ids=lambda value: str(value))
def test_every_command_runs(
    page: str, params: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = open_page(page, cache, monkeypatch, **params)
    monkeypatch.delenv("RETRIEVALLENS_CACHE")  # a fresh shell knows nothing of the app's settings
    found = list(dict.fromkeys(shown(app)))
    assert found or page == "present"
    for command in found:
        assert said(command).strip(), command


@pytest.mark.parametrize(
    "params",
    [
        {"words": "dog"},
        {"words": "dog", "order": "ascending"},
        {"sort": "attribution", "modality": ["0.5", "1"], "energy": "50"},
        {"sort": "name", "alive": "false", "by": "energy", "percentile": ["20", "80"], "frequency": ["0.1", "50"]},
        {"view": "by example", "sample": "3", "named": "name holds"},
        {"page": "2", "sort": "id", "order": "ascending", "density": "sparse"},
    ],
    ids=str,
)
def test_the_command_of_the_concepts_lists_the_same(
    params: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("concepts", cache, monkeypatch, **params)
    monkeypatch.delenv("RETRIEVALLENS_CACHE")
    command = next(command for command in shown(app) if " concepts " in command)
    listed = [int(row["concept"]) for row in json.loads(said(f"{command} --json"))]
    table = next(frame.value for frame in app.dataframe if "id" in frame.value)
    assert listed == table["id"].tolist()


def test_a_link_of_the_default_cache_names_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRIEVALLENS_CACHE", raising=False)
    assert commands.stores() == f"{PYTHON} -m analysis list"


def shown(app: AppTest) -> list[str]:
    """The commands on a page, those in its popovers too."""
    blocks = (block.value for block in app.code if not block.value.startswith(("http", "?", "from ")))  # links, Python
    lines = [line for block in blocks for line in _whole(block)]
    assert all(line.startswith(PYTHON) for line in lines), lines
    return lines


def said(command: str) -> str:
    """What a command prints; of one that makes something only that its options are right."""
    words = shlex.split(command)[1:]
    if words[0] == "-c":
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(words[1], {})
        return out.getvalue()
    assert words[:2] == ["-m", "analysis"]
    name, *rest = words[2:]
    if name in MAKES or "PICTURE" in rest:  # before a query is given
        main.commands[name].make_context(name, rest)
        return "read"
    done = CliRunner().invoke(main, [name, *rest])
    assert done.exit_code == 0, (command, done.output)
    return done.stdout


def _whole(block: str) -> list[str]:
    """The commands of a block: a line each, but for quoted ones that go over several."""
    lines: list[str] = []
    for line in block.splitlines():
        if lines and not line.startswith(PYTHON):
            lines[-1] += f"\n{line}"
        else:
            lines.append(line)
    return lines
