"""What splits are called: in file and folder names as the hub's convention has them, and by people who ask for one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from analysis.errors import DataError

# The hub's words for the three splits; a file or folder whose name holds one of them belongs to that split.
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARD = re.compile(r"^(?P<split>.+?)-\d{3,}-of-\d{3,}$")
_YEAR = re.compile(r"(?:19|20)\d\d$")
_WORD = re.compile(r"[^a-zA-Z0-9]+")


def split_of_file(path: Path, root: Path) -> str:
    """The split of a data file: what stands before "-00000-of-00013", else the word for a split in its name or in the
    folders between `root` and it; empty where nothing says one."""
    if (shard := _SHARD.match(path.stem)) is not None:
        return split_word(shard.group("split")) or shard.group("split")
    folders = path.relative_to(root).parent.parts if path.is_relative_to(root) else ()
    return next((word for name in (path.stem, *reversed(folders)) if (word := split_word(name))), "")


def split_word(name: str) -> str:
    """The word for a split in a name ("val" of "coco_val-part1", "val2017" of itself), empty where there is none."""
    for part in _WORD.split(name):
        if canonical(part):
            return part
    return ""


def canonical(name: str) -> str:
    """ "train", "validation" or "test" of any word for it, with or without a year; empty for another name."""
    bare = _YEAR.sub("", name.lower())
    return next((split for split, words in WORDS.items() if bare in words), "")


def chosen_splits(present: Iterable[str], asked: str | None, where: str) -> list[str]:
    """Which of the splits are meant: all for None, that very name, else another word or a year for it; "train+restval"
    asks for two. Raises DataError, with the splits found, for one that is not there."""
    found = list(present)
    if asked is None:
        return found
    wanted: list[str] = []
    for name in asked.split("+"):
        lower = name.strip().lower()
        same = [split for split in found if split.lower() == lower]
        same = same or [split for split in found if _YEAR.sub("", split.lower()) == lower]
        same = same or [split for split in found if canonical(lower) and canonical(split) == canonical(lower)]
        if not same:
            raise DataError(f"{where} has no split {name!r}; found {', '.join(found) or 'none'}.")
        wanted += same
    return list(dict.fromkeys(wanted))
