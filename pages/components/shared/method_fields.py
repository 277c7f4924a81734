"""The settings of one step as widgets. Each kind of setting has one widget; which settings a step has it says itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from analysis.errors import AnalysisError
from analysis.retrieval.interventions import Offer, Setting, Step, parse
from pages.components.shared import caching, safe, state

if TYPE_CHECKING:
    from analysis.store import Store

Change = Callable[[str, Any], None]  # setting, new value
PICKED = 40  # concepts that can be picked by hand; an address holds some more
FACTORS = 6  # concepts whose factor has a field of its own; others are written as text
SLIDER = 20_000  # steps of a slider; beyond it a number is typed


def settings(store: Store, offer: Offer, step: Step, key: str, change: Change) -> None:
    """The widgets of one step, in a row. key: what their keys begin with."""
    for name, setting in step.shown(offer).items():
        _DRAW[setting.kind](store, setting, f"{key}_{name}", getattr(step, name), lambda v, n=name: change(n, v))


def _choice(store: Store, setting: Setting, key: str, value: str, then: Callable[[Any], None]) -> None:
    select(key, setting.label, tuple(setting.choices), value, setting.choices, then, setting.width, setting.help)


def _partner(store: Store, setting: Setting, key: str, value: str, then: Callable[[Any], None]) -> None:
    select(key, setting.label, tuple(setting.choices), value, {}, then, setting.width, setting.help)


def _flag(store: Store, setting: Setting, key: str, value: bool, then: Callable[[Any], None]) -> None:
    st.session_state[key] = value
    st.toggle(setting.label, key=key, on_change=lambda: then(st.session_state[key]), help=setting.help or None)


def _number(store: Store, setting: Setting, key: str, value: float | None, then: Callable[[Any], None]) -> None:
    """A slider over the values that are offered and the present one; over a short range of whole numbers; else a field."""
    scale = 100 if setting.percent else 1
    whole = setting.kind == "whole"

    def changed() -> None:
        found = st.session_state[key]
        if found is not None:
            then(int(found) if whole else round(found / scale, 12))

    common: dict[str, Any] = {"key": key, "on_change": changed, "help": setting.help or None, "width": setting.width}
    if setting.values and value is not None:
        shown = round(value * scale, 9)
        st.session_state[key] = shown
        options = sorted({*(round(v * scale, 9) for v in setting.values), shown})
        st.select_slider(setting.label, options, format_func=lambda option: f"{option:g}", **common)
    elif whole and setting.high - setting.low <= SLIDER:
        low, high = int(setting.low), int(setting.high)
        st.session_state[key] = high if value is None else min(max(int(value), low), high)
        st.slider(setting.label, low, high, **common)
    else:
        st.session_state[key] = None if value is None else (int(value) if whole else float(value))
        st.number_input(setting.label, step=1 if whole else None, format=None if whole else "%g", **common)


def _concepts(store: Store, setting: Setting, key: str, value: tuple[int, ...], then: Callable[[Any], None]) -> None:
    def ids(chosen: list[int | str]) -> None:
        found: list[int] = []
        for entry in chosen:
            try:
                found += [entry] if isinstance(entry, int) else map(int, entry.replace(",", " ").split())
            except ValueError:
                state.notice(f"{state.shown(str(entry))} is no concept; expected a number or a name from the list.")
                return
        then(tuple(dict.fromkeys(found)))

    picker(store, key, setting.label, value, ids, help=setting.help)


def _scales(
    store: Store, setting: Setting, key: str, value: tuple[tuple[int, float], ...], then: Callable[[Any], None]
) -> None:
    factors = dict(value)

    def chosen(entries: list[int | str]) -> None:
        """What is new is silenced, or gets the factor of a text such as 12=0, 99=2."""
        scales: dict[int, float] = {}
        try:
            for entry in entries:
                if isinstance(entry, int):
                    scales[entry] = factors.get(entry, 0.0)
                    continue
                parts = [part if "=" in part else f"{part}=0" for part in entry.replace(",", " ").split()]
                for step in parse("edit:" + ",".join(parts)).steps:
                    scales |= dict(getattr(step, "scales", ()))
            then(tuple(scales.items()))
        except AnalysisError as error:
            state.notice(str(error))

    def factor(concept: int, name: str) -> None:
        if st.session_state[name] is not None:
            then(tuple((factors | {concept: float(st.session_state[name])}).items()))

    picker(store, key, setting.label, tuple(factors), chosen, help=setting.help)
    for concept, scale in value[:FACTORS]:
        name = f"{key}_{concept}"
        st.session_state[name] = scale
        st.number_input(
            f"{concept} ×", key=name, step=0.5, format="%g", width=118, on_change=factor, args=(concept, name),
            help="0 silences the concept, 1 leaves it, 2 doubles it.",
        )  # fmt: skip


_DRAW: dict[str, Callable[..., None]] = {
    "choice": _choice, "number": _number, "whole": _number, "flag": _flag, "concepts": _concepts, "scales": _scales,
    "partner": _partner,
}  # fmt: skip


def select(
    key: str, label: str, options: Sequence[str], value: str, words: Any, then: Callable[[Any], None], width: int,
    help: str = "",
) -> None:  # fmt: skip
    """A selectbox whose value comes from the address, also one that is not among the options."""
    st.session_state[key] = value
    st.selectbox(
        label, tuple(dict.fromkeys((*options, value))), format_func=lambda option: words.get(option, str(option)), key=key,
        on_change=lambda: then(st.session_state[key]), width=width, help=help or None,
    )  # fmt: skip


def picker(
    store: Store, key: str, label: str, chosen: tuple[int, ...], then: Callable[[list[int | str]], None], *, help: str
) -> None:
    """A searchable list of the store's concepts by number and name, and those chosen, which a click takes away; what is typed
    and no entry comes as text."""
    ids, taken = range(store.n_concepts), set(chosen)
    names = caching.concept_names(store, ids)

    def title(concept: int | str) -> str:
        name = names[concept] if isinstance(concept, int) and concept < len(names) else ""
        return f"{concept} · {name}" if name else str(concept)

    new = f"{key}_new"

    def add() -> None:
        entry, st.session_state[new] = st.session_state[new], None
        if entry is None:
            return
        word = entry.strip().lower() if isinstance(entry, str) else None
        named = [] if word is None or word.isdigit() else [one for one in ids if word in names[one].lower()]
        if len(named) > 1:
            some = "; ".join(title(one) for one in named[:5])
            state.notice(
                f"{state.shown(entry)} is in the names of {len(named)} concepts, as in {some}; choose one of them."
            )
        else:
            then([*chosen, *(named or [entry])])

    st.selectbox(
        label, [one for one in ids if one not in taken], index=None, format_func=title, key=new, accept_new_options=True,
        help=help, width=380, disabled=len(chosen) >= PICKED, placeholder="Add by number or name", on_change=add,
    )  # fmt: skip
    if chosen:
        st.session_state[key] = list(chosen)
        st.pills(
            f"{label}, chosen", chosen, selection_mode="multi", format_func=lambda one: safe.words(title(one), 80), key=key,
            label_visibility="collapsed", on_change=lambda: then(st.session_state[key]),
        )  # fmt: skip
