"""The widgets that narrow and order the list of concepts; all are bound to the URL."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.concepts.browse import ANY, DENSITIES, EFFECTS, NAMED, RELEVANCE, Filters
from pages.components.shared import scores, state

UNSCORED = ("id", "name")  # what sorts beside the scores
ORDERS = ["descending", "ascending"]
TOP_ENERGY = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0]
FREQUENCY = [0.0, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0, 100.0]
NO_SCORE = "any score"
DEFAULTS: dict[str, Any] = {
    state.MODALITY: (0.0, 1.0),
    state.ENERGY: 100.0,
    state.FREQUENCY: (0.0, 100.0),
    state.BY: NO_SCORE,
    state.PERCENTILE: (0, 100),
    state.ALIVE: True,
    state.NAMED: ANY,
    state.DENSITY: ANY,
    state.EFFECT: ANY,
    state.ONLY_COLLECTED: False,
    state.WORDS: "",
    state.PAGE: 1,
}


def words() -> str:
    return st.text_input(
        "Search", placeholder="words in names and captions", max_chars=100, width=250,
        icon=":material/search:", help="Whole words, singular or plural, in names, labels and captions; best first.",
        **state.placed(state.WORDS, "", then=_searched),
    )  # fmt: skip


def _searched() -> None:
    """What was found is sorted by how well it fits, until the visitor sorts otherwise. For callbacks."""
    found = bool(st.session_state[state.WORDS].strip())
    if found or st.session_state.get(state.SORT) == RELEVANCE:
        st.session_state[state.SORT] = RELEVANCE if found else next(iter(scores.by_label()))
    first_page()


def sorting(words: str) -> tuple[str, bool]:
    """(column to sort by, "id", "name", or "relevance" to the words; descending?)"""
    labels = scores.by_label()
    sorts = [*([RELEVANCE] if words.strip() else []), *labels, *UNSCORED]
    state.check_choice(state.SORT, sorts, default=sorts[0], what="a sorting by")
    state.check_choice(state.ORDER, ORDERS, default=ORDERS[0], what="an order")
    by = st.selectbox("Sort by", sorts, **state.bound(state.SORT), width=160, on_change=first_page)
    order = st.selectbox("Order", ORDERS, **state.bound(state.ORDER), width=132, on_change=first_page)
    return labels[by].name if by in labels else by, order == ORDERS[0]


def sort_by(column: str) -> None:
    """Sort by a column of the table; by the one that already sorts: the other way round. For callbacks."""
    by = scores.SCORES[column].label if column in scores.SCORES else column
    if by not in (*scores.by_label(), *UNSCORED):
        return
    again = st.session_state.get(state.SORT) == by and st.session_state.get(state.ORDER) == ORDERS[0]
    st.session_state[state.SORT] = by
    st.session_state[state.ORDER] = ORDERS[1] if again else ORDERS[0]
    first_page()


def filters(words: str) -> Filters:
    """Sliders for modality, loudness and how often a concept fires; dead or alive."""
    state.check_number(state.MODALITY, low=0, high=1, default=0, what="a modality score of")
    modality = st.slider(
        "Modality (0 image, 1 text)", 0.0, 1.0, DEFAULTS[state.MODALITY], 0.05, **state.bound(state.MODALITY),
        width=190, help=scores.SCORES["modality_score"].help, on_change=first_page,
    )  # fmt: skip
    energy = st.select_slider(
        "Loudest by energy (%)", TOP_ENERGY, 100.0, format_func=lambda value: f"{value:g}",
        **state.bound(state.ENERGY, "{:g}".format), width=180, help=scores.SCORES["energy"].help, on_change=first_page,
    )  # fmt: skip
    frequency = st.select_slider(
        "Fires on (% of samples)", FREQUENCY, DEFAULTS[state.FREQUENCY], format_func=lambda value: f"{value:g}",
        **state.bound(state.FREQUENCY, "{:g}".format), width=180, on_change=first_page,
    )  # fmt: skip
    by, percentile = _score_filter()
    alive = st.toggle("Hide never active", True, **state.bound(state.ALIVE), on_change=first_page)
    named, density, effect = (
        _choice(label, key, options, help)
        for label, key, options, help in (
            ("Belief", state.NAMED, NAMED, "Whether a word of the captions predicts, on samples that did not choose it, where "
             "the concept fires."),
            ("Density", state.DENSITY, DENSITIES, "constant: fires on more than 90 % of the pictures or captions; dense: on "
             "more than 30 %."),
            ("Effect", state.EFFECT, EFFECTS, "What removing the concept alone does to recall; measured by "
             "`.venv/bin/python -m analysis concept-effects STORE`."),
        )
    )  # fmt: skip
    return Filters(
        (modality[0], modality[1]), float(energy), (frequency[0], frequency[1]), alive, words.strip(), by, percentile,
        named, density, effect,
    )  # fmt: skip


def say(filters: Filters) -> None:
    """How many filters narrow the list, beside the button that holds them."""
    plain = Filters()
    fields = ("modality", "top_energy", "frequency", "alive", "score", "named", "density", "effect")
    active = sum(getattr(filters, name) != getattr(plain, name) for name in fields)
    if active:
        st.badge(f"{active} filter{'s' * (active > 1)} on", color="orange")
        st.button("Clear", key="_clear_filters", type="tertiary", icon=":material/filter_alt_off:", on_click=clear)


def _choice(label: str, key: str, options: tuple[str, ...], help: str) -> str:
    state.check_choice(key, options, default=ANY, what=f"a filter {label.lower()}")
    return st.selectbox(label, options, **state.bound(key), width=150, help=help, on_change=first_page)


def _score_filter() -> tuple[str, tuple[int, int]]:
    """(column or "", percentiles): the concepts between two percentiles of any score."""
    options = [NO_SCORE, *scores.by_label()]
    state.check_choice(state.BY, options, default=NO_SCORE, what="a filter by")
    by = st.selectbox("Filter by", options, **state.bound(state.BY), width=190, on_change=first_page)
    if by == NO_SCORE:
        return "", (0, 100)
    state.check_number(state.PERCENTILE, low=0, high=100, default=0, what="a percentile of")
    low, high = st.slider(
        f"Percentile by {by}", 0, 100, (0, 100), **state.bound(state.PERCENTILE), width=190,
        help=f"99 to 100: the hundredth of the concepts with the largest value. {scores.by_label()[by].help}",
        on_change=first_page,
    )  # fmt: skip
    return scores.by_label()[by].name, (low, high)


def score(label: str, key: str, default: str) -> scores.Score:
    """One of the scores, for a colour or a histogram. default: its label."""
    labels = scores.by_label()
    options = list(labels)
    state.check_choice(key, options, default=default, what="a score")
    return labels[st.selectbox(label, options, options.index(default), **state.bound(key), width=230)]


def first_page() -> None:
    """A changed list begins at its first page. For callbacks."""
    st.session_state[state.PAGE] = 1


def reset() -> None:
    """Every filter at its default, and no search. For callbacks."""
    clear()
    st.session_state[state.WORDS] = ""
    state.put(state.WORDS, None)


def clear() -> None:
    """Every filter at its default. For callbacks."""
    for key, value in DEFAULTS.items():
        if key != state.WORDS:
            st.session_state[key] = value
