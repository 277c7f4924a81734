"""Everything that is shipped beside the code has its licence named, and what is installed is locked."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_shipped_folder_is_named_with_a_licence_that_is_there() -> None:
    text = (ROOT / "assets/LICENCES.md").read_text(encoding="utf-8")
    folders = [path for top in ("assets", "static") for path in (ROOT / top).iterdir() if path.is_dir()]
    folders += [path for path in (ROOT / "assets/vendor").iterdir() if path.is_dir()]
    own = {"screenshots", "vendor"}  # pictures of this app; the parent of what is named
    named = [path.relative_to(ROOT).as_posix() for path in folders if path.name not in own]
    assert named
    assert [name for name in named if name not in text] == []
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / "assets" / link).is_file()] == []


def test_the_lock_holds_a_hash_for_every_requirement() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    wanted = [
        re.split(r"[<>=\[; ]", line)[0].lower()
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "-"))
    ]
    assert len(wanted) > 20
    pinned = dict(re.findall(r"^([a-z0-9.-]+)==\S+(.*?)(?=^\S|\Z)", lock, flags=re.M | re.S))
    assert [name for name in wanted if "--hash=sha256:" not in pinned.get(name, "")] == []
