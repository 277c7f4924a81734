"""What retrieval does without one concept, measured when asked for."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.figures.style import percent, points
from analysis.retrieval.interventions import parse
from analysis.store import Store
from pages.components.shared import caching, commands, downloads, pickers, safe, state


def section(store: Store, concept: int) -> None:
    """Recall of a task with and without the concept's direction, with paired intervals."""
    st.subheader("Retrieval without it", anchor=False)
    if not store.tasks:
        st.caption("This store holds no retrieval task; build it again with `--tasks`.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        task = pickers.task(store)
        asked = st.toggle(
            "Measure", key=state.SHOW, bind="query-params",
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
        )
        state.page_link(
            "retrieval_lab", "More in the lab", icon=":material/science:", store=caching.store_id(store), task=task
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
