"""The nouns of EmojiScenes with their pictures, read from `assets/emoji`, and the grammar a caption needs of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from analysis.errors import DataError

EMOJI_DIR = Path(__file__).resolve().parents[2] / "assets" / "emoji"
NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True)
class Noun:
    """One countable word with one picture."""

    word: str
    category: str
    plural: str
    emoji: str  # name in the Unicode data
    unified: str  # code points, e.g. "1F42E"
    position: int  # tile in sheet.png, row by row


@cache
def vocabulary() -> dict[str, Noun]:
    """Word -> Noun, in alphabetical order. Raises DataError if the index is missing or names a word twice."""
    path = EMOJI_DIR / "index.json"
    try:
        rows = json.loads(path.read_text())["nouns"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"assets/emoji/index.json cannot be read ({error}); restore it from the repository.") from error
    nouns = [
        Noun(row["noun"], row["category"], row["plural"], row["emoji"], row["unified"], position)
        for position, row in enumerate(rows)
    ]
    table = {noun.word: noun for noun in nouns}
    if len(table) != len(nouns):
        raise DataError("assets/emoji/index.json names a word twice; every noun needs exactly one picture.")
    return table


@cache
def sprite(word: str) -> Image.Image:
    """The 64 x 64 RGBA picture of a noun."""
    sheet, tile, columns = _sheet()
    row, column = divmod(vocabulary()[word].position, columns)
    return sheet.crop((column * tile, row * tile, (column + 1) * tile, (row + 1) * tile))


def with_article(word: str, adjective: str = "") -> str:
    """ "an elephant", "a big elephant", "a unicorn"."""
    phrase = f"{adjective} {word}" if adjective else word
    return f"{'an' if phrase[0] in 'aeiou' and not phrase.startswith('uni') else 'a'} {phrase}"


def numbered(word: str, count: int) -> str:
    """ "three foxes"; one is written with its article."""
    return with_article(word) if count == 1 else f"{NUMBER_WORDS[count]} {vocabulary()[word].plural}"


def is_plural(phrase: str) -> bool:
    """Whether "there are" fits before the phrase: "two cats" (but "a pair of cats")."""
    return phrase.split()[0] in NUMBER_WORDS.values()


@cache
def _sheet() -> tuple[Image.Image, int, int]:
    index = json.loads((EMOJI_DIR / "index.json").read_text())
    with Image.open(EMOJI_DIR / "sheet.png") as sheet:
        return sheet.convert("RGBA"), index["tile"], index["columns"]
