"""The intervention of a view: one method is chosen, a further step is added on purpose. Its text form in the URL is the
only state: widgets are set from it at every run, and write it anew when they change. Which methods and settings there are
the steps say themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import streamlit as st

from analysis.errors import AnalysisError
from analysis.retrieval.interventions import Intervention, Offer, Removal, Step, families, family_of, parse
from analysis.store import Store
from pages.components.shared import method_fields, safe, state

DEFAULT = "removal:attribution,share=0.01"
NOTHING = "Nothing (base)"
DEFAULTS = {"live_query": "base"}  # there a mask is to be seen by itself first


@dataclass(frozen=True)
class Builder:
    """What a builder may offer: the store, other stores of the same candidates for a hybrid, the sides whose stored masks
    and poolings can be chosen here, and what stays when another method is chosen."""

    store: Store
    key: str = "method"
    partners: tuple[str, ...] = ()
    pooled: tuple[str, ...] = ("queries", "candidates")
    kept: tuple[str, ...] = ()  # stages of steps that stay when another method is chosen

    @cached_property
    def offer(self) -> Offer:
        return offer_of(self.store, self.partners, self.pooled)

    @cached_property
    def chips(self) -> dict[str, Any]:
        """Name of a family -> (family, its kinds that can be chosen here)."""
        found = {}
        for name, (family, kinds) in families().items():
            possible = tuple(kind for kind in kinds if kind.offered(self.offer))
            if possible:
                found[name] = (family, possible)
        return found


def offer_of(
    store: Store, partners: tuple[str, ...] = (), pooled: tuple[str, ...] = ("queries", "candidates")
) -> Offer:
    """What the steps of a method can choose from on a store."""
    return Offer(tuple(store.variants), partners, lambda name: store.concepts[name].to_numpy(), store.width, pooled)


def current(store: Store | None = None) -> Intervention:
    """The intervention in the URL; nonsense there becomes a notice and the default of the page in view. With a store, what
    it cannot give (more dimensions than its concepts span) is cut, with a notice."""
    text, default = state.get(state.METHOD), DEFAULTS.get(state.page_in_view(), DEFAULT)
    if text is None:
        state.shows(state.METHOD, default)
        return parse(default)
    try:
        found = parse(text)
    except (AnalysisError, ValueError) as error:
        state.notice(f"The link's method {state.shown(text)} cannot be read: {error} Showing {parse(default).label}.")
        return parse(default)
    if state.page_in_view() == "live_query" and found.hybrid is not None:
        state.notice(
            f"“{found.hybrid.label}” needs a second model's ranking, which one live query does not have: it is left out here. "
            "The retrieval lab does it for the queries of a task."
        )
        found = found.without_hybrid()
    if store is None:
        return found
    offer, steps = offer_of(store), []
    for step in found.steps:
        fitting, notice = step.fitted_to(offer)
        steps.append(fitting)
        if notice:
            state.notice(notice)
    return Intervention(tuple(steps)) if tuple(steps) != found.steps else found


def put(intervention: Intervention) -> None:
    state.put(state.METHOD, intervention.spec)


def add_step(step: Step) -> None:
    """Put a step into the view's intervention, in place of one of its kind."""
    kept = tuple(other for other in current().steps if family_of(other) != family_of(step))
    put(Intervention((*kept, step)))


def remove_only(concept: int) -> None:
    """Remove one concept and nothing else."""
    put(Intervention((Removal("concepts", concepts=(int(concept),)),)))


def build(builder: Builder, intervention: Intervention) -> None:
    """One method to choose, its settings, and what follows it: a further step is added on purpose."""
    chips = builder.chips
    drawn = [(place, step) for place, step in enumerate(intervention.steps) if family_of(step).name in chips]
    on = [family_of(step).name for _, step in drawn]
    first = next((place for place, step in drawn if step.acts not in builder.kept), None)
    key = f"_{builder.key}_chosen"
    st.session_state[key] = "base" if first is None else family_of(intervention.steps[first]).name
    st.selectbox(
        "Method", ["base", *chips], format_func=lambda name: chips[name][0].title if name in chips else NOTHING, key=key,
        on_change=_choose, args=(builder, key),
        help="What is done to the embeddings, one method at a time.\n\n"
        + "\n\n".join(f"**{family.title}**: {family.help}" for family, _ in chips.values()),
    )  # fmt: skip
    for place, step in drawn:
        if place == first:
            _settings(builder, place, step, on)
        else:
            _further(builder, place, step, on, before=first is None or place < first)
    if intervention.steps:
        _and_then(builder, on)
    _as_text(builder, intervention)


def _further(builder: Builder, place: int, step: Step, on: Sequence[str], *, before: bool) -> None:
    """Another step of the chain, with the way to take it away again. before: it acts before the one that was chosen."""
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            name = safe.words(family_of(step).title)
            st.markdown(f"first **{name}**" if before else f"and then **{name}**", width="stretch")
            st.button(
                "Take it away", key=f"_{builder.key}_away_{place}", icon=":material/close:", type="tertiary",
                on_click=_drop, args=(place,),
            )  # fmt: skip
        _settings(builder, place, step, on)


def _and_then(builder: Builder, on: Sequence[str]) -> None:
    """The one way in which a second step joins the first."""
    chips = builder.chips
    key = f"_{builder.key}_then"
    st.session_state[key] = None
    st.selectbox(
        "And then", [chip for chip in chips if chip not in on], index=None, key=key, placeholder="and then ...",
        format_func=lambda chip: chips[chip][0].title, label_visibility="collapsed", on_change=_add, args=(builder, key),
        help="Adds a step to the method: both are done, and the number is that of both together.",
    )  # fmt: skip


def _settings(builder: Builder, place: int, step: Step, on: Sequence[str]) -> None:
    """Which kind of its family, and the settings of that kind. A step that a chain holds twice has keys of its own."""
    twice = on.count(family_of(step).name) > 1
    key = f"_{builder.key}_{step.name}{f'_{place}' if twice else ''}"
    kinds = {kind.name: kind.title for kind in builder.chips[family_of(step).name][1]}
    if len(kinds) > 1:
        method_fields.select(
            f"_{builder.key}_{family_of(step).name}_kind", "How", tuple(kinds), step.name, kinds,
            lambda name: _swap(builder, place, name), 240,
        )  # fmt: skip
    method_fields.settings(
        builder.store, builder.offer, step, key, lambda name, value: _change(builder, place, name, value)
    )


def _as_text(builder: Builder, intervention: Intervention) -> None:
    if intervention.steps:
        st.caption(f"**{safe.words(intervention.label)}**")
    with st.popover("As text", type="tertiary", icon=":material/code:"):
        # A field of its own for every method: a closed popover takes no new value, and the browser would send the one
        # of its last opening as if the visitor had typed it.
        text_key = f"_{builder.key}_text_{intervention.spec}"
        st.text_input(
            "The same as text, as links and commands write it", intervention.spec, key=text_key, max_chars=480,
            on_change=_typed, args=(text_key, intervention.spec),
        )  # fmt: skip
        st.caption("Steps are joined by +, e.g. `removal:energy,share=0.02,r=16+realign:alpha=0.1`. Order counts.")


def _choose(builder: Builder, key: str) -> None:
    """A method was chosen: it takes the place of the whole chain, but for what the page keeps."""
    chosen: str = st.session_state[key]
    steps = [step for step in current().steps if step.acts in builder.kept and family_of(step).name != chosen]
    _put_steps(steps if chosen == "base" else [*steps, builder.chips[chosen][1][0].start(builder.offer)])


def _add(builder: Builder, key: str) -> None:
    chosen: str | None = st.session_state[key]
    if chosen:
        _put_steps([*current().steps, builder.chips[chosen][1][0].start(builder.offer)])


def _drop(place: int) -> None:
    steps = current().steps
    _put_steps([*steps[:place], *steps[place + 1 :]])


def _change(builder: Builder, place: int, name: str, value: Any) -> None:
    """One setting of one step was changed."""
    steps = list(current().steps)
    try:
        steps[place] = steps[place].changed(name, value, builder.offer)
    except AnalysisError as error:
        state.notice(str(error))
        return
    _put_steps(steps)


def _swap(builder: Builder, place: int, name: str) -> None:
    """Another kind of the same family, with the settings that both have."""
    steps = list(current().steps)
    kind = next(kind for _, kinds in builder.chips.values() for kind in kinds if kind.name == name)
    shared = {part.name for part in fields(steps[place])} & {part.name for part in fields(kind)}  # type: ignore[arg-type]
    kept = {field: getattr(steps[place], field) for field in shared if field in ("first", "bank")}
    steps[place] = kind(**kept) if kept else kind.start(builder.offer)
    _put_steps(steps)


def _put_steps(steps: Sequence[Step]) -> None:
    try:
        put(Intervention(tuple(steps)))
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
