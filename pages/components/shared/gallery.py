"""Pictures and captions of samples as grids, with values and alternative text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from analysis.store import Store
from pages.components.shared import caching, safe

escape = safe.words  # text from the data as it may stand in markdown


def pictures(
    store: Store,
    rows: Sequence[int] | np.ndarray,
    *,
    values: Sequence[float] | np.ndarray | None = None,
    captions: Sequence[str] | None = None,
    width: int = 132,
    empty: str = "No picture.",
) -> None:
    """A wrapping row of thumbnails of `rows`; below each its value (z) or its caption."""
    shown = [(int(row), slot, found) for slot, row in enumerate(rows) if (found := caching.picture(store, int(row)))]
    if not shown:
        st.caption(empty)
        return
    with st.container(horizontal=True, gap="xsmall"):
        for row, slot, found in shown:
            below = captions[slot] if captions is not None else "" if values is None else f"{values[slot]:#.3g}"
            st.image(found, caption=safe.words(below) or None, width=width, alt=alt(store, row))


def texts(
    store: Store,
    rows: Sequence[int] | np.ndarray,
    values: Sequence[float] | np.ndarray | None = None,
    *,
    empty: str = "No caption.",
) -> None:
    """Captions one a line, strongest first, with their value in front."""
    if not len(rows):
        st.caption(empty)
        return
    column = store.samples["text"]
    lines = []
    for slot, row in enumerate(rows):
        value = f":gray[`{values[slot]:#.3g}`] " if values is not None else ""
        lines.append(f"{value}{escape(column.iat[int(row)])}")
    st.markdown("  \n".join(lines))


def alt(store: Store, row: int) -> str:
    """What a sample's picture shows, for a reader who cannot see it: its text or its pair's first caption."""
    return caching.description(store, int(row)) or "Picture without caption"
