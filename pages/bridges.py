"""Bridges: which concepts of pictures go with which concepts of captions, as a graph or a table, and one pair in detail."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.concepts.bridges import strongest
from analysis.figures.bridges import bridge_graph, caption_for, picked
from analysis.store import Store
from pages.components.concepts import bridge_card
from pages.components.shared import caching, commands, concept_cards, downloads, layout, pickers, pins, state
from pages.components.shared.errors import guard

VIEWS = ["graph", "table"]
RANKED = {"beyond the null": "excess", "raw": "bridge"}
DRAWN, ON_SLIDE, ROWS = 20, 12, 100
RANKED_HELP = (
    "raw: B = co-activation times cosine of the directions (Eq. 5). Two concepts that fire everywhere have a large B "
    "whatever they mean; beyond the null: B minus what 99.9 % of permutations give that move captions to other pictures."
)


def main() -> None:
    if (pair := st.session_state.pop("_open_bridge", None)) is not None:
        state.put(state.PAIR, f"{pair[0]},{pair[1]}")
    layout.header("bridges", "Which picture concepts answer which caption concepts?")
    with layout.controls("bridges") as row:
        store = pickers.store()
        ranked = pickers.one_of("Ranked by", state.RANKED, list(RANKED), what="an order of bridges", help=RANKED_HELP)
        state.check_choice(state.VIEW, VIEWS, default=VIEWS[0], what="a view")
        view = st.segmented_control("View", VIEWS, required=True, **state.placed(state.VIEW, VIEWS[0], VIEWS))
        of = one_concept(store)
        with row.more, st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            apart = st.toggle("Without bridges of a concept to itself", **state.bound(state.APART))
            if of is not None:
                state.view_button("All bridges", place="all", icon=":material/undo:", of=None)
        by = RANKED[ranked]
        row.command = commands.bridges(store, by, apart=apart, of=of)
        row.title = f"Bridges of {store.label}"
    layout.store_line(store)
    if not len(store.bridges):
        st.info("This store holds no pairs of pictures and captions, so it has no bridges.", icon=":material/link_off:")
        return
    found = strongest(store.bridges, by, apart=apart, of=of)
    says = summary(store, found, of)
    st.markdown(says)
    if len(found):
        with guard("The bridges", stop=False):
            (graph if view == "graph" else table)(store, found, by, of, row.command, says)
    with guard("The pair", stop=False):
        bridge_card.section(store, *chosen_pair(store, found if len(found) else store.bridges))


def one_concept(store: Store) -> int | None:
    """The concept whose bridges alone are shown, None for all."""
    raw = state.get(state.OF)
    value = None if raw is None else state.get_int(
        state.OF, low=0, high=store.n_concepts - 1, default=-1, what=f"bridges of a concept of {store.label},"
    )  # fmt: skip
    value = None if value == -1 else value
    st.session_state["_bridges_of"] = value
    st.number_input(
        "Only of concept", 0, store.n_concepts - 1, key="_bridges_of", width=120, placeholder="all",
        on_change=lambda: state.put(state.OF, st.session_state["_bridges_of"]),
    )  # fmt: skip
    if raw is not None and value is None:
        state.put(state.OF, None)
    return value


def chosen_pair(store: Store, found: pd.DataFrame) -> tuple[int, int]:
    """(image concept, text concept) of the address; by default the strongest bridge in view."""
    default = int(found["image_concept"].iat[0]), int(found["text_concept"].iat[0])
    raw = state.get(state.PAIR)
    parts = (raw or "").split(",")
    pair = tuple(int(part) for part in parts if part.isdecimal())
    if raw is not None and not (len(parts) == len(pair) == 2 and max(pair) < store.n_concepts):
        state.notice(
            f"The link asks for the bridge {state.shown(raw)}, expected two concepts of {store.label} such as "
            f"{default[0]},{default[1]}; showing that one."
        )
        state.put(state.PAIR, None)
        raw = None
    if raw is None:
        state.shows(state.PAIR, f"{default[0]},{default[1]}")
        return default
    return pair[0], pair[1]


def summary(store: Store, found: pd.DataFrame, of: int | None) -> str:
    """How many bridges stand, and how many of them join a concept to itself."""
    kept, beyond = store.bridges, int((store.bridges["excess"] > 0).sum())
    if of is not None:
        sides = [int((found[side] == of).sum()) for side in ("image_concept", "text_concept")]
        whose = concept_cards.title(store, of)
        return f"Concept **{whose}** has {sides[0]:,} bridges from its pictures and {sides[1]:,} to its captions in this list."
    own = int(((kept["image_concept"] == kept["text_concept"]) & (kept["excess"] > 0)).sum())
    return (
        f"Of the {len(kept):,} strongest bridges **{beyond:,}** exceed the permutation null; {own:,} of these join a concept "
        f"to itself, **{beyond - own:,}** join two concepts."
    )


def graph(store: Store, found: pd.DataFrame, by: str, of: int | None, command: str, says: str) -> None:
    """Picture concepts at the left, caption concepts at the right; a node leaves its bridges alone, a line opens its pair."""
    drawn = found.head(DRAWN)
    ids = np.unique(drawn[["image_concept", "text_concept"]])
    names = dict(zip(ids.tolist(), caching.concept_names(store, ids), strict=True))

    def of_strongest(top: int) -> go.Figure:
        return bridge_graph(drawn, names=names, weight=by, top=top, data=store.caption)

    words = caption_for(min(ON_SLIDE, len(drawn)), by, store.caption)
    event = downloads.figure(
        of_strongest(DRAWN), f"{store.name}-bridges-{by}-{'all' if of is None else of}", select=("points",), command=command,
        table=lambda: drawn, note="Click a concept to see its bridges alone, the middle of a line to see the pair.",
        pin=pins.Pin(title=words, sentence=says, caption=words), on_slide=lambda: of_strongest(ON_SLIDE),
    )  # fmt: skip
    clicked = picked(event)
    if clicked and clicked != st.session_state.get("_bridge_clicked"):
        if len(clicked) == 1:
            state.put(state.OF, clicked[0])
        else:
            state.put(state.PAIR, f"{clicked[0]},{clicked[1]}")
        st.session_state["_bridge_clicked"] = clicked
        st.rerun()
    st.session_state["_bridge_clicked"] = clicked


def table(store: Store, found: pd.DataFrame, by: str, of: int | None, command: str, says: str) -> None:
    """The strongest bridges a row each; a click opens the pair."""
    part = found.head(ROWS)
    rows = rows_of(store, part)
    key = f"bridges_{caching.store_id(store)}_{by}_{of}_{len(part)}"
    st.dataframe(
        rows, hide_index=True, key=key, row_height=56, height=min(56 * len(rows), 450) + 40, selection_mode="single-cell",
        column_config=column_config(), alt="The strongest bridges",
        on_select=lambda: _opened(st.session_state[key]["selection"], part),
    )  # fmt: skip
    with st.container(horizontal=True):
        st.caption(f"{len(part):,} of {len(found):,}. Click a row to see the pair.", width="stretch")
        downloads.save(
            f"{store.name}-bridges", table=lambda: rows.drop(columns="pictures"), command=command,
            pin=pins.Pin(sentence=says, caption=f"The first {len(part)} bridges by {by} (Eq. 5)."),
        )  # fmt: skip


def _opened(selection: dict[str, Any], part: pd.DataFrame) -> None:
    if selection.get("cells"):
        row = part.iloc[selection["cells"][0][0]]
        st.session_state["_open_bridge"] = int(row["image_concept"]), int(row["text_concept"])


def rows_of(store: Store, part: pd.DataFrame) -> pd.DataFrame:
    image, text = (part[side].to_numpy() for side in ("image_concept", "text_concept"))
    return pd.DataFrame(
        {
            "pictures": [concept_cards.strip(store, int(i), 52) or None for i in image],
            "image concept": _titles(store, image),
            "captions": [bridge_card.first_caption(store, int(j)) for j in text],
            "text concept": _titles(store, text),
            "excess": part["excess"].to_numpy(),
            "bridge": part["bridge"].to_numpy(),
            "co-activation": part["coactivation"].to_numpy(),
            "cosine": part["cosine"].to_numpy(),
        }
    )


def _titles(store: Store, concepts: np.ndarray) -> list[str]:
    named = zip(concepts, caching.concept_names(store, concepts), strict=True)
    return [f"{concept} · {name}" if name else f"{concept}" for concept, name in named]


def column_config() -> dict[str, Any]:
    numbers = {
        "excess": "Bridge minus the 99.9 % quantile of its permutations.",
        "bridge": "Co-activation times cosine (Eq. 5).",
        "co-activation": "Mean over all pairs of activation on the picture times activation on the caption.",
        "cosine": "Of the two directions in the dictionary.",
    }
    config: dict[str, Any] = {
        name: st.column_config.NumberColumn(name, help=words, format="%.3g", width=92)
        for name, words in numbers.items()
    }
    return config | {
        "pictures": st.column_config.ImageColumn("strongest pictures", width=175, help=concept_cards.STRIP_HELP),
        "image concept": st.column_config.TextColumn("of image concept", width=140),
        "captions": st.column_config.TextColumn("strongest caption", width=250),
        "text concept": st.column_config.TextColumn("of text concept", width=140),
    }


with guard():
    main()
