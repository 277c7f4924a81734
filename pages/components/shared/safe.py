"""Foreign text on a page: whatever comes from a link, a file, a label, a manifest or an error stands there as it was written,
never as formatting, link or picture. The one way from such text to markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~$:&]|(?<!\w)-)")  # a hyphen within a word is no list and no rule
# What a browser's markdown makes a link of although nobody asked for one; it looks at the text after escapes are undone.
_BARE = re.compile(r"(?i)(?<=http)(?=s?://)|(?<=www)(?=\.)|(?<=@)(?=[\w-]+\.\w)")
_BREAK = "\u2060"  # a word joiner: nothing to see, and no address any more
# Emphasis, links, tags, formulas, entities, directives (:red[...]) and, at the start of a line, headings, lists and quotes.
_FORMATTING = re.compile(r"[\\`*\[\]<~$|]|(?<!\w)_|_(?!\w)|:(?=[A-Za-z])|&(?=[#\w])|^[#>+-]|(?<=^\d)[.)]")
_CODE = re.compile(r"`([^`]+)`")


def words(text: object, limit: int = 300) -> str:
    """Text as it may stand in markdown: nothing in it is read as formatting, one line, at most `limit` characters."""
    return _escape(_line(text, limit))


def every(texts: Iterable[object]) -> list[str]:
    return [words(text) for text in texts]


def sentence(text: object, limit: int = 1200) -> str:
    """What the app says itself with foreign text in it, such as an error: what stands between backticks is shown as code,
    which holds neither links nor formatting; of the rest only what would be read as formatting is escaped."""
    parts = _CODE.split(_line(text, limit))  # text, code, text, ...
    return "".join(
        f"`{part}`" if slot % 2 else _FORMATTING.sub(r"\\\g<0>", _unlinked(part)) for slot, part in enumerate(parts)
    )


def unbroken(line: str) -> str:
    """A sentence in which a number keeps its sign of percent on its line."""
    return line.replace(" %", "\N{NO-BREAK SPACE}%")


def _escape(line: str) -> str:
    return _MARKDOWN.sub(r"\\\1", _unlinked(line))


def _unlinked(line: str) -> str:
    return _BARE.sub(_BREAK, line)


def _line(text: object, limit: int) -> str:
    line = " ".join(str(text)[: 4 * limit + 64].split())
    return line[:limit] + ("…" if len(line) > limit else "")
