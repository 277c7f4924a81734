"""Naming a concept: the labels people gave, with author and time; nothing is overwritten."""

from __future__ import annotations

import streamlit as st

from analysis.errors import AnalysisError
from analysis.store import Store
from analysis.store.notebook import add_label, history
from pages.components.server import limits
from pages.components.shared import caching, gallery, safe
from pages.components.shared.errors import guard


def popover(store: Store, concept: int) -> None:
    """A small button that opens the form and the history."""
    with st.popover(
        "Label", icon=":material/edit:", type="tertiary", help="Give this concept a name; older names are kept"
    ):
        sha = str(store.config["sae"]["sha256"])
        automatic = str(store.concepts["name"].iat[concept] or "")
        st.caption(f"Automatic name: {gallery.escape(automatic) if automatic else 'none'}")
        with st.form(f"label_{concept}", border=False, clear_on_submit=True):
            text = st.text_input("Your label", max_chars=200, placeholder="what its pictures and captions share")
            author = st.text_input("Your name", value=st.session_state.get("_author", ""), max_chars=80)
            if st.form_submit_button("Keep", icon=":material/check:"):
                _keep(sha, concept, text, author)
        with guard("Its labels", stop=False):
            for label in history(caching.notes_dir(), sha, concept, 20):
                words = gallery.escape(label.text) if label.text else "*label taken back*"
                st.markdown(
                    f"{words}  \n:gray[:small[{gallery.escape(label.author)}, {label.time[:16].replace('T', ' ')} UTC]]"
                )


def _keep(sha: str, concept: int, text: str, author: str) -> None:
    try:
        limits.writing()
        add_label(caching.notes_dir(), sha, concept, text, author)
    except AnalysisError as error:
        st.error(safe.sentence(error))
        return
    st.session_state["_author"] = author
    st.rerun()  # the name stands in the title too
