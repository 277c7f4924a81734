"""The settings of a step, declared once: limits, words and offered values serve the check, the text form, the widgets of
the pages, curves and the command line.

A setting is a dataclass field whose default comes from one of the functions below, e.g.
`alpha: float = number(0.1, low=0, high=1, label="Shrinkage α", values=(0, 0.1, 1))`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from analysis.errors import RetrievalError, one_of

MOST = 1_000_000  # of any count that is no concept id: larger ones are typing errors, or somebody's attack


@dataclass(frozen=True)
class Setting:
    """One setting of a step.

    kind: "number", "whole", "choice", "flag", "concepts" (ids), "scales" (id, factor) or "partner" (name of another
    backbone). what: what sentences call it; label, help: what a page calls it. low, high: ends of the range, both allowed.
    choices: value -> words. values: what a slider offers, and the points of a curve over this setting (none without).
    axis: title of that curve's axis. optional: None is a value ("all"). percent: people see and set a share in percent.
    positional: stands first in the text form, without its name. written: stands in the text form also at its default.
    """

    kind: str
    label: str
    what: str = ""
    help: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: Mapping[str, str] = field(default_factory=dict)
    values: tuple[float, ...] = ()
    axis: str = ""
    optional: bool = False
    percent: bool = False
    positional: bool = False
    written: bool = False
    width: int = 180  # of the widget, in pixels

    def check(self, value: Any) -> None:
        """RetrievalError unless the value is one that this setting can have."""
        if value is None and self.optional:
            return
        if self.kind == "choice" and self.choices:
            one_of(self.what or self.label, value, tuple(self.choices))
        elif self.kind == "whole":
            check_whole(self.what or self.label, value, self.low, self.high)
        elif self.kind == "number":
            check_number(self.what or self.label, value, self.low, self.high)

    def read(self, step: str, name: str, text: str) -> Any:
        """The value that a text means. RetrievalError names the setting and what was expected."""
        try:
            if self.kind == "concepts":
                return (int(text),)
            if self.kind == "flag":
                return {"true": True, "false": False}[text.lower()]
            return {"number": float, "whole": int}.get(self.kind, str)(text)
        except (ValueError, KeyError) as error:
            expected = {"flag": "value true or false", "number": "number"}.get(self.kind, "whole number")
            raise RetrievalError(f"{name} of {step} is {text!r}; expected a {expected}.") from error


def number(default: float, *, label: str, low: float, high: float, **words: Any) -> Any:
    """A real number from low to high."""
    return _setting(default, Setting("number", label, low=low, high=high, **words))


def whole(default: int | None, *, label: str, low: int = 0, high: int = MOST, **words: Any) -> Any:
    """A whole number from low to high; None, where `optional=True`, means all there are."""
    return _setting(default, Setting("whole", label, low=low, high=high, **words))


def choice(default: str, choices: Mapping[str, str], *, label: str, **words: Any) -> Any:
    """One of some values; choices: value -> words for people."""
    return _setting(default, Setting("choice", label, choices=choices, **words))


def flag(default: bool, *, label: str, **words: Any) -> Any:
    return _setting(default, Setting("flag", label, **words))


def concepts(**words: Any) -> Any:
    """Ids of concepts picked by hand."""
    return _setting((), Setting("concepts", words.pop("label", "Concepts"), **words))


def scales(**words: Any) -> Any:
    """Concepts with a factor each: ((id, factor), ...)."""
    return _setting((), Setting("scales", words.pop("label", "Scale concepts"), **words))


def partner() -> Any:
    """Name of the other backbone of a hybrid."""
    return _setting("", Setting("partner", "Other model", width=220))


def settings_of(kind: type) -> dict[str, Setting]:
    """Name of each field of a step's class -> its setting, in the order of the fields."""
    return {part.name: part.metadata["setting"] for part in fields(kind) if "setting" in part.metadata}


def check_whole(what: str, value: Any, low: float = 0, high: float = MOST) -> None:
    """RetrievalError unless the value is a whole number from low to high."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or int(value) != value or not low <= value <= high:
        end = "on" if math.isinf(high) else f"to {int(high):,}"
        raise RetrievalError(f"The {what} is {value}; expected a whole number from {int(low)} {end}.")


def check_number(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """RetrievalError unless the value is a finite number from low to high."""
    if not (isinstance(value, int | float) and math.isfinite(value) and low <= value <= high):
        raise RetrievalError(f"The {what} is {value}; expected a number from {low:g} to {high:g}.")


def as_text(value: Any) -> str:
    """A value as the text form writes it."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _setting(default: Any, setting: Setting) -> Any:
    return field(default=default, metadata={"setting": setting})
