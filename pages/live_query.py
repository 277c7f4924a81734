"""Live query: a visitor's own picture and text, masked, corrected, ranked against a store's candidates."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.data.samples import Sample
from analysis.errors import BackboneError
from analysis.query import uploads
from analysis.query.compatibility import check_compatible, no_model
from analysis.query.query import LiveQuery, embed_sample
from analysis.query.reproduce import LiveView, command_for
from analysis.query.slot import ModelRequest
from analysis.store import Store
from analysis.store.read import Task
from pages.components.live import asking, model_panel, opening, other_models, result, token_strip
from pages.components.live.asking import Asked
from pages.components.shared import caching, commands, layout, method_builder, pickers, safe, state
from pages.components.shared.errors import guard

HELD = 4  # queries a session keeps with their hidden states


def main() -> None:
    with layout.rail("live_query", "What does it see?") as row:
        store = pickers.store("Candidates", weak=True)
        name = pickers.task(store)
        task = store.task(name) if store.has_model and name is not None else None
        if task is not None:
            opening.settle(store, task.task)
            asked = asking.ask(store, task)
            settings = st.container()
            request, redraw = model_panel.panel(store)
        row.command = _command(store, name)
        row.title = f"Live query: {store.label}" + (f", {name}" if name else "")
        layout.store_facts(store)
    layout.store_warnings(store)
    if not store.has_model:
        st.info(f"{safe.words(no_model(store))} Rank those in the Retrieval lab.", icon=":material/info:")
        st.stop()
    if task is None:
        st.info(
            f"{safe.words(store.label)} holds no retrieval task, so there are no candidates to rank.",
            icon=":material/info:",
        )
        st.stop()
    if asked.lost:
        st.warning(
            "This query has a picture that is not here (any more): pictures are kept for "
            f"{uploads.days():g} days, on the server where they were given. Give it again in the rail, or go on without it.",
            icon=":material/no_photography:",
        )
        return
    if not asked:
        st.info(
            "Give a picture, a text, or both in the rail at the left. “Data” shows queries of the store, no model needed."
        )
        return
    settings = st.container() if state.bare() else settings
    live = _live(store, task, request, asked, settings)
    redraw()
    if live is not None:
        shown = result.show(live, settings)
        if shown is not None:
            with shown.beside, guard("The comparison", stop=False):
                other_models.section(live, request, shown.mask, shown.intervention)


def _command(store: Store, name: str | None) -> str:
    """The command of the view before there is a ranking, from what the visitor gave last; the page puts the one of
    the ranking in its place."""
    place, task, method = commands.place(store.path), name or "TASK", method_builder.current(store).spec
    if state.get(state.SOURCE) == "data":
        return command_for(LiveView(place, task, query=int(st.session_state.get("_live_position", 0)), method=method))
    held, known = st.session_state.get("_live_upload"), state.get(state.UPLOAD) or ""
    text = st.session_state.get("_live_text") or state.get(state.TEXT) or ""
    if asking.is_kept(known):
        file = commands.place(uploads.place(caching.uploads_dir(), known))
        return command_for(
            LiveView(place, task, file, text, mask=state.get(state.MASK) or "", method=method, device="auto")
        )
    picture = held.name if held is not None else "" if text else "PICTURE"
    mask = state.get(state.MASK) or ""
    return command_for(LiveView(place, task, picture, text, mask=mask, method=method, device="auto"))


def _live(store: Store, task: Task, request: ModelRequest, asked: Asked, settings: Any) -> result.Live | None:
    """The query with its token states; a query of the data is answered from the cache until its model is loaded. settings:
    where the switch for that stands."""
    if asked.position is not None:
        st.session_state["_live_run"] = state.get(state.RUN) == "1"
        with settings:
            runs = st.toggle(
                token_strip.RUN_LABEL, key="_live_run", on_change=token_strip.switch_run,
                args=(store, str(store.samples["modality"].iat[asked.row])),
                help="Gives its tokens to mask. Otherwise the cached embedding answers.",
            )  # fmt: skip
        if not runs:
            return result.Live(store, task, asked)
        asked = asking.as_embedded(store, asked)
    with guard("The query"):
        if asked.position is None:
            asked = asking.taken(asked)
        key = (request, store.config["prompts"], task.task, *asked.key)
        sample = None if key in _held() else asking.sample(asked, store.config["prompts"], task.task)
        if not model_panel.may_load(request):
            st.info(
                f"{safe.words(request.short_name)} is not loaded by itself. "
                f"{safe.sentence(model_panel.estimate(request))} Press Load in the rail first."
            )
            return None
        query, preview = _held()[key] if sample is None else _embedded(store, request, sample, key)
        check_compatible(store, query)
    return result.Live(store, task, asked, query, preview)


def _embedded(store: Store, request: ModelRequest, sample: Sample, key: tuple) -> tuple[LiveQuery, str]:
    """One forward pass, kept in the session: masks and interventions need no second one."""
    held = _held()
    with model_panel.using(request, store) as backbone:
        query = embed_sample(backbone, sample, prompts=store.config["prompts"])
    if query.tokens.states.shape[0] == 0:
        raise BackboneError("The model gave no tokens for this query; give a picture or a text.")
    while len(held) >= HELD:
        held.pop(next(iter(held)))
    held[key] = (query, asking.preview(sample))
    asking.forget_pixels()
    return held[key]


def _held() -> dict[tuple, tuple[LiveQuery, str]]:
    """The session's last queries with their previews."""
    held: dict[tuple, tuple[LiveQuery, str]] = st.session_state.setdefault("_live_queries", {})
    return held


with guard():
    main()
