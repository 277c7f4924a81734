"""The README's map of rooms names every package and nothing that is gone, and every file says in its first line what it is."""

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def rooms() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    inside = text.split("<!-- rooms -->")[1].split("<!-- end of rooms -->")[0]
    return re.findall(r"`([^`\s]+)`", inside)


def test_the_map_names_every_package() -> None:
    packages = {
        f"{path.parent.relative_to(ROOT).as_posix()}/"
        for top in ("analysis", "pages")
        for path in (ROOT / top).rglob("__init__.py")
        if path.parent.name not in ("components", "token_picker")
    }
    assert sorted(packages - set(rooms())) == []


def test_the_map_fits_on_one_screen_and_names_nothing_that_is_gone() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.split("<!-- rooms -->")[1].split("<!-- end of rooms -->")[0].count("\n") <= 42
    named = [name for name in rooms() if "/" in name]
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("top", ["analysis", "pages"])
def test_every_file_says_first_what_it_is(top: str) -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / top).rglob("*.py")
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_readme_leads_with_the_two_commands() -> None:
    head = (ROOT / "README.md").read_text(encoding="utf-8").split("## The main job")[0]
    assert "make run" in head
    assert "make test" in head


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_what_the_container_is_given_reaches_the_app() -> None:
    """Its command is `make serve`: a variable of the environment must get through the Makefile."""
    line = next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "podman run" in line)
    given = dict(re.findall(r" -e (\w+)=([^\s`]+)", line)) | {"NAMES": "lens.lab.org"}
    for words in (given, {"RETRIEVALLENS_OPEN": "1", "NAMES": "lens.lab.org"}):
        done = subprocess.run(
            ["make", "-n", "serve"], cwd=ROOT, env={**os.environ, **words}, capture_output=True, text=True, check=True
        )
        assert "RETRIEVALLENS_OPEN=1 " in done.stdout
        assert "--server.allowedHosts lens.lab.org" in done.stdout
