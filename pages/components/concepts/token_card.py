"""One token that was clicked: the concepts that fire on it, and the other samples that have the concept in view on a token."""

from __future__ import annotations

import streamlit as st

from analysis.concepts.tokens import concepts_at, elsewhere
from analysis.models.pooling import Role
from analysis.store import Store, TokenView
from pages.components.shared import caching, concept_cards, gallery, safe, state

CONCEPTS, PICTURES, CAPTIONS = 6, 8, 5


def section(store: Store, concept: int, *, everything: bool) -> None:
    """What is known of the token in the address; an invitation where none was clicked."""
    chosen = token_in_view(store)
    if chosen is None:
        st.caption("Click a patch or a word: its concepts, and which other samples have them there.")
        return
    view, position = chosen
    found = concepts_at(caching.tokens(store), view.row, position)
    word = safe.words(word_of(view, position), 40)
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader(f"Concepts on {word}", anchor=False)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            if picture := caching.patch_picture(store, view.row, position):
                st.image(picture, width=72, alt=gallery.alt(store, view.row))
            st.caption(marked(view, position) or gallery.escape(gallery.alt(store, view.row), 160))
        for other, value in found[:CONCEPTS]:
            concept_cards.row(store, other, f"activation {value:.3g} on it", place="on-token")
        if not found:
            st.caption("No concept fires on it.")
        state.view_button("Close", place="token", icon=":material/close:", token=None)
    with right:
        fires = [other for other, _ in found]
        shown = concept if concept in fires or not fires else fires[0]
        whose = "it" if shown == concept else f"concept {shown}"
        st.subheader(f"Who else has {whose} on a token", anchor=False)
        if shown != concept:
            st.caption(f"Concept {concept} does not fire on this token; {shown} is the strongest here.")
        others(store, shown, view.row, everything=everything)


def others(store: Store, concept: int, row: int, *, everything: bool) -> None:
    """Other samples whose tokens are kept, each with the token on which the concept is loudest."""
    found = elsewhere(caching.tokens(store), concept, but=row, everything=everything)
    views = {view.row: view for view in caching.token_views(store)}
    st.caption(f"{len(found)} of the other {len(views) - 1} samples whose tokens are kept; each at its loudest token.")
    pictures = [one for one in found if views[one[0]].grid is not None][:PICTURES]
    with st.container(horizontal=True, gap="xsmall"):
        for other, position, value in pictures:
            if picture := caching.patch_picture(store, other, position):
                st.image(picture, caption=f"{value:#.3g}", width=84, alt=gallery.alt(store, other))
    captions = [one for one in found if views[one[0]].grid is None][:CAPTIONS]
    st.markdown("  \n".join(f":gray[`{value:#.3g}`] {marked(views[other], at)}" for other, at, value in captions))


def token_in_view(store: Store) -> tuple[TokenView, int] | None:
    """The sample and the position that the address names; None without, or with a notice for what is no token here."""
    raw = state.get(state.TOKEN)
    if raw is None:
        return None
    row, _, position = raw.partition(".")
    if row.isdecimal() and position.isdecimal():
        view = next((one for one in caching.token_views(store) if one.row == int(row)), None)
        if view is not None and int(position) < len(view.strings):
            return view, int(position)
    state.notice(
        f"The link asks for the token {state.shown(raw)}, expected row.position of a sample of {store.label} whose tokens "
        "are kept; showing none."
    )
    state.put(state.TOKEN, None)
    return None


def word_of(view: TokenView, position: int) -> str:
    """A token in words: a patch by its place, a word in quotes."""
    if view.cells is not None and view.grid is not None and position in view.cells:
        r, c = divmod(view.cells.tolist().index(position), view.grid[1])
        return f"patch {r + 1}, {c + 1}"
    return f"“{_plain(view.strings[position]).strip() or '␣'}”"


def marked(view: TokenView, position: int) -> str:
    """The words of a sample with one of its tokens in bold; "" for a picture."""
    if view.grid is not None:
        return ""
    parts = [_plain(word) for word in view.strings]
    spaced = any(part.startswith(" ") for part in parts[1:])  # tokens that carry their own spaces
    said = []
    for place, part in enumerate(parts):
        word = safe.words(part, 60)
        if place == position:
            word = f"**{word or '␣'}**"
        elif int(view.roles[place]) != Role.TEXT:
            continue
        said.append(word if spaced and not part.startswith(" ") else f" {word}")
    return "".join(said).strip()


def _plain(token: str) -> str:
    """A token with its subword marks as spaces."""
    return token.replace("Ġ", " ").replace("▁", " ").replace("</w>", " ").replace("Ċ", " ").replace("\n", " ")
