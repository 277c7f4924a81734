"""Everything that was pinned: collections in order, one finding open beside them, and the ways onto a screen or into a file."""

from __future__ import annotations

import streamlit as st

from analysis.store import notebook
from analysis.store.finding import Finding
from pages.components.findings import export, listing, opened, standard
from pages.components.shared import caching, commands, gallery, layout, state
from pages.components.shared.errors import guard

EVERY = "All findings"


def main() -> None:
    layout.header("findings", "What have we found?")
    notes = caching.notes_dir()
    known = notebook.collections(notes)
    names = [one.name for one in known]
    with layout.controls("findings") as row:
        row.pinnable = False
        chosen = _collection(known)
        found = _findings(chosen)
        whole = bool(chosen) and not _filtered()
        row.command = commands.deck(chosen) if whole else commands.notes()
        _actions(chosen, found, whole=whole)
    _brought_back()
    if not found:
        _nothing(chosen, bool(known))
        return
    uid = state.get(state.FINDING) or ""
    if uid not in {one.id for one in found}:
        if uid:
            state.notice("The finding that the link names is not in this list; showing the first.")
        uid = found[0].id
    left, right = st.columns([5, 8], gap="medium")
    with left:
        listing.show(found, uid, ordered=whole)
    with right, guard("The finding", stop=False):
        opened.show(uid, names)


def _collection(known: list[notebook.Collection]) -> str:
    """The collection in the address, "" for all findings."""
    counts = {one.name: one.count for one in known}
    wanted = state.get(state.COLLECTION) or ""
    if wanted and wanted not in counts:
        state.notice(f"There is no collection {state.shown(wanted)}; showing all findings.")
        wanted = ""
    st.session_state["_pick_collection"] = wanted
    st.selectbox(
        "Collection", ["", *counts], key="_pick_collection", width=260,
        format_func=lambda name: f"{name} ({counts[name]})" if name else EVERY,
        on_change=lambda: state.put_together({
            state.COLLECTION: st.session_state["_pick_collection"] or None, state.FINDING: None,
        }),
    )  # fmt: skip
    return wanted


def _findings(collection: str) -> list[Finding]:
    """Those asked for: a collection in its order, everything newest first."""
    notes = caching.notes_dir()
    words = st.text_input(
        "Search", **state.bound(state.SEARCH), placeholder="words in any of them", max_chars=120, width=190
    )
    found = notebook.findings(notes, collection=collection or None, search=words or "")
    if not collection and not words:
        found.reverse()
    for key, label, values in (
        (state.TAG, "Tag", sorted({tag for one in found for tag in one.tags})),
        (state.AUTHOR, "Author", sorted({one.author for one in found})),
    ):
        if len(values) > (key == state.AUTHOR):
            state.check_choice(key, values, default="all", what=f"a {label.lower()}")
            st.selectbox(label, values, index=None, **state.bound(key), placeholder="all", width=130)
        else:
            st.session_state.pop(key, None)
    tag, author = st.session_state.get(state.TAG), st.session_state.get(state.AUTHOR)
    return [one for one in found if (not tag or tag in one.tags) and (not author or one.author == author)]


def _filtered() -> bool:
    return any(st.session_state.get(key) for key in (state.SEARCH, state.TAG, state.AUTHOR))


def _actions(collection: str, found: list[Finding], *, whole: bool) -> None:
    """Present, export, and what is done to a collection as a whole. whole: all findings of the collection are listed."""
    if found and st.button("Present", key="present", icon=":material/slideshow:"):
        state.open_page("present", collection=collection or None)
    if found:
        export.popover(collection or EVERY, found, whole=whole)
    with st.popover("More", icon=":material/more_horiz:", type="tertiary", key=standard.more()):
        st.caption("The paper's findings, measured on the models in this cache, as a collection:")
        standard.button("row")
        if collection:
            st.divider()
            _rename(collection)


def _rename(collection: str) -> None:
    """The collection as a whole: its name, or no collection any more."""
    name = st.text_input("Name of this collection", value=collection, max_chars=120, key=f"_rename_{collection}")
    with st.container(horizontal=True):
        if st.button("Rename", key="rename", icon=":material/check:"):
            with guard("The name", stop=False):
                notebook.rename_collection(caching.notes_dir(), collection, name)
                state.put(state.COLLECTION, " ".join(name.split()))
                st.rerun()
        if st.button("Take apart", key="take_apart", icon=":material/folder_off:", help="Its findings stay, in none"):
            with guard("The collection", stop=False):
                notebook.remove_collection(caching.notes_dir(), collection)
                state.put(state.COLLECTION, None)
                st.rerun()


def _brought_back() -> None:
    """One click undoes putting away."""
    uid = st.session_state.get("_put_away")
    if uid is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("The finding was put away.")
        if st.button("Bring it back", key="bring_back", icon=":material/undo:", type="tertiary"):
            with guard("Bringing it back", stop=False):
                notebook.hide_finding(caching.notes_dir(), uid, hidden=False)
            del st.session_state["_put_away"]
            state.put(state.FINDING, uid)
            st.rerun()


def _nothing(collection: str, any_collection: bool) -> None:
    """The designed empty state: how to pin."""
    if _filtered():
        st.info("No finding passes these filters.", icon=":material/filter_alt_off:")
        return
    with st.container(border=True):
        where = f"“{gallery.escape(collection, 60)}” is empty" if collection else "Nothing is pinned yet"
        st.subheader(where, anchor=False)
        st.markdown(
            "Press :material/keep: **Pin** under any figure, table, list or concept. It keeps what is on screen, the sentence "
            "that the numbers say, the data behind it and the command that gives it again. Pinned findings stand here in "
            "collections: present them on the whole screen, or take them away as HTML, PowerPoint or PDF."
        )
        with st.container(horizontal=True):
            for page in ("overview", "concept", "retrieval_lab", "live_query"):
                state.page_link(page, state.PAGES[page].title, icon=state.PAGES[page].icon)
        st.caption("Or begin with the paper's own findings, measured on the models in this cache:")
        standard.button("empty")


with guard():
    main()
