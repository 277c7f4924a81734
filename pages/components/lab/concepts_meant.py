"""Which concepts a method is about: the list behind a share, with their pictures, and those that hurt or help most."""

from __future__ import annotations

import streamlit as st

from analysis.errors import AnalysisError
from pages.components.concepts import effect_board
from pages.components.lab.lab_view import LabView
from pages.components.shared import caching, concept_cards, downloads, scores
from pages.components.shared.errors import guard

SHOWN = 12


def section(view: LabView) -> None:
    """Two buttons that open the lists; nothing is drawn before."""
    with st.container(horizontal=True, gap="small"):
        ids = removed(view)
        meant = ids and st.toggle(
            f"Show the {len(ids):,} concept{'s' * (len(ids) > 1)} that this removes", key="_lab_meant"
        )
        board = st.toggle("Which concepts hurt or help most?", key="_lab_board")
    if meant:
        with guard("The list of concepts", stop=False):
            _list(view, ids)
    if board:
        with guard("The leaderboard", stop=False):
            effect_board.section(view.store, task=view.name)


def removed(view: LabView) -> list[int]:
    """Ids of the concepts that the method in view takes out, loudest first; none where it names no concepts."""
    found: set[int] = set()
    space = caching.task_space(view.store, view.name, view.pool)
    for step in view.after.steps:
        try:
            found |= {int(concept) for concept in step.removed_concepts(space)}
        except AnalysisError:  # a score that this store lacks: the results say so
            continue
    energy = view.store.concepts["energy"].to_numpy()
    return sorted(found, key=lambda concept: (-energy[concept], concept))


def _list(view: LabView, ids: list[int]) -> None:
    table = view.store.concepts
    st.caption(f"Loudest first{f'; {SHOWN} of {len(ids):,}, all in the file' if len(ids) > SHOWN else ''}.")
    for start in range(0, min(SHOWN, len(ids)), 2):
        for column, concept in zip(st.columns(2, gap="medium"), ids[start : start + 2], strict=False):
            with column:
                energy = scores.SCORES["energy"].text(float(table["energy"].iat[concept]))
                concept_cards.row(view.store, concept, f"energy {energy}")
    downloads.save(
        f"{view.store.name}-{view.name}-removed-concepts",
        table=lambda: table.iloc[ids].rename_axis("concept").reset_index(),
    )
