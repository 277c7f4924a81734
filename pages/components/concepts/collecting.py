"""A collection of concepts, gathered by hand or with a lasso, and saved views of the list: both are links, and a saved one is a
finding that anybody of the server can open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from analysis.errors import AnalysisError
from analysis.store import Store
from analysis.store.finding import Finding, store_digest
from analysis.store.notebook import add_finding, findings
from pages.components.server import limits, people
from pages.components.shared import caching, safe, state

MOST = 60  # concepts of a collection: a link holds as many
SAVED, COLLECTION = "saved view", "Saved views"
LISTED = 30


def collected(store: Store) -> list[int]:
    """Ids of the collection in the address; [] without one, or for one of another SAE."""
    sae, _, listed = (state.get(state.COLLECTED) or "").partition(":")
    if not listed or sae != _sae(store):
        return []
    ids = [int(part) for part in listed.split(",") if part.isdecimal() and int(part) < store.n_concepts]
    if len(ids) < len(listed.split(",")):
        state.notice(f"The link names concepts that {store.label} does not have; they are left out of the collection.")
    return list(dict.fromkeys(ids))[:MOST]


def put(store: Store, ids: Sequence[int] | np.ndarray) -> None:
    """Make these the collection; the first MOST of them."""
    kept = list(dict.fromkeys(int(i) for i in ids))[:MOST]
    state.put(state.COLLECTED, f"{_sae(store)}:{','.join(map(str, kept))}" if kept else None)


def button(store: Store, concept: int) -> None:
    """On the page of one concept: into the collection, or out of it."""
    ids = collected(store)
    inside = concept in ids
    after = [other for other in ids if other != concept] if inside else [*ids, concept]
    st.button(
        f"Collected ({len(ids)})" if inside else f"Collect ({len(ids)})", key="collect", type="tertiary",
        icon=":material/playlist_add_check:" if inside else ":material/playlist_add:", on_click=put, args=(store, after),
        disabled=len(after) > MOST,
        help="Takes it out again."
        if inside
        else f"A collection of at most {MOST} concepts, on the page Concepts and in its link.",
    )  # fmt: skip


def only(store: Store) -> np.ndarray | None:
    """On the page of all concepts: the collection, where the list is to hold nothing else."""
    ids = collected(store)
    if not ids:
        return None
    chosen = st.toggle(f"Only my collection ({len(ids)})", **state.bound(state.ONLY_COLLECTED))
    st.button("Empty it", type="tertiary", icon=":material/playlist_remove:", on_click=put, args=(store, ()))
    return np.asarray(ids) if chosen else None


def offer(store: Store, ids: np.ndarray) -> None:
    """What was chosen in a picture, as a collection that the link holds."""
    words = f"Collect these {len(ids):,}" if len(ids) <= MOST else f"Collect the first {MOST} of these {len(ids):,}"
    if st.button(words, icon=":material/playlist_add:", type="tertiary", key="collect_these"):
        put(store, ids)
        st.rerun()


def saved(store: Store, title: str, command: str) -> None:
    """Views that were saved, as links, and a way to save the one in view."""
    with st.popover(
        "Saved", icon=":material/bookmark:", type="tertiary", help="Saved searches, filters and collections"
    ):
        with st.form("save_view", border=False, clear_on_submit=True):
            name = st.text_input("Save this view as", max_chars=120, placeholder="loud text concepts without a name")
            if st.form_submit_button("Save", icon=":material/bookmark_add:"):
                _keep(store, name.strip() or title, command)
        try:
            known = [one for one in findings(caching.notes_dir(), tag=SAVED) if one.page == "concepts"]
        except AnalysisError as error:
            st.error(safe.sentence(error))
            return
        for one in known[: -LISTED - 1 : -1]:
            st.markdown(
                f"[{safe.words(one.headline, 80)}](/{one.address().lstrip('/')})  \n:gray[:small[{safe.words(one.author, 40)}]]"
            )
        if not known:
            st.caption("None yet. They stand in Findings as well.")


def _keep(store: Store, name: str, command: str) -> None:
    """The view in front of the visitor, with everything in its link."""
    try:
        limits.writing()
        add_finding(
            caching.notes_dir(),
            Finding(
                "concepts", name, state.view_params("concepts"), command=command, collection=COLLECTION, tags=(SAVED,),
                author=str(st.session_state.get("_author", "") or people.email()),
                stores={caching.store_id(store): store_digest(store)},
            ),
        )  # fmt: skip
    except AnalysisError as error:
        st.error(safe.sentence(error))
        return
    st.toast("Saved. The page Findings has it too.", icon=":material/bookmark:")


def _sae(store: Store) -> str:
    return str(store.config["sae"]["sha256"])[:6]
