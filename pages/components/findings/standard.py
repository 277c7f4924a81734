"""The paper on these models in one click: its findings, measured on the stores of this cache, as a collection."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from analysis.errors import AnalysisError
from analysis.store import Store
from analysis.store.notebook import add_finding, collections
from pages.components.shared import caching, safe, state

NAME = "The paper on these models"
_TIMES = "_standard_times"


def more() -> str:
    """Key of the popover that the button stands in: another one after its work closes it."""
    return f"_more_{st.session_state.get(_TIMES, 0)}"


def button(place: str) -> None:
    """place: tells equal buttons of a page apart."""
    if st.button("Measure the paper's findings here", key=f"standard_{place}", icon=":material/auto_awesome:"):
        _measure()


def _measure() -> None:
    from analysis.report.standard_deck import standard_findings

    with st.status("Measuring", expanded=True) as status:
        try:
            found = standard_findings(_stores(), say=lambda words: status.update(label=f"Measuring {words}"))
            taken = {one.name for one in collections(caching.notes_dir())}
            name = next(n for n in (NAME, *(f"{NAME} {i}" for i in range(2, 1000))) if n not in taken)
            author = st.session_state.get("_author", "")
            for one in found:
                add_finding(caching.notes_dir(), replace(one, collection=name, author=author))
        except AnalysisError as error:
            status.update(label="Not measured", state="error")
            st.error(safe.sentence(error), icon=":material/error:")
            return
    st.session_state[_TIMES] = st.session_state.get(_TIMES, 0) + 1
    state.put_together({state.COLLECTION: name, state.FINDING: None})
    st.rerun()


def _stores() -> list[Store]:
    """One store a model, those of pooled embeddings first."""
    first: dict[str, Store] = {}
    for ref in sorted((ref for ref in caching.stores() if ref.ok), key=lambda ref: "token SAE" in ref.label):
        first.setdefault(ref.backbone, caching.open_ref(ref))
    return list(first.values())
