"""Two candidates of one query beside each other: what tells them apart, as a sentence, as pictures and as bars of concepts."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from analysis.figures.export import selected_ids
from analysis.figures.pairs import lead_waterfall, pair_attribution
from analysis.figures.style import percent, score
from analysis.retrieval.evaluation.change import Change, contenders, words_of
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.why import TIE, Explanation
from analysis.store import Store
from analysis.store.read import Task
from pages.components.shared import caching, concept_cards, downloads, gallery, method_builder, pins, state

_WORDS = {"change": "what changed", "before": "in the list before", "after": "in the list after"}


@dataclass(frozen=True)
class Pair:
    """What is explained, and how both candidates are called. removed: concepts that the method of the view takes away."""

    store: Store
    task: Task
    found: Explanation
    words: tuple[str, str]
    removed: frozenset[int] = frozenset()


def show(pair: Pair, *, name: str, command: str) -> None:
    """name: of the figure's files; command: prints the same numbers."""
    st.markdown(sentence(pair))
    _pictures(pair)
    found = pair.found
    ids = {*found.target.concept_ids.tolist(), *found.rival.concept_ids.tolist()}
    chart = pair_attribution(
        found.target,
        found.rival,
        names={i: caching.concept_name(pair.store, i) for i in ids},
        captions=pair.words,
        removed=pair.removed,
        data=pair.store.caption,
    )
    left, right = st.columns([5, 2], gap="medium")
    with left:
        event = downloads.figure(
            chart, name, command=command, select=("points",), pin=pins.Pin(sentence=sentence(pair))
        )
    with right:
        _concept(pair, selected_ids(event))


def side_in_view(changed: bool, *, targets: bool, key: str) -> str:
    """What is explained: "change", "before" or "after"; "" where nothing can be. changed: whether the lists may differ."""
    sides = [
        *(["change"] if changed else []),
        *(["before"] if targets else []),
        *(["after"] if changed and targets else []),
    ]
    if not sides:
        return ""
    wanted = (state.get(state.WHY) or "").partition("-")[0]
    st.session_state[key] = wanted if wanted in sides else sides[0]
    st.segmented_control(
        "Explain", sides, key=key, required=True, label_visibility="collapsed", format_func=_WORDS.__getitem__,
        on_change=lambda: state.put(state.WHY, st.session_state[key]),
    )  # fmt: skip
    return str(st.session_state[key])


def pair_in_view(comparison: Comparison, *, key: str) -> str:
    """Which two candidates of the change, where there is a choice."""
    pairs = list(contenders(comparison))
    wanted = (state.get(state.WHY) or "").partition("-")[2]
    st.session_state[key] = wanted if wanted in pairs else pairs[0]
    if len(pairs) > 1:
        titles = {pair: " against ".join(words_of(pair, comparison)) for pair in pairs}
        st.segmented_control(
            "Candidates", pairs, key=key, required=True, label_visibility="collapsed", format_func=titles.__getitem__,
            on_change=lambda: state.put(state.WHY, f"change-{st.session_state[key]}"),
        )  # fmt: skip
    return str(st.session_state[key])


def show_change(store: Store, task: Task, found: Change, removed: frozenset[int], *, name: str, command: str) -> None:
    """From before to after: in words, both candidates, and a bar for everything that moved the lead of one of them."""
    words = " ".join(found.sentences(lambda concept: concept_cards.title(store, concept)))
    st.markdown(words)
    _pictures(Pair(store, task, found.after, found.words))
    table = found.table()
    chart = lead_waterfall(
        table, names={int(i): caching.concept_name(store, int(i)) for i in table["concept"] if i >= 0}, rest=found.names,
        captions=found.words, removed=removed, data=store.caption,
    )  # fmt: skip
    event = downloads.figure(
        chart, name, command=command, select=("points",), table=lambda: _named(store, found),
        pin=pins.Pin(sentence=words),
    )  # fmt: skip
    clicked = [concept for concept in selected_ids(event) if concept >= 0]
    free = [int(concept) for concept in table["concept"] if concept >= 0 and int(concept) not in removed]
    if clicked or free:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            _look(
                store, clicked[0] if clicked else free[0], "Clicked:" if clicked else "Moves most of what is left in:"
            )


def _look(store: Store, concept: int, words: str) -> None:
    """One concept: its page, what it fires on, and the way to take just it away."""
    st.caption(words)
    state.page_link(
        "concept", concept_cards.title(store, concept), icon=":material/center_focus_strong:",
        store=caching.store_id(store), concept=concept,
    )  # fmt: skip
    _remove(concept)
    concept_cards.fires_on(store, concept, 4)


def _remove(concept: int) -> None:
    if st.button(
        "Remove just it", icon=":material/content_cut:", key=f"_why_remove_{concept}",
        help="The intervention becomes the removal of this one concept's direction.",
    ):  # fmt: skip
        method_builder.remove_only(concept)
        st.rerun()


def _named(store: Store, found: Change) -> pd.DataFrame:
    """Every part with its name, for the file."""
    table = found.table()
    table["name"] = [found.names.get(i) or caching.concept_name(store, i) for i in map(int, table["concept"])]
    return table


def sentence(pair: Pair) -> str:
    """Who is ahead, and which parts make most of the gap."""
    found = pair.found
    if found.tie:
        first, second = (_the(word) for word in pair.words)
        return f"**{first[0].upper()}{first[1:]} and {second} tie**: they differ by no more than rounding ({TIE:g})."
    ahead, behind = reversed(pair.words) if found.rival_wins else pair.words
    words = f"{_the(ahead)} is {score(abs(found.gap))} ahead of {_the(behind)}."
    gap = f"**{words[0].upper()}{words[1:]}**"
    reasons = [_reason(pair, part, share) for part, share in found.reasons()]
    if not reasons:
        return (
            f"{gap} What the SAE does not explain of it is {score(abs(found.beyond))}, no less than the gap itself: it is not "
            "split into concepts."
        )
    beyond = " The shares exceed the gap because other parts work against it." if _exceeds(found) else ""
    return f"{gap} Of that, {' and '.join(reasons)}.{beyond}"


def _reason(pair: Pair, part: int, share: float) -> str:
    if part < 0:
        words = pair.found.words[part]
        return f"{percent(share)} {'is' if words.startswith('not') else 'comes from'} {words}"
    gone = ", which this method removes" if part in pair.removed else ""
    return f"{percent(share)} comes from concept {concept_cards.title(pair.store, part)}{gone}"


def _the(word: str) -> str:
    """A candidate in a sentence: the target, number 3."""
    return word if word.startswith("number") else f"the {word}"


def _exceeds(found: Explanation) -> bool:
    return sum(share for _, share in found.reasons()) > 1.005


def _pictures(pair: Pair) -> None:
    """Both candidates, so that the bars below have faces; beside a caption the picture that it describes."""
    found, store = pair.found, pair.store
    for column, name, color, candidate, similarity in zip(
        st.columns(2, gap="medium"),
        pair.words,
        ("green", "orange"),
        (found.target_candidate, found.rival_candidate),
        (found.target.similarity, found.rival.similarity),
        strict=True,
    ):
        row = int(pair.task.candidate_rows[candidate])
        shown = caching.picture_of(store, row)
        with column, st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
            if shown >= 0:
                st.image(caching.picture(store, shown), width=64, alt=gallery.alt(store, shown))
            words = gallery.escape(caching.description(store, row), 140)
            st.markdown(f":{color}-badge[{name[0].upper()}{name[1:]}] {words}  \n:gray[cosine {score(similarity)}]")


def _concept(pair: Pair, clicked: list[int]) -> None:
    """The clicked concept, or the one that speaks most against the first candidate."""
    found, store = pair.found, pair.store
    concept = clicked[0] if clicked else found.loudest_against
    if concept is None:
        return
    first, second = pair.words
    st.caption("Clicked:" if clicked else f"Speaks most against {_the(first)}; click a bar for another:")
    given = [score(part.contribution[part.concept_ids == concept].sum()) for part in (found.target, found.rival)]
    state.page_link(
        "concept", concept_cards.title(store, concept), icon=":material/center_focus_strong:",
        store=caching.store_id(store), concept=concept,
    )  # fmt: skip
    st.caption(f"Gives {_the(first)} {given[0]}, {_the(second)} {given[1]}.")
    concept_cards.fires_on(store, concept, 4)
    _remove(concept)
