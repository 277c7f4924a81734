"""What a loader had to leave out, counted and named, in words that any terminal and page can show."""

from __future__ import annotations

from dataclasses import dataclass, field


def printable(name: object) -> str:
    """A name as valid Unicode: bytes that are no UTF-8 become \\xe9 and the like."""
    text = str(name)
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass
class Defects:
    """What a loader had to leave out: kind -> (count, first id). Reported, never silent, never fatal by itself."""

    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, identifier: object, count: int = 1) -> None:
        """Note `count` defects of one kind; `identifier` names the first of them."""
        before, first = self.found.get(kind, (0, printable(identifier)))
        self.found[kind] = (before + count, first)

    def count(self, kind: str) -> int:
        return self.found.get(kind, (0, ""))[0]

    def __bool__(self) -> bool:
        return bool(self.found)

    def lines(self) -> list[str]:
        return [f"{count} x {kind}, first: {first}" for kind, (count, first) in sorted(self.found.items())]
