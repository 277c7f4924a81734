"""Findings on the whole screen: the deck's own HTML, one finding a slide, turned by keys or a clicker, and beside each frozen
slide the view as it is now.

A Streamlit component of its own, because turning a slide must not wait for the server. Files: stage.js shows the deck in a
closed frame and listens, stage.css lays it over the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

_FOLDER = Path(__file__).parent
_component = st.components.v2.component(
    "retrievallens_stage",
    css=(_FOLDER / "stage.css").read_text(encoding="utf-8"),
    js=(_FOLDER / "stage.js").read_text(encoding="utf-8"),
)


def stage(
    html: str,
    live: Sequence[str],
    *,
    start: int,
    mode: str,
    key: str,
    on_leave: Callable[[], None],
    on_mode: Callable[[], None],
) -> Any:
    """Show a deck. After leaving, or a wish for the other theme, `st.session_state[key]` holds "leave" or "mode", the number of
    the slide in view, while the callback runs.

    html: of the whole deck. live: address of the view of each slide as it is now, "" where there is none. start: slide, from 0.
    """
    data = {"html": html, "live": list(live), "start": start, "mode": mode}
    return _component(key=key, data=data, on_leave_change=on_leave, on_mode_change=on_mode)
