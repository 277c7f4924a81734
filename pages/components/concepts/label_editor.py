"""Naming a concept: the labels people gave, with author and time, mine or everybody's, as a file and from one; nothing is
overwritten."""

from __future__ import annotations

from functools import partial

import streamlit as st

from analysis.errors import AnalysisError
from analysis.store import Store
from analysis.store.notebook import add_label, history
from analysis.store.notes_exchange import export_csv, import_labels_csv
from pages.components.server import limits, people
from pages.components.shared import caching, gallery, safe, state
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
        whose(st.session_state.get("_author", "") or people.email())
        with guard("Its labels", stop=False):
            for label in history(caching.notes_dir(), sha, concept, 20):
                words = gallery.escape(label.text) if label.text else "*label taken back*"
                st.markdown(
                    f"{words}  \n:gray[:small[{gallery.escape(label.author)}, {label.time[:16].replace('T', ' ')} UTC]]"
                )
            exchange()


def whose(me: str) -> None:
    """Whether the names on all pages are mine or everybody's; an author of a link is a choice of its own."""
    options = list(dict.fromkeys(name for name in ("", me, caching.whose()) if name is not None))
    words = {"": "everybody's", me or None: "mine"}
    st.session_state["_whose_labels"] = caching.whose()
    st.segmented_control(
        "Names on all pages", options, key="_whose_labels", required=True,
        format_func=lambda name: words.get(name, f"those of {gallery.escape(name, 40)}"),
        on_change=lambda: state.put(state.LABELS, st.session_state["_whose_labels"] or None),
        help="everybody's: the last label that anybody gave; mine: the last of your own. Others keep theirs.",
    )  # fmt: skip
    if not me:
        st.caption("Keep a label under your name, and “mine” stands here too.")


def exchange() -> None:
    """All labels with their history as a file, and labels from one."""
    with st.expander("All labels as a file"):
        st.download_button(
            "Save all labels", partial(export_csv, caching.notes_dir(), "labels"), "labels.csv", "text/csv",
            key="labels_csv", icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        given = st.file_uploader("Labels from a file (CSV)", type="csv", key="_labels_file", max_upload_size=20)
        if given is not None and st.button("Take them in", icon=":material/upload:", key="labels_take"):
            _take(given.getvalue())


def _take(data: bytes) -> None:
    try:
        limits.writing()
        new = import_labels_csv(caching.notes_dir(), data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        st.error("The file is not UTF-8 text; save it as CSV in UTF-8 and give it again.")
        return
    except AnalysisError as error:
        st.error(safe.sentence(error))
        return
    st.success(f"{new:,} new labels; what was here already stays.")


def _keep(sha: str, concept: int, text: str, author: str) -> None:
    try:
        limits.writing()
        add_label(caching.notes_dir(), sha, concept, text, author)
    except AnalysisError as error:
        st.error(safe.sentence(error))
        return
    st.session_state["_author"] = author
    st.rerun()  # the name stands in the title too
