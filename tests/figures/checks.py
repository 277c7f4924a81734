"""What every figure promises: finite numbers, named axes, a caption."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.figures.style import caption_of


def assert_sound(figure: go.Figure) -> None:
    """No NaN in any trace, a title or named ticks on every visible axis of numbers, a caption, and it serialises."""
    for part in figure.data:
        for name in ("x", "y", "base", "width"):
            assert_finite(getattr(part, name, None), f"{part.name}.{name}")
        for name in ("size", "color"):
            assert_finite(getattr(getattr(part, "marker", None), name, None), f"{part.name}.marker.{name}")
        for letter in "xy":
            assert_titled(figure, part, letter)
    assert caption_of(figure).endswith(".")
    assert figure.to_json()


def assert_titled(figure: go.Figure, part: Any, letter: str) -> None:
    reference = getattr(part, f"{letter}axis") or letter
    axis = figure.layout[f"{letter}axis{reference[1:]}"]
    values = list(getattr(part, letter))
    if axis.visible is False or any(isinstance(value, str) for value in values) or not values:
        return
    assert axis.title.text or axis.ticktext, f"{reference} of {part.name}"


def assert_finite(values: Any, what: str) -> None:
    """None ends a line on purpose; NaN never does."""
    if values is None or isinstance(values, str | int | float):
        return
    numbers = [value for value in values if value is not None and not isinstance(value, str)]
    assert np.isfinite(np.asarray(numbers, float)).all(), what


def trace(figure: go.Figure, name: str) -> Any:
    """The first trace of that name."""
    return next(part for part in figure.data if part.name == name)
