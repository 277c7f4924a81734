"""The README's file map is complete and names nothing that is gone."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def mapped() -> set[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    inside = text.split("<!-- file map -->")[1].split("<!-- end of file map -->")[0]
    return set(re.findall(r"^- `([^`]+\.py)`", inside, re.MULTILINE))


def present() -> set[str]:
    files = [ROOT / "app.py", *(ROOT / "analysis").rglob("*.py"), *(ROOT / "pages").rglob("*.py")]
    return {path.relative_to(ROOT).as_posix() for path in files if path.name != "__init__.py"}


def test_every_module_stands_in_the_file_map():
    assert sorted(present() - mapped()) == []


def test_the_file_map_names_no_module_that_is_gone():
    assert sorted(mapped() - present()) == []


def test_the_readme_leads_with_the_two_commands():
    head = (ROOT / "README.md").read_text(encoding="utf-8").split("## The main job")[0]
    assert "make run" in head
    assert "make test" in head
