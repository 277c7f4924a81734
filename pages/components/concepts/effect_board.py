"""Which concepts hurt and which help retrieval most: a leaderboard of what the removal of each one alone does."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.figures.style import points
from analysis.retrieval.evaluation.single_effects import MEAN, leaderboard
from analysis.retrieval.interventions import Intervention, Removal
from analysis.store import Store
from pages.components.shared import caching, commands, concept_cards, downloads, pickers, safe, state

SHOWN = 5
HOW = (
    "The concept's direction is removed from queries and candidates (Eq. 8-10 with one concept), for each live concept by "
    "itself. Change of the mean of R@1, R@5 and R@10 in points, with the 95 % interval, paired over queries."
)


def section(store: Store, *, task: str | None = None) -> None:
    """Both ends of the board on one task (with a picker where `task` is None), each with the way to remove them together."""
    effects = store.effects
    if effects is None or not len(effects):
        st.info(
            "What each concept alone does to recall was not measured for this store yet:", icon=":material/science:"
        )
        st.code(commands.concept_effects(store), language=None)
        return
    measured = [name for name in store.tasks if (effects["task"] == name).any()]
    if task is None:
        task = pickers.task_of(measured, whose="The leaderboard")
    elif task not in measured:
        st.info(f"It was not measured on {task} yet, only on {', '.join(measured)}:", icon=":material/science:")
        st.code(commands.concept_effects(store, task), language=None)
        return
    base = effects[(effects["task"] == task) & (effects["k"] == MEAN)]["base"]
    boards = [leaderboard(effects, task, hurts=hurts) for hurts in (True, False)]
    sure = [int(((board["low"] > 0) | (board["high"] < 0)).sum()) for board in boards]
    st.markdown(
        f"On {task} (mean recall {100 * float(base.iloc[0]):.1f} %), removing one of **{sure[0]:,}** concepts raises recall "
        f"and one of **{sure[1]:,}** lowers it by an interval that leaves out 0; of {len(base):,} tried, chance alone gives "
        f"about {len(base) / 40:.0f} on either side.",
        help=HOW,
    )
    for column, board, words, hurts in zip(
        st.columns(2, gap="medium"), boards, ("Hurt most", "Help most"), (True, False), strict=True
    ):
        with column:
            _side(store, task, board, words, hurts=hurts)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{task}, {safe.words(store.caption)}.", width="stretch")
        downloads.save(
            f"{store.name}-{task}-concept-effects",
            table=lambda: effects[effects["task"] == task],
            command=commands.concept_effects(store, task),
        )


def _side(store: Store, task: str, board: pd.DataFrame, words: str, *, hurts: bool) -> None:
    st.subheader(words, anchor=False)
    top = board.head(SHOWN)
    if not len(top):
        st.caption("No concept does." if hurts else "None does.")
        return
    for row in top.itertuples():
        change, low, high = (points(float(value)) for value in (row.difference, row.low, row.high))
        concept_cards.row(store, int(row.concept), f"without it {change} [{low}, {high}]")
    together = Intervention((Removal("concepts", concepts=tuple(int(concept) for concept in top["concept"])),))
    state.page_link(
        "retrieval_lab", f"Remove these {len(top)} in the lab" if len(top) > 1 else "Remove it in the lab",
        icon=":material/science:", store=caching.store_id(store), task=task,
        method=together.spec,
    )  # fmt: skip
    if len(top) > 1:
        st.caption(
            "Found on these same queries: part of what they do together is chance. As many random ones stand beside."
        )
