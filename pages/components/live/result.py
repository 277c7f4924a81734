"""What follows from a live query: tokens to mask, the intervention, both lists, the concepts, the reproduction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from analysis.query.applied import Applied, applied
from analysis.query.compatibility import fusion_note, precision_note, statistics_note
from analysis.query.distance import distance_note
from analysis.query.masks import NO_MASK, TokenMask
from analysis.query.query import LiveQuery
from analysis.query.reproduce import LiveView, command_for, python_for
from analysis.retrieval.evaluation.comparison import Comparison, compare
from analysis.retrieval.interventions import BASE, Intervention
from analysis.store import Store
from analysis.store.finding import Lists
from analysis.store.read import Task
from pages.components.live import asking, live_reasons, opening, strongest, token_strip
from pages.components.live.asking import Asked
from pages.components.shared import (
    caching,
    commands,
    downloads,
    gallery,
    layout,
    method_builder,
    pins,
    ranked_lists,
    safe,
    state,
)
from pages.components.shared.errors import guard

K = 8


@dataclass(frozen=True)
class Live:
    """A query to rank: its embedding is in the store (`query` None), or a model made it."""

    store: Store
    task: Task
    asked: Asked
    query: LiveQuery | None = None
    preview: str = ""

    def changes(self, mask: TokenMask, intervention: Intervention) -> Applied:
        """What is done to the query; a stored one is pooled by the intervention alone."""
        if self.query is None:
            return Applied(NO_MASK, intervention, intervention.pool.queries, intervention)
        return applied(self.query, caching.task_space(self.store, self.task.task), mask, intervention)

    def embeddings(self, changes: Applied) -> tuple[np.ndarray, np.ndarray]:
        """(before, after): un-normalised embeddings (D,)."""
        if self.query is not None:
            return self.query.embedding(), self.query.embedding(changes.mask)
        space, position = caching.task_space(self.store, self.task.task), int(self.asked.position or 0)
        variant = changes.intervention.pool.queries
        return space.row("queries", "mean", position), space.row("queries", variant, position)

    def compare(self, changes: Applied) -> Comparison:
        before, after = self.embeddings(changes)
        name = self.task.task
        return compare(
            caching.fitted(self.store, name, BASE),
            caching.fitted(self.store, name, changes.fitted),
            before, after, asking.targets(self.task, self.asked.position),
            position=self.asked.position if self.query is None else None,
        )  # fmt: skip

    def view(self, changes: Applied) -> LiveView:
        """The same as a command or a script. A cached query that was not run again is named by its position."""
        place, method = commands.place(self.store.path), changes.intervention.spec
        if self.query is None:
            return LiveView(place, self.task.task, query=self.asked.position, method=method, top=K)
        return LiveView(
            place, self.task.task, self.asked.file, self.query.sample.text, mask=changes.mask.spec, method=method,
            device=self.query.model.get("device", "cpu"), dtype=self.query.model["dtype"], top=K,
        )  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """What is done to the query in view, and where the lists of other models stand."""

    mask: TokenMask
    intervention: Intervention
    beside: Any


def show(live: Live, settings: Any) -> Shown | None:
    """What follows from the query: the lists first; what is left out and what is done to it are chosen in `settings`. None
    where that leaves nothing to rank."""
    if live.query is not None:
        token_strip.forget((caching.store_id(live.store), live.task.task, *live.asked.key))
    mask, intervention = token_strip.left_out(live.store, live.query, method_builder.current(live.store))
    concept = strongest.looked_at(live.store)
    opening.words(live.store, live.task.task, live.asked.position, intervention.spec)
    notes, lists, beside = st.container(), st.container(), st.container()
    changes, h_after = None, None  # a mask that leaves nothing is said once, where the ranking would be
    with lists, guard("The ranking", stop=False):
        changes = live.changes(mask, intervention)
        _, h_after = live.embeddings(changes)
    with settings:
        with guard("The tokens", stop=False):
            if live.query is not None:
                shaded = None if h_after is None else concept
                token_strip.show(live.store, live.query, mask, live.preview, shaded)
                pins.button("live-tokens", token_strip.pin(live.store, live.query, mask))
            elif live.asked.row is not None:
                token_strip.cached(live.store, live.asked.row, concept)
        with guard("The settings", stop=False):
            method_builder.build(_builder(live), intervention)
    if changes is None or h_after is None:
        return None
    with notes:
        for sentence in notes_of(live, changes):
            st.caption(f":material/info: {gallery.escape(sentence, 400)}")
    comparison = None
    with lists, guard("The ranking", stop=False):
        comparison = live.compare(changes)
        _lists(live, comparison, changes)
    if comparison is not None:
        with guard("The reasons", stop=False):
            live_reasons.section(
                live.store, live.task, comparison, live.view(changes), query=live.query, changes=changes
            )
    with guard("The concepts", stop=False):
        _concepts(live, changes, h_after, concept)
        _reproduction(live, changes)
    return Shown(mask, intervention, beside)


def _builder(live: Live) -> method_builder.Builder:
    """What is left out of a query that has tokens is chosen at its tokens, so the step is about the candidates alone."""
    tokens = live.query is not None and live.query.maskable
    pooled = ("candidates",) if tokens else ("queries", "candidates")
    return method_builder.Builder(live.store, "live_method", pooled=pooled, kept=("embeddings",))


def _lists(live: Live, comparison: Comparison, changes: Applied) -> None:
    sentence = ranked_lists.outcome(comparison.best_targets)
    if sentence:
        st.markdown(sentence)
    ranked_lists.side_by_side(
        live.store, live.task.candidate_rows, comparison, k=K,
        titles=("Before", f"After: {gallery.escape(changes.label) or 'nothing changed yet'}"),
    )  # fmt: skip
    st.caption(f"{len(live.task.candidate_rows):,} candidates of {live.task.task}. {safe.words(live.store.caption)}")
    with st.container(horizontal=True, gap="small"):
        downloads.keep("live-lists", _pin(live, comparison, changes, sentence))


def _pin(live: Live, comparison: Comparison, changes: Applied, sentence: str) -> pins.Pin:
    """The query before and after; a visitor's own picture goes along only with their tick."""
    asked, own = live.asked, live.asked.position is None
    words = " and ".join(
        filter(None, ("a picture" if asked.picture else "", f"“{asked.text[:120]}”" if asked.text else ""))
    )
    what = f"Query {asked.position:,}" if asked.position is not None else f"A live query ({words})"
    first = [caching.description(live.store, _first(live, comparison, side)) for side in ("before", "after")]
    says = f"the first place goes from “{first[0][:90]}” to “{first[1][:90]}”"
    if first[0] == first[1]:
        says = f"“{first[1][:90]}” stays first"
    shown = live.preview or (caching.picture(live.store, asked.row) if asked.row is not None else "")
    view = live.view(changes)

    def parts() -> tuple[Lists]:
        lists = ranked_lists.frozen(
            live.store, live.task.candidate_rows, comparison, k=K, titles=("before", changes.label or "nothing changed"),
            query=asked.text or (caching.description(live.store, asked.row) if asked.row is not None else ""), picture=shown,
        )  # fmt: skip
        return (lists,)

    method = changes.intervention.spec
    measure = {} if live.query is not None else pins.measure(
        "ranks", [live.store], task=live.task.task, query=asked.position, method=method
    )  # fmt: skip
    return pins.Pin(
        parts, title=what, sentence=f"{what}, {changes.label or 'as it is'}: {sentence or says}", command=command_for(view),
        caption=f"{len(live.task.candidate_rows):,} candidates of {live.task.task}.", python=python_for(view),
        measure=measure, picture=asked.picture if own else None,
    )  # fmt: skip


def _first(live: Live, comparison: Comparison, side: str) -> int:
    return int(live.task.candidate_rows[comparison.places(side, 1)[0].candidate])


def _concepts(live: Live, changes: Applied, h_after: np.ndarray, concept: int | None) -> None:
    """Bars of the strongest concepts, and the one that is looked at beside them."""
    st.subheader("Which concepts fire on it?", anchor=False)
    bars, detail = st.columns([7, 5], gap="medium")
    with bars:
        what = "Embedding after the mask" if changes.mask else "Embedding of the query"
        strongest.show(live.store, h_after, what=what)
    with detail:
        if concept is None:
            st.caption("Click a bar: what the concept means, and which tokens of your query it comes from.")
            return
        if live.query is not None:
            token_strip.where_from(live.store, live.query, changes.mask, live.preview, concept)
        strongest.detail(live.store, concept, strongest.query_concepts(caching.sae(live.store), h_after))


def _reproduction(live: Live, changes: Applied) -> None:
    view = live.view(changes)
    layout.refresh(command_for(view), lacks=" ".join(_missing_from_the_link(live, view)))
    with st.expander("Reproduce this ranking", icon=":material/terminal:"):
        for sentence in _missing_from_the_link(live, view):
            st.caption(safe.sentence(sentence))
        st.code(state.here("live_query"), language=None, wrap_lines=True)
        st.code(command_for(view), language=None, wrap_lines=True)
        st.code(python_for(view), language=None)


def _missing_from_the_link(live: Live, view: LiveView) -> list[str]:
    sentences = []
    lacks = asking.lacks(live.asked)
    if lacks:
        sentences.append(
            f"{lacks} Save it as `{view.picture}` in the project's folder for the command, which names it so."
        )
    if len(view.text) > asking.LINKED_TEXT and live.asked.position is None:
        sentences.append(f"A link holds the first {asking.LINKED_TEXT} characters of the text, the command all of it.")
    return sentences


def _unlike(live: Live, query: LiveQuery) -> str:
    """Whether a visitor's query is unlike the store's own; one of the data is not asked."""
    if live.asked.position is not None:
        return ""
    name = live.task.task
    return distance_note(caching.task_space(live.store, name), caching.usual_queries(live.store, name), query)


def notes_of(live: Live, changes: Applied) -> list[str]:
    """What to know about a query that a model read, a sentence each."""
    if live.query is None:
        return []
    notes = (
        live.asked.note,
        fusion_note(live.query),
        _unlike(live, live.query),
        precision_note(live.store, live.query),
        statistics_note(live.task.task, live.query, changes),
    )
    return [*live.query.notes, *filter(None, notes)]
