"""What retrieval does without one concept, measured when asked for."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.figures.style import percent, points
from analysis.retrieval.interventions import parse
from analysis.store import Store
from analysis.store.finding import table_part
from pages.components.shared import caching, commands, downloads, pickers, pins, safe, state


def section(store: Store, concept: int) -> None:
    """Recall of a task with and without the concept's direction, with paired intervals."""
    if not store.tasks:
        st.caption("This store holds no retrieval task; build it again with `--tasks`.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        task = pickers.task(store)
        asked = st.toggle(
            "Measure", **state.bound(state.SHOW),
            help="Removes the concept's direction from queries and candidates (Eq. 8-10 with one concept) and ranks again.",
        )  # fmt: skip
    if not asked or task is None:
        return
    table = caching.removal_effect(store, task, concept)
    method = parse(f"removal:concepts={concept}")
    st.dataframe(_readable(table), hide_index=True, width="content", alt=f"Recall of {task} without concept {concept}")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"Share of queries with a target in the first k, {safe.words(store.caption)}; 95 % bootstrap over queries, "
            "paired for the difference (Eq. 8-10).",
            width="stretch",
        )
        downloads.save(
            f"{store.name}-{task}-without-{concept}",
            table=lambda: table,
            command=commands.retrieve(store, task, (method,)),
            pin=pins.Pin(
                lambda: (table_part(_readable(table)),),
                sentence=_sentence(table, task, concept),
                caption=f"Recall of {task}, 95 % bootstrap over queries.",
                measure=pins.measure("recall", [store], task=task, methods=["base", method.spec]),
            ),
        )
        state.page_link(
            "retrieval_lab", "More in the lab", icon=":material/science:", store=caching.store_id(store), task=task
        )


def _sentence(table: pd.DataFrame, task: str, concept: int) -> str:
    """What its removal does at the largest cut-off."""
    row = table[table["method"] != table["method"].iloc[0]].iloc[-1]
    sure = "" if row["difference_low"] > 0 or row["difference_high"] < 0 else ", which includes no change"
    return (
        f"Without concept {concept} R@{row['k']} of {task} changes by {points(row['difference'])} points "
        f"[{points(row['difference_low'])}, {points(row['difference_high'])}]{sure}"
    )


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """One row a cut-off: base, without, difference with its interval."""
    base, without = (part for _, part in table.groupby("method", sort=False))
    changes = without[["difference", "difference_low", "difference_high"]].itertuples(index=False)
    return pd.DataFrame(
        {
            "": [f"R@{k}" for k in base["k"]],
            "base": [percent(value) for value in base["recall"]],
            "without the concept": [percent(value) for value in without["recall"]],
            "difference (points)": [f"{points(d)}  [{points(low)}, {points(high)}]" for d, low, high in changes],
        }
    )
