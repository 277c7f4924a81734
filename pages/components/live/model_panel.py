"""The model of the live page: which one, where it runs, how large it is, loaded or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import streamlit as st

from analysis.errors import AnalysisError
from analysis.models.devices import DTYPES, choose_device
from analysis.query.compatibility import check_request, request_for
from analysis.query.memory import device_memory, memory_need
from analysis.query.slot import LoadedModel, ModelRequest, short_name
from analysis.store import Store
from pages.components.server import people
from pages.components.shared import caching, gallery, safe, state
from pages.components.shared.errors import guard

AUTO_LOAD = 1_000_000_000  # bytes up to which a model is loaded as soon as a query needs it
DEVICES = ("auto", "cpu", "cuda", "mps")


def panel(store: Store) -> tuple[ModelRequest, Callable[[], None]]:
    """Model, device, number format behind one button; whether it is loaded, how large it is, Load or Unload.

    The store's own backbone, run as the store's was, unless another one is chosen. Returns the request, and what a page
    calls after a query, which may have loaded the model: the row then says so.
    """
    with st.popover("Model", icon=":material/memory:", help="Which model reads the query, where, in which numbers"):
        request = _chosen(store)
    holder = st.empty()
    shown = caching.model_slot().loaded  # another visitor may exchange it while this page is drawn: it is asked once

    def draw(loaded: LoadedModel | None) -> bool:
        with holder.container(gap="small"):
            return _state(request, loaded)

    def redraw() -> None:
        now = caching.model_slot().loaded
        if _is(now, request) != _is(shown, request):
            draw(now)

    if draw(shown):
        with guard("The model", stop=False), using(request, store):
            pass
        if _ready(request):
            st.rerun()
    return request, redraw


def _unload() -> None:
    people.check("model")
    caching.model_slot().unload()


def _state(request: ModelRequest, loaded: LoadedModel | None) -> bool:
    """Draws whether the model is loaded; True when Load was just pressed."""
    if loaded is not None and loaded.request == request:
        st.button("Unload", on_click=_unload, icon=":material/eject:", key="_live_unload")
        st.markdown(
            f":green-badge[:material/check_circle: loaded] :gray[{safe.words(loaded.label)}, {loaded.device}, {loaded.dtype}"
            f"{_card(loaded.device)}]"
        )
        return False
    pressed = st.button(
        "Load", icon=":material/memory:", help="Stays in memory until it is exchanged.", key="_live_load"
    )
    st.markdown(f":gray-badge[not loaded] :gray[{gallery.escape(estimate(request) + _other(loaded), 400)}]")
    return pressed


def _ready(request: ModelRequest) -> bool:
    return _is(caching.model_slot().loaded, request)


def _is(loaded: LoadedModel | None, request: ModelRequest) -> bool:
    return loaded is not None and loaded.request == request


def _chosen(store: Store) -> ModelRequest:
    own = request_for(store)
    offered, anything = caching.models_offered()
    name = state.get(state.MODEL) or own.name
    if name not in (own.name, *offered) and not anything:
        state.notice(
            f"The link asks for the model {state.shown(name)}, which this server does not offer; using "
            f"{own.short_name}. Its owner decides what else may be loaded ({caching.MODELS_VARIABLE})."
        )
        state.put(state.MODEL, None)
        name = own.name
    device = state.get(state.DEVICE) or "auto"
    if device not in ("auto", "cpu"):
        caching.deep_learning().join()
        try:
            choose_device(device)
        except AnalysisError as error:
            state.notice(f"{error} Using auto.")
            state.put(state.DEVICE, None)
            device = "auto"
    dtype = state.get(state.DTYPE) or "auto"
    if dtype not in ("auto", *DTYPES):
        state.notice(
            f"The link asks for the number format {state.shown(dtype)}, expected {', '.join(DTYPES)}; using auto."
        )
        dtype = "auto"
    _picker(
        "Model", state.MODEL, (own.name, *offered), name, own.name, 240, free=anything,
        help="A known key, a hub id or a local folder." if anything else "The models that made the stores of this server.",
    )  # fmt: skip
    _picker("Device", state.DEVICE, DEVICES, device, "auto", 120, "auto takes the best; cuda:1 names a second card.")
    _picker(
        "Numbers", state.DTYPE, ("auto", *DTYPES), dtype, "auto", 130, "float32 on a CPU, the model's own elsewhere."
    )
    request = replace(own, device=device, dtype=None if dtype == "auto" else dtype)
    return request if name == own.name else ModelRequest(name, device, request.dtype)


def estimate(request: ModelRequest) -> str:
    """What loading will take, in a sentence; also when that cannot be known."""
    try:
        return memory_need(request).sentence
    except AnalysisError as error:
        return str(error)


def may_load(request: ModelRequest) -> bool:
    """Whether a query may load this model by itself: it is there already, or small and nothing is to be downloaded."""
    if _ready(request):
        return True
    if not people.may("model"):
        return False
    try:
        need = memory_need(request)
    except AnalysisError:
        return True  # loading says what is wrong
    return need.needed is not None and need.needed <= AUTO_LOAD and not need.asks_hub


@contextmanager
def using(request: ModelRequest, store: Store) -> Iterator:
    """The loaded model for one piece of work on a store; what is waited for stands in a status line meanwhile. A model
    whose vectors cannot be compared with the store's is refused before its weights are read."""
    people.check("model")
    holder = st.empty()
    told: list[Any] = []

    def tell(sentence: str) -> None:
        if not told:
            told.append(holder.status(safe.sentence(sentence)))
        told[0].update(label=safe.sentence(sentence))

    try:
        if not _ready(request):
            tell("Importing torch and transformers ...")
            caching.deep_learning().join()
            tell("Reading the model's config ...")
            check_request(store, request)
        with caching.model_slot().use(request, tell=tell) as backbone:
            yield backbone
    finally:
        holder.empty()


def _picker(
    label: str, key: str, options: tuple[str, ...], value: str, default: str, width: int, help: str, free: bool = True
) -> None:
    widget = f"_live_{key}"
    st.session_state[widget] = value

    def changed() -> None:
        chosen = st.session_state[widget]
        state.put(key, None if chosen in (None, default) else str(chosen).strip())

    st.selectbox(
        label, tuple(dict.fromkeys((*options, value))), key=widget, on_change=changed, width=width, help=help,
        accept_new_options=free, format_func=short_name,
    )  # fmt: skip


def _card(device: str) -> str:
    memory = device_memory(device)
    return "" if memory is None else f", {memory[0] / 1e9:.1f} of {memory[1] / 1e9:.0f} GB in use on the card"


def _other(loaded: LoadedModel | None) -> str:
    return "" if loaded is None else f" {loaded.label} is in memory now and makes room for it."
