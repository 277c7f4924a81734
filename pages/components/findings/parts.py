"""The frozen parts of a finding, drawn on a page: figure, table, ranked lists, pictures with captions. Text stays text."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.figures.palette import SIGN
from analysis.figures.style import caption_of, chart_config
from analysis.store.finding import Entry, Figure, Gallery, Lists, Part, Table
from pages.components.shared import gallery
from pages.components.shared.errors import guard

THUMB = 52


def show(parts: Sequence[Part], *, key: str) -> None:
    """One below the other. A part that cannot be drawn is a sentence, and the others stay."""
    for number, part in enumerate(parts):
        with guard("This part of the finding", stop=False):
            if isinstance(part, Figure):
                _figure(part, f"{key}-{number}")
            elif isinstance(part, Table):
                _table(part)
            elif isinstance(part, Lists):
                _lists(part)
            else:
                _gallery(part)


def _figure(part: Figure, key: str) -> None:
    figure = go.Figure(json.loads(part.plotly), skip_invalid=True)
    images = [image for image in figure.layout.images if str(image.source).startswith("data:image/")]
    figure.layout.images = images  # nothing is loaded from elsewhere
    st.plotly_chart(
        figure, config=chart_config("finding"), key=f"frozen-{key}", alt=caption_of(figure) or "Figure of the finding"
    )


def _table(part: Table) -> None:
    if part.title:
        st.markdown(f"**{gallery.escape(part.title)}**")
    columns = _unique(part.columns)
    rows = pd.DataFrame([dict(zip(columns, row, strict=False)) for row in part.rows], columns=columns)
    numbers = [name for name in columns if rows[name].dtype.kind == "f"]
    st.dataframe(
        rows, column_config={name: st.column_config.NumberColumn(format="%.4g") for name in numbers},
        hide_index=True, height="content" if len(part.rows) <= 12 else 440, alt=part.title or "Table of the finding",
    )  # fmt: skip


def _unique(names: Sequence[str]) -> list[str]:
    """Names of columns, each once."""
    found: list[str] = []
    for name in names:
        while name in found:
            name += " "
        found.append(name)
    return found


def _lists(part: Lists) -> None:
    if part.query or part.query_picture:
        with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
            _picture(part.query_picture, 72, "The query")
            st.markdown(gallery.escape(part.query, 400), width="stretch")
    for column, one in zip(st.columns(max(1, len(part.lists)), gap="small", border=True), part.lists, strict=False):
        with column:
            st.markdown(f"**{gallery.escape(one.title, 80)}**")
            for entry in one.entries:
                with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
                    _picture(entry.picture, THUMB, entry.text)
                    st.markdown(_line(entry), width="stretch")


def _line(entry: Entry) -> str:
    target = f":green-badge[{SIGN['target']} target] " if entry.target else ""
    score = "" if entry.score is None else f":gray[{entry.score:.3f}] "
    moved = ""
    if entry.moved:
        sign, color = (SIGN["rescued"], "green") if entry.moved > 0 else (SIGN["lost"], "orange")
        moved = f":{color}[{sign} {abs(entry.moved):,}]"
    return f"**{entry.rank:,}**\u2002{target}{gallery.escape(entry.text, 120)}  \n{score}{moved}"


def _gallery(part: Gallery) -> None:
    with st.container(horizontal=True, gap="xsmall"):
        for source in part.pictures:
            _picture(source, 96, "Strong picture")
    if part.captions:
        st.markdown("\n".join(f"- {gallery.escape(text, 200)}" for text in part.captions))


def _picture(source: str, width: int, words: str) -> None:
    """A picture that lies in the finding itself; anything else is left out."""
    if source.startswith("data:image/"):
        st.image(source, width=width, alt=words[:200] or "Picture")
