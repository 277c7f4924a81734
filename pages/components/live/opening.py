"""What a fresh Live page opens on: a query of the store that a method rescues, explained in three sentences."""

from __future__ import annotations

import streamlit as st

from analysis.retrieval.evaluation.movement import movement
from analysis.retrieval.interventions import BASE, parse
from analysis.store import Store
from pages.components.shared import caching, method_builder, safe, state

METHODS = (method_builder.DEFAULT, "realign")  # the first that rescues a query
K, FIRST = 10, 3  # a target enters the first K; better, the first FIRST
ASKED = (state.SOURCE, state.TEXT, state.QUERY, state.METHOD, state.MASK, state.UPLOAD)
_OPENED = "_live_opened_on"


def settle(store: Store, task: str) -> None:
    """Where neither link nor visitor has asked for anything yet: the first rescued query, with the method that does it."""
    if any(state.get(key) is not None for key in ASKED):
        _write_down()
        return
    found = rescued(store, task)
    chosen: dict[str, object] = {state.SOURCE: "data"}
    if found is not None:
        method, query, count, before, after = found
        chosen |= {state.QUERY: query, state.METHOD: method}
        st.session_state[_OPENED] = (caching.store_id(store), task, query, method), (count, before, after)
    for key, value in chosen.items():
        state.keep(key, value, default=value)  # the address stays as it is: nobody chose this, and back is one step


def _write_down() -> None:
    """Once the visitor has chosen anything, what the page opened on and he kept belongs to the address: a reload lost it."""
    if _OPENED not in st.session_state or not any(state.address(key) is not None for key in ASKED):
        return
    _, _, query, method = st.session_state[_OPENED][0]
    shown = {state.SOURCE: "data", state.QUERY: str(query), state.METHOD: method}
    if state.get(state.SOURCE) != "data":
        del shown[state.QUERY]
    for key, value in shown.items():
        if state.address(key) is None and state.get(key) == value:
            state.put(key, value)


def rescued(store: Store, task: str) -> tuple[str, int, int, int, int] | None:
    """(method, query, how many it rescues, rank of the best target before, after); None where none is, or where ranking
    every query would take long."""
    if not caching.is_small(store, task):
        return None
    for text in METHODS:
        ranks = [caching.measured(store, task, method, "local").ranks[0] for method in (BASE, parse(text))]
        moved = movement(ranks[0], ranks[1], K)
        good = moved[moved["status"] == "rescued"]
        if len(good):
            best = good[good["after"] <= FIRST].head(1) if (good["after"] <= FIRST).any() else good.head(1)
            row = best.iloc[0]
            return text, int(row["query"]), len(good), int(row["before"]), int(row["after"])
    return None


def words(store: Store, task: str, query: int | None, method: str) -> None:
    """The three sentences, as long as the query that the page opened on is in view."""
    known = st.session_state.get(_OPENED)
    if known is None or known[0] != (caching.store_id(store), task, query, method):
        return
    count, before, after = known[1]
    label = safe.words(parse(method).label)
    st.markdown(
        f"This is one of the {count:,} queries that **{label}** rescues: its target stood at rank **{before:,}** and comes to "
        f"**{after:,}**. On the left is the model's own ranking, on the right the one after the method; the target is marked "
        f"green. **Try your own**: choose *Upload* in the rail and give a picture, a text, or both."
    )
