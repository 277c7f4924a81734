"""A collection leaves the app: as one HTML file, as PowerPoint, as PDF. Made when asked for, with progress."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from analysis.errors import AnalysisError
from analysis.store.finding import Finding
from analysis.store.notebook import finding
from pages.components.shared import caching, commands, safe

KINDS = {"html": "HTML: one file, offline", "pptx": "PowerPoint", "pdf": "PDF"}
MIME = {
    "html": "text/html", "pdf": "application/pdf",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}  # fmt: skip
_MADE = "_deck_made"


def popover(title: str, found: Sequence[Finding], *, whole: bool) -> None:
    """The small button, what to choose, and the file once it is made. whole: the findings are a collection, which a command
    can name."""
    with st.popover("Export", icon=":material/ios_share:", help="These findings as slides in a file"):
        kind = st.segmented_control(
            "As", list(KINDS), format_func=KINDS.__getitem__, default="html", required=True, key="_deck_kind"
        )
        dark = st.toggle("Light on dark", key="_deck_dark", disabled=kind == "pptx")
        notes = st.toggle(
            "With notes and commands", key="_deck_notes", disabled=kind != "html",
            help="They are readable by anyone who gets the file. PowerPoint has them as speaker notes, PDF never.",
        )  # fmt: skip
        asked = (kind, dark, notes, title, tuple(one.id for one in found))
        if st.button(f"Make deck.{kind}", key="make_deck", icon=":material/build:", disabled=not found):
            _make(*asked)
        held = st.session_state.get(_MADE)
        if held is not None and held[0] == asked:
            st.download_button(
                f"Save deck.{kind} ({len(held[1]) / 1e6:.1f} MB)", held[1], f"deck.{kind}", MIME[kind], key="save_deck",
                icon=":material/download:", on_click="ignore",
            )  # fmt: skip
        if whole:
            st.caption("The same without the app:")
            st.code(commands.deck(title, str(kind), dark=dark, notes=notes), language=None, wrap_lines=True)
        else:
            st.caption("A whole collection has a command that makes the same file without the app.")


def _make(kind: str, dark: bool, notes: bool, title: str, ids: tuple[str, ...]) -> None:
    from analysis.report.deck import deck_bytes
    from analysis.report.slides import deck_of

    bar = st.progress(0.0, text="Reading the findings")
    try:
        whole = []
        for number, uid in enumerate(ids, start=1):
            whole.append(finding(caching.notes_dir(), uid))
            bar.progress(0.5 * number / len(ids), text=f"Reading finding {number} of {len(ids)}")
        deck = deck_of(title, whole, date=datetime.now(UTC).date().isoformat(), server=server())
        work = "Drawing" if kind == "html" else "Drawing with Chromium"
        bar.progress(0.6, text=f"{work} {len(deck.slides)} slides")
        data = deck_bytes(deck, kind, notes=notes, mode="dark" if dark else "light")
        st.session_state[_MADE] = ((kind, dark, notes, title, ids), data)
    except AnalysisError as error:
        st.error(safe.sentence(error), icon=":material/error:")
    finally:
        bar.empty()


def server() -> str:
    """Where this app runs, for links from slides to live views."""
    from urllib.parse import urlsplit

    parts = urlsplit(st.context.url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else "http://127.0.0.1:8501"
