"""The concepts behind a cell of the Jaccard table: those that all of its top sets have, and those of one set alone."""

from __future__ import annotations

import numpy as np
import streamlit as st

from analysis.concepts.metrics import top_concepts
from analysis.figures.overview import OVERLAPS
from analysis.store import Store
from pages.components.shared import concept_cards, gallery, scores

SHOWN = 6
SETS = {
    "energy_attribution": ("energy", "attribution"), "energy_bridge": ("energy", "bridge"),
    "attribution_bridge": ("attribution", "bridge"), "triple": ("energy", "attribution", "bridge"),
}  # fmt: skip


def section(stores: list[Store], names: list[str], cell: tuple[int, str] | None, share: float, reduction: str) -> None:
    chosen = {words: name for name, words in OVERLAPS.items()}.get(cell[1]) if cell else None
    if cell is None or chosen is None:
        st.caption("Click a cell of J to see the concepts behind it.")
        return
    store = stores[cell[0]]
    tops = top_sets(store, SETS[chosen], share, reduction)
    common = set.intersection(*tops.values())
    with st.container(border=True):
        st.markdown(f"**{cell[1]} of {gallery.escape(names[cell[0]])}**, the top {100 * share:g} %")
        listed(store, common, f"In {'both' if len(tops) == 2 else 'all three'}")
        for name, top in tops.items():
            others = set.union(*(other for key, other in tops.items() if key != name))
            listed(store, top - others, f"By {name} alone")


def top_sets(store: Store, names: tuple[str, ...], share: float, reduction: str) -> dict[str, set[int]]:
    """Name of a score -> the concepts of its top set."""
    columns = {"bridge": scores.REDUCTIONS[reduction]}
    return {
        name: set(top_concepts(store.concepts[columns.get(name, name)].to_numpy(), share).tolist()) for name in names
    }


def listed(store: Store, concepts: set[int], words: str) -> None:
    """The loudest of some concepts, each with its pictures and a link."""
    energy = store.concepts["energy"].to_numpy()
    ids = sorted(concepts, key=lambda concept: -energy[concept])
    st.caption(f"**{words}: {len(ids):,}**" + (f", the {SHOWN} loudest" if len(ids) > SHOWN else ""))
    share = energy / max(float(np.sum(energy)), 1e-300)
    for concept in ids[:SHOWN]:
        concept_cards.row(store, concept, f"{100 * share[concept]:.1f} % of the energy")
