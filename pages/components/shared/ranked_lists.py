"""Two ranked lists of one query side by side: pictures, captions, similarities, movement, targets marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from analysis.figures.palette import SIGN
from analysis.retrieval.evaluation.comparison import Comparison, Place
from analysis.store import Store
from analysis.store.finding import Entry, Lists, RankedList
from pages.components.shared import caching, gallery

THUMB = 64  # pixels of a candidate's picture
BESIDE = 48  # of the picture that a candidate caption describes


def side_by_side(
    store: Store,
    rows: np.ndarray,
    comparison: Comparison,
    *,
    k: int = 10,
    titles: tuple[str, str] = ("Before", "After"),
) -> None:
    """The first k places before and after, and below them the best targets that stand further down, outlined. rows (C,):
    rows of the samples of the candidates."""
    left, right = st.columns(2, gap="medium", border=True)
    for column, side, title in ((left, "before", titles[0]), (right, "after", titles[1])):
        with column, st.container(key=f"ranked_{side}", gap="xsmall"):  # the key names the list, also for scripts
            st.markdown(f"**{title}**")
            one_list(store, rows, comparison.places(side, k), side=side)
        behind = comparison.pinned(side, k)
        if behind:
            with column, st.container(key=f"pinned_{side}", border=True, gap="small"):
                _rows(store, rows, behind, side=side)
    if any(_beside(store, int(rows[place.candidate])) for place in comparison.places("before", k)):
        st.caption("Beside each caption: the picture that it describes.")


def frozen(
    store: Store,
    rows: np.ndarray,
    comparison: Comparison,
    *,
    k: int = 10,
    titles: tuple[str, str] = ("Before", "After"),
    query: str = "",
    picture: str = "",
) -> Lists:
    """Both lists as they stand on screen, for a finding. query, picture: what was asked; picture is a data URI."""

    def entry(place: Place, side: str) -> Entry:
        row = int(rows[place.candidate])
        shown = caching.picture_of(store, row)
        moved = (place.other_rank - place.rank) * (1 if side == "after" else -1)
        return Entry(
            place.rank, caching.description(store, row), place.similarity, place.is_target, moved,
            caching.picture(store, shown) if shown >= 0 else "",
        )  # fmt: skip

    both = tuple(
        RankedList(title, tuple(entry(p, side) for p in (*comparison.places(side, k), *comparison.pinned(side, k))))
        for side, title in zip(("before", "after"), titles, strict=True)
    )
    return Lists(both, query, picture)


def one_list(store: Store, rows: np.ndarray, places: Sequence[Place], *, side: str) -> None:
    """One list. The "after" list says how far each candidate moved, the "before" list where it went. A caption stands
    beside the picture that it describes."""
    _rows(store, rows, places, side=side)


def _rows(store: Store, rows: np.ndarray, places: Sequence[Place], *, side: str) -> None:
    found = [int(rows[place.candidate]) for place in places]
    shown = [caching.picture_of(store, row) for row in found]
    if max(shown, default=-1) < 0:
        lines = (line(store, row, place, side=side) for row, place in zip(found, places, strict=True))
        st.markdown("\n\n".join(lines))
        return
    for row, picture, place in zip(found, shown, places, strict=True):
        with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
            if picture == row:
                st.image(caching.picture(store, row), width=THUMB, alt=gallery.alt(store, row))
            elif picture >= 0:
                alt = f"Picture that the caption describes: {gallery.alt(store, row)}"
                st.image(caching.picture(store, picture), width=BESIDE, alt=alt)
            st.markdown(line(store, row, place, side=side), width="stretch")


def _beside(store: Store, row: int) -> bool:
    return caching.picture_of(store, row) not in (row, -1)


def line(store: Store, row: int, place: Place, *, side: str) -> str:
    """Rank, target mark, caption, similarity and movement of one place, as markdown."""
    text = str(store.samples["text"].iat[row])
    words = gallery.escape(text, 160) if text else f":gray[{gallery.escape(caching.description(store, row), 64)}]"
    target = f":green-badge[{SIGN['target']} target] " if place.is_target else ""
    similarity = f"{round(place.similarity, 3) + 0.0:.3f}".replace("-", "\N{MINUS SIGN}")
    return f"**{place.rank:,}**\u2002{target}{words}  \n:gray[{similarity}] {movement(place, side=side)}"


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


def outcome(best: tuple[Place, Place] | None, k: int = 10) -> str:
    """What happened to the best target, in a sentence of markdown. best: see `Comparison.best_targets`; without one the
    sentence is empty. Where another target is the best one afterwards, it says where both come from and go."""
    if best is None:
        return ""
    first, last = best
    before, after = first.rank, last.rank
    words = f"The best target stands at rank **{before:,}** before and **{after:,}** after"
    if first.candidate != last.candidate:
        words += (
            f" (another target: the one at {before:,} goes to {first.other_rank:,}, the one at {after:,} comes from "
            f"{last.other_rank:,})"
        )
    if before > k >= after:
        return f":green-badge[{SIGN['rescued']} rescued] {words}."
    if after > k >= before:
        return f":orange-badge[{SIGN['lost']} lost] {words}."
    if before == after:
        return f"{words}: no movement." if first.candidate == last.candidate else f"{words}."
    sign = SIGN["rescued"] if after < before else SIGN["lost"]
    return f"{words} {sign}."
