"""The tokens of a query, to click on: one strip of all of them and the picture under its patch grid.

A Streamlit component of its own, because a chart cannot toggle a cell without being drawn anew: here a click, or a drag
over patches, shows at once, and one message with the positions goes to Python. Files: picker.js draws and listens,
picker.css gives colours and hatching; the page's theme comes in through Streamlit's own variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

_FOLDER = Path(__file__).parent
_component = st.components.v2.component(
    "retrievallens_token_picker",
    css=(_FOLDER / "picker.css").read_text(encoding="utf-8"),
    js=(_FOLDER / "picker.js").read_text(encoding="utf-8"),
)


def token_picker(
    strings: Sequence[str],
    roles: Sequence[str],
    masked: np.ndarray,
    *,
    key: str,
    on_toggle: Callable[[], None],
    picture: str = "",
    grid: tuple[int, int] | None = None,
    cells: np.ndarray | None = None,
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    shade: np.ndarray | None = None,
    clickable: bool = True,
    alt: str = "",
) -> Any:
    """Draw the tokens. After a click `st.session_state[key]["toggle"]` holds {"positions": [...], "mask": bool} while
    `on_toggle` runs.

    strings, roles (L,): of each token, roles as in analysis.query.masks; masked (L,) bool: hatched. picture, grid: data URI
    and (rows, columns) of its patches, whose tokens, the positions `cells` row by row, are then drawn over the part `box` of
    the picture (left, top, right, bottom; shares of its size) instead of in the strip. Further image tokens, of a coarser
    view or at the ends of lines, share one cell of the strip. shade (L,):
    a concept's share of each token, in any unit; positive is drawn in the accent, negative in grey, strength by size.
    """
    largest = float(np.abs(shade).max(initial=0.0)) if shade is not None else 0.0
    data = {
        "tokens": [[_shown(string), role] for string, role in zip(strings, roles, strict=True)],
        "masked": np.flatnonzero(masked).tolist(),
        "shade": None if shade is None or largest == 0 else np.round(shade / largest, 3).tolist(),
        "values": None if shade is None else [f"{value:+.3g}" for value in shade],
        "picture": picture,
        "grid": list(grid) if grid is not None and cells is not None else None,
        "cells": [] if cells is None else cells.tolist(),
        "box": list(box),
        "clickable": clickable,
        "alt": alt,
    }
    return _component(key=key, data=data, on_toggle_change=on_toggle)


def _shown(token: str) -> str:
    """A token as people read it: subword marks are blanks, a line break is its sign."""
    text = token.replace("Ġ", " ").replace("▁", " ").replace("</w>", "").replace("Ċ", "\n").replace("\n", "⏎")
    return text.strip(" ") or "␣"
