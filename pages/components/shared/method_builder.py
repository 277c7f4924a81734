"""The intervention of a view, put together from chips. Its text form in the URL is the only state: widgets are set from
it at every run, and write it anew when they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from analysis.errors import AnalysisError
from analysis.retrieval.interventions import Intervention, parse
from analysis.retrieval.interventions import Removal, Step
from analysis.store import Store
from pages.components.shared import method_fields, state

CHIPS = {
    "removal": "Removal",
    "realign": "ReAlign",
    "centring": "Centring",
    "pca": "Principal components",
    "pool": "Masks and pooling",
    "edit": "Concept edits",
    "codes": "Concept space",
    "hybrid": "Hybrid",
}
DEFAULT = "removal:attribution,share=0.01"
DEFAULTS = {"live_query": "base"}  # there a mask is to be seen by itself first
HELP = {
    "removal": "Project away the space that the top concepts span (Eq. 8-10).",
    "realign": "Whiten queries and candidates, each with their own mean and covariance (ACL version of the paper).",
    "centring": "Subtract the mean. A control: the simplest correction there is.",
    "pca": "Project away the leading principal components. A control: no concepts involved.",
    "pool": "Use the embeddings that leave out image, prompt or instruction tokens, or the last token (Fig. 4, Table 3).",
    "edit": "Scale single concepts' part of every embedding: 0 silences a concept, 2 doubles it.",
    "codes": "Compare sparse codes instead of embeddings.",
    "hybrid": "Let another model take the top n and this one order them, or add both similarities.",
}


@dataclass(frozen=True)
class Builder:
    """What a builder may offer: the store, the chips, other stores of the same candidates for a hybrid, and the sides whose
    stored masks and poolings can be chosen here."""

    store: Store
    key: str = "method"
    chips: tuple[str, ...] = tuple(CHIPS)
    partners: tuple[str, ...] = ()
    pooled: tuple[str, ...] = ("queries", "candidates")


def current(store: Store | None = None) -> Intervention:
    """The intervention in the URL; nonsense there becomes a notice and the default of the page in view. With a store, a
    number of dimensions that its concepts do not span becomes all of them, with a notice."""
    text, default = state.get(state.METHOD), DEFAULTS.get(state.page_in_view(), DEFAULT)
    if text is None:
        state.shows(state.METHOD, default)
        return parse(default)
    try:
        found = parse(text)
    except (AnalysisError, ValueError) as error:
        state.notice(f"The link's method {state.shown(text)} cannot be read: {error} Showing {parse(default).label}.")
        return parse(default)
    if store is None:
        return found
    return Intervention(tuple(_fitting(store, step) for step in found.steps))


def _fitting(store: Store, step: Step) -> Step:
    if not isinstance(step, Removal) or step.r is None:
        return step
    whole = method_fields.dimensions(store, step)
    if step.r <= whole:
        return step
    state.notice(
        f"The method asks for r = {step.r:,}, and its concepts span {whole:,} dimensions: all of them are removed."
    )
    return replace(step, r=None)


def put(intervention: Intervention) -> None:
    state.put(state.METHOD, intervention.spec)


def add_step(step: Step) -> None:
    """Put a step into the view's intervention, in place of one of its kind."""
    kept = tuple(other for other in current().steps if kind_of(other) != kind_of(step))
    put(Intervention((*kept, step)))


def remove_only(concept: int) -> None:
    """Remove one concept and nothing else."""
    put(Intervention((Removal("concepts", concepts=(int(concept),)),)))


def build(builder: Builder, intervention: Intervention) -> None:
    """Draw the chips and the settings of what is on."""
    on = [kind_of(step) for step in intervention.steps]
    possible = {"hybrid": bool(builder.partners), "pool": len(builder.store.variants) > 1}
    chips = [chip for chip in builder.chips if possible.get(chip, True)]
    chips_key = f"_{builder.key}_chips"
    st.session_state[chips_key] = [chip for chip in chips if chip in on]
    st.pills(
        "After: what is done to the embeddings", chips, selection_mode="multi", format_func=lambda chip: CHIPS[chip],
        key=chips_key, on_change=_switch, args=(builder, chips_key), wrap=True,
        help="\n\n".join(f"**{CHIPS[chip]}**: {HELP[chip]}" for chip in chips),
    )  # fmt: skip
    drawn = [step for step in intervention.steps if kind_of(step) in chips]
    for step in drawn[:-1]:
        with _row():
            method_fields.settings(builder, step, _change)
    with _row():  # what is done in words and as text stands beside the last settings, so that the lists stand higher
        for step in drawn[-1:]:
            method_fields.settings(builder, step, _change)
        _as_text(builder, intervention)


def _row() -> Any:
    return st.container(horizontal=True, vertical_alignment="bottom", gap="small")


def _as_text(builder: Builder, intervention: Intervention) -> None:
    label = f"**{intervention.label}**" if intervention.steps else "Nothing: they stay as they are."
    with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small", width="stretch"):
        with st.popover("As text", type="tertiary", icon=":material/code:"):
            # A field of its own for every method: a closed popover takes no new value, and the browser would send the one
            # of its last opening as if the visitor had typed it.
            text_key = f"_{builder.key}_text_{intervention.spec}"
            st.text_input(
                "The same as text, as links and commands write it", intervention.spec, key=text_key, max_chars=480,
                on_change=_typed, args=(text_key, intervention.spec),
            )  # fmt: skip
            st.caption("Steps are joined by +, e.g. `removal:energy,share=0.02,r=16+realign:alpha=0.1`. Order counts.")
        st.caption(label)


def kind_of(step: Step) -> str:
    return "hybrid" if step.name in ("rerank", "fusion") else step.name


def describe(step: Step) -> str:
    return HELP[kind_of(step)]


def _switch(builder: Builder, chips_key: str) -> None:
    """A chip was switched on or off: keep the other steps in their order, append what is new."""
    wanted: Sequence[str] = st.session_state[chips_key] or []
    steps = [step for step in current().steps if kind_of(step) in wanted or kind_of(step) not in builder.chips]
    known = {kind_of(step) for step in steps}
    steps += [method_fields.first(builder, chip) for chip in wanted if chip not in known]
    put(Intervention(tuple(steps)))


def _change(position_kind: str, field: str, value: Any) -> None:
    """One setting of one step was changed."""
    try:
        steps = tuple(
            replace(step, **{field: value}) if kind_of(step) == position_kind else step for step in current().steps
        )
        put(Intervention(steps))
    except AnalysisError as error:
        state.notice(str(error))


def _typed(text_key: str, shown: str) -> None:
    text = st.session_state[text_key]
    if text == shown:
        return
    try:
        put(parse(text))
    except (AnalysisError, ValueError) as error:
        state.notice(f"This cannot be read as a method: {error}")
