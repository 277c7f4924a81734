"""Pictures beside the pointer on the map of concepts: Plotly's own labels hold words alone.

A Streamlit component without a picture of its own: hover.js listens to the chart and shows what belongs to the point. It
shows nothing where the chart cannot be found; the words stand on the chart as before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from analysis.store import Store
from pages.components.shared import caching

_component = st.components.v2.component(
    "retrievallens_map_hover", js=(Path(__file__).parent / "hover.js").read_text(encoding="utf-8")
)
PICTURES = 3
MOST_BYTES = 1_000_000  # of all pictures together, which travel with the map


def pictures_of(store: Store, concepts: Iterable[int]) -> dict[str, list[str]]:
    """Concept -> its strongest pictures as data URIs, for the first concepts whose pictures fit into MOST_BYTES together."""
    return caching.pictures_within(store, tuple(map(int, concepts)), PICTURES, MOST_BYTES)


def show(chart: str, pictures: dict[str, list[str]]) -> None:
    """chart: the key of the Plotly chart; pictures: id in its customdata -> data URIs."""
    css = "st-key-" + re.sub(r"[^a-zA-Z0-9_-]", "-", chart.strip())
    _component(key=f"hover_{chart}", data={"chart": css, "pictures": pictures}, height=1)
