"""Two ranked lists of one query side by side: pictures, captions, similarities, movement, targets marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from analysis.figures.palette import SIGN
from analysis.live.ranking import Comparison, Place
from analysis.store import Store
from pages.components import caching, gallery

THUMB = 76  # pixels


def side_by_side(
    store: Store,
    rows: np.ndarray,
    comparison: Comparison,
    *,
    k: int = 10,
    titles: tuple[str, str] = ("Before", "After"),
) -> None:
    """The first k places before and after. rows (C,): rows of the samples of the candidates."""
    left, right = st.columns(2, gap="medium", border=True)
    for column, side, title in ((left, "before", titles[0]), (right, "after", titles[1])):
        with column, st.container(key=f"ranked_{side}"):  # the key names the list for tests and for people's scripts
            st.markdown(f"**{title}**")
            one_list(store, rows, comparison.places(side, k), side=side)


def one_list(store: Store, rows: np.ndarray, places: Sequence[Place], *, side: str) -> None:
    """One list. The "after" list says how far each candidate moved, the "before" list where it went."""
    if not any(caching.picture(store, int(rows[place.candidate])) for place in places):
        st.markdown("\n\n".join(line(store, int(rows[place.candidate]), place, side=side) for place in places))
        return
    for place in places:
        row = int(rows[place.candidate])
        with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
            picture = caching.picture(store, row)
            if picture:
                st.image(picture, width=THUMB, alt=gallery.alt(store, row))
            st.markdown(line(store, row, place, side=side), width="stretch")


def line(store: Store, row: int, place: Place, *, side: str) -> str:
    """Rank, target mark, caption, similarity and movement of one place, as markdown."""
    text = str(store.samples["text"].iat[row])
    words = gallery.escape(text, 160) if text else f":gray[{gallery.escape(caching.description(store, row), 64)}]"
    target = f":green-badge[{SIGN['target']} target] " if place.is_target else ""
    similarity = f"{round(place.similarity, 3) + 0.0:.3f}".replace("-", "\N{MINUS SIGN}")
    return f"**{place.rank}**\u2002{target}{words}  \n:gray[{similarity}] {movement(place, side=side)}"


def movement(place: Place, *, side: str) -> str:
    """Where a candidate came from, or went: arrow, number and words."""
    up = place.other_rank - place.rank
    if side == "before":
        return ":gray[stays]" if up == 0 else f":gray[→ rank {place.other_rank:,}]"
    if up == 0:
        return f":gray[{SIGN['unchanged']} same place]"
    if up > 0:
        return f":green[{SIGN['rescued']} up {up:,}, from {place.other_rank:,}]"
    return f":orange[{SIGN['lost']} down {-up:,}, from {place.other_rank:,}]"


def outcome(best: tuple[int, int] | None, k: int = 10) -> str:
    """What happened to the best target, in a sentence of markdown. best: the best rank of any target before and after;
    without one the sentence is empty."""
    if best is None:
        return ""
    before, after = best
    words = f"The best target stands at rank **{before:,}** before and **{after:,}** after"
    if before > k >= after:
        return f":green-badge[{SIGN['rescued']} rescued] {words}."
    if after > k >= before:
        return f":orange-badge[{SIGN['lost']} lost] {words}."
    if before == after:
        return f"{words}: no movement."
    sign = SIGN["rescued"] if after < before else SIGN["lost"]
    return f"{words} {sign}."
