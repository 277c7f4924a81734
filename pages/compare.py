"""Two stores or two concepts side by side: which concepts are twins, what only one side has, where a pair agrees."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from analysis.concepts import examples
from analysis.concepts.twins import TWINS, Shared, Twins
from analysis.errors import AnalysisError
from analysis.figures.style import percent
from analysis.store import Store
from analysis.store.finding import Part, table_part
from pages.components.concepts import belief
from pages.components.shared import (
    caching,
    commands,
    concept_cards,
    downloads,
    gallery,
    layout,
    pickers,
    pins,
    safe,
    scores,
    state,
)
from pages.components.shared.errors import guard

LISTS = ("twins", "only here", "only there")
ROWS, PICTURES, CAPTIONS, STRONGEST, STRONG = 100, 8, 5, 20, 6


def main() -> None:
    if (pair := st.session_state.pop("_open_pair", None)) is not None:
        state.put_together(dict(zip((state.CONCEPT, state.OTHER_CONCEPT), pair, strict=True)))
    layout.header(
        "compare",
        "Which concepts do two models share?",
        "Two models, SAEs or seeds on the same data: twins fire on the same samples. One store twice: two of its concepts.",
    )
    with layout.controls("compare") as row:
        store = pickers.store("Here")
        other = pickers.store("There", key=state.OTHER, beside=store)
        row.command = commands.twins(store, other)
        row.title = f"{store.label} beside {other.label}"
        same = caching.store_id(store) == caching.store_id(other)
        found = None if same else twins_of(store, other)
        first, second = chosen_pair(store, other, found)
    layout.stores_line([store] if same else [store, other])
    if found is not None:
        st.markdown(summary(store, other, found))
        with guard("The list", stop=False):
            listing(store, other, found)
    with guard("The two concepts", stop=False):
        pair_card(store, first, other, second)


def twins_of(store: Store, other: Store) -> Twins | None:
    """None, with a notice, where the two stores share no sample."""
    try:
        return caching.twins(store, other)
    except AnalysisError as error:
        state.notice(str(error))
        return None


def chosen_pair(store: Store, other: Store, found: Twins | None) -> tuple[int, int]:
    """The two concepts in the URL; by default the most alike, of one store its two loudest."""
    if found is None:
        loudest = np.argsort(-store.concepts["energy"].to_numpy(), kind="stable")[:2]
        default = int(loudest[0]), int(loudest[-1])
    else:
        default = (int(found.pairs[0, 0]), int(found.pairs[0, 1])) if len(found.pairs) else (0, 0)
    keys = ((state.CONCEPT, store, default[0], "here"), (state.OTHER_CONCEPT, other, default[1], "there"))
    values = []
    for key, whose, fallback, place in keys:
        value = state.get_int(
            key, low=0, high=whose.n_concepts - 1, default=fallback, what=f"concept of {whose.label},"
        )
        st.session_state[f"_compare_{key}"] = value
        st.number_input(
            f"Concept {place}", 0, whose.n_concepts - 1, key=f"_compare_{key}", width=120, on_change=_typed, args=(key,)
        )
        state.keep(key, value, default=fallback)
        values.append(value)
    return values[0], values[1]


def _typed(key: str) -> None:
    state.put(key, st.session_state[f"_compare_{key}"])


def summary(store: Store, other: Store, found: Twins) -> str:
    """How many concepts are twins, and how much of either side's energy has none."""
    names = caching.short_names([store, other])
    how = "one to one" if found.assigned else "by mutual choice"
    alone = [
        f"{percent(share)} of the energy of {name} lies in {len(ids):,} concepts without a twin"
        for share, name, ids in zip(found.unmatched, names, (found.here, found.there), strict=True)
    ]
    return (
        f"**{len(found.pairs):,} twins** ({how}, correlation of their activations at least {TWINS:g} over {found.samples:,} "
        f"shared samples), {caching.twins_by_chance(store, other):,} by chance (samples of one side shuffled within pictures "
        f"and captions); {'; '.join(alone)}."
    )


def listing(store: Store, other: Store, found: Twins) -> None:
    state.check_choice(state.LISTED, LISTS, default=LISTS[0], what="a list")
    listed = st.segmented_control(
        "List",
        LISTS,
        default=LISTS[0],
        required=True,
        **state.bound(state.LISTED),
        label_visibility="collapsed",
    )
    table, pairs = (
        twin_rows(store, other, found)
        if listed == LISTS[0]
        else alone_rows(*((store, found.here, 0) if listed == LISTS[1] else (other, found.there, 1)))
    )
    if not len(table):
        st.caption("None.")
        return
    key = f"compare_{caching.store_id(store)}_{caching.store_id(other)}_{listed}"
    st.dataframe(
        table, hide_index=True, key=key, row_height=56, height=min(56 * len(table), 450) + 40, selection_mode="single-cell",
        column_config={
            "here": st.column_config.ImageColumn("strongest pictures here", width=180),
            "there": st.column_config.ImageColumn("strongest pictures there", width=180),
            "correlation": st.column_config.NumberColumn("correlation", format="%.2f", width=90),
            "same": st.column_config.TextColumn("same strongest", width=110, help=f"Samples among the {STRONGEST} strongest of "
                                                "both, over the samples that both stores hold."),
            "energy": st.column_config.NumberColumn("energy", format="%.3g", width=90),
        },
        alt="Concepts of two stores", on_select=lambda: _picked(st.session_state[key]["selection"], pairs),
    )  # fmt: skip
    with st.container(horizontal=True):
        st.caption(
            "Click a row to see the two side by side." if listed == LISTS[0] else "Loudest first.", width="stretch"
        )
        downloads.save(
            f"{store.name}-{other.name}-{listed.replace(' ', '-')}",
            table=lambda: table.drop(columns=["here", "there"], errors="ignore"),
            command=commands.twins(store, other),
            pin=pins.Pin(
                title=f"{listed.capitalize()}: {store.label} beside {other.label}", sentence=summary(store, other, found),
                caption=f"{listed.capitalize()}, the first {len(table)}; here: {store.label}, there: {other.label}.",
            ),
        )  # fmt: skip


def _picked(selection: dict, pairs: list[tuple[int | None, int | None]]) -> None:
    if selection.get("cells"):
        st.session_state["_open_pair"] = pairs[selection["cells"][0][0]]


def twin_rows(store: Store, other: Store, found: Twins) -> tuple[pd.DataFrame, list]:
    pairs = [(int(here), int(there)) for here, there in found.pairs[:ROWS]]
    here, there = (np.asarray([pair[side] for pair in pairs], int) for side in (0, 1))
    table = pd.DataFrame(
        {
            "here": [concept_cards.strip(store, int(i), 52) or None for i in here],
            "concept here": here,
            "name here": concept_cards.names(store, here),
            "correlation": found.correlation[: len(pairs)],
            "same": [_overlap(store, other, *pair) for pair in pairs],
            "there": [concept_cards.strip(other, int(i), 52) or None for i in there],
            "concept there": there,
            "name there": concept_cards.names(other, there),
        }
    )
    return table, pairs


def alone_rows(whose: Store, ids: np.ndarray, side: int) -> tuple[pd.DataFrame, list]:
    ids = ids[:ROWS]
    table = pd.DataFrame(
        {
            "here" if side == 0 else "there": [concept_cards.strip(whose, int(i), 52) or None for i in ids],
            "concept": ids,
            "name": concept_cards.names(whose, ids),
            "energy": whose.concepts["energy"].to_numpy()[ids],
        }
    )
    pairs = [(int(i), None) if side == 0 else (None, int(i)) for i in ids]
    return table, [tuple(_kept(slot, value) for slot, value in enumerate(pair)) for pair in pairs]


def _kept(slot: int, value: int | None) -> int | None:
    """The concept, or of a side that was not picked what the address says."""
    known = state.get((state.CONCEPT, state.OTHER_CONCEPT)[slot])
    return value if value is not None else int(known) if known and known.isdecimal() else None


def _overlap(store: Store, other: Store, here: int, there: int) -> str:
    """How many of the strongest samples are the same."""
    tops = []
    for whose, concept, rows in zip((store, other), (here, there), caching.shared_rows(store, other), strict=True):
        fired = whose.postings.rows(concept)[0]
        place = np.full(whose.n_samples, -1)
        place[rows] = np.arange(len(rows))
        tops.append(place[fired][place[fired] >= 0][:STRONGEST])
    return f"{len(np.intersect1d(*tops))} of {min(map(len, tops))}"


def pair_card(store: Store, first: int, other: Store, second: int) -> None:
    """Two concepts: examples, belief, scores, and where both fire or only one does."""
    sides = ((store, first), (other, second))
    for column, (whose, concept) in zip(st.columns(2, gap="medium", border=True), sides, strict=True):
        with column:
            st.caption(safe.words(whose.label))
            state.page_link(
                "concept", concept_cards.title(whose, concept), icon=":material/center_focus_strong:",
                store=caching.store_id(whose), concept=concept,
            )  # fmt: skip
            row = whose.concepts.iloc[concept]
            if not pd.isna(row["word_f1"]):
                named = bool(str(row["name"] or ""))
                st.markdown(belief.sentence(row, named, caching.untrained_median(whose, "word_f1")))
            pictures, captions = concept_cards.firing(whose, concept)
            pictures = caching.distinct_pictures(whose, pictures, PICTURES)
            gallery.pictures(whose, pictures.rows, values=pictures.values, width=84)
            top = examples.distinct(captions, caching.corpus(whose).texts, CAPTIONS)
            gallery.texts(whose, top.rows, top.values)
    found = caching.side_by_side(store, first, other, second)
    both = places(store, first, other, second)
    rows = []
    for score in scores.at("concept"):
        values = [score.text(float(whose.concepts[score.name].iat[concept])) for whose, concept in sides]
        rows.append({"score": score.label, both[0]: values[0], both[1]: values[1], "what it says": score.sentence})
    table = pd.DataFrame(rows)
    says = agreement_of(store, first, other, second, found)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", wrap=False):
        st.markdown(says, width="stretch")
        pins.button("pair", pair_pin(sides, table, says))
    agreement(store, other, found, both)
    if caching.store_id(store) != caching.store_id(other):
        through_both(store, other, found)
    with st.expander("All scores of both"):
        st.table(table.set_index("score"), border="horizontal")


def pair_pin(sides: Sequence[tuple[Store, int]], table: pd.DataFrame, says: str) -> pins.Pin:
    """What a pin keeps of two concepts: the strongest samples of either, and their scores."""
    titles = [f"{concept_cards.title(whose, concept)} of {whose.label}" for whose, concept in sides]

    def parts() -> Sequence[Part]:
        from analysis.report.standard_deck import concept_gallery

        cards = (concept_gallery(whose, concept) for whose, concept in sides)
        plain = [f"{concept} {caching.concept_name(whose, concept)} of {whose.label}" for whose, concept in sides]
        named = zip(cards, plain, strict=True)
        shown = [dataclasses.replace(card, captions=(name, *card.captions)) for card, name in named]
        return (*shown, table_part(table.drop(columns="what it says")))

    return pins.Pin(
        parts, title=" beside ".join(titles), sentence=f"{' beside '.join(titles)}. {says}",
        caption="Strongest pictures and captions of each, and their scores.", command=commands.twins(*(s for s, _ in sides)),
    )  # fmt: skip


def agreement_of(store: Store, first: int, other: Store, second: int, found: Shared) -> str:
    """On how many samples both fire, and on how many only one does."""
    same = "" if np.isnan(found.correlation) else f", correlation **{found.correlation:.2f}**"
    cosine = _cosine(store, first, other, second)
    direction = "" if cosine is None else f", cosine of directions {cosine:.2f}"
    here, there = places(store, first, other, second)
    return (
        f"On the samples that both hold: both fire on **{len(found.both):,}**, only {here} on {len(found.only_here):,}, "
        f"only {there} on {len(found.only_there):,}{same}{direction}."
    )


def places(store: Store, first: int, other: Store, second: int) -> tuple[str, str]:
    """How the two sides are called: by their place, or two concepts of one store by their numbers."""
    one = caching.store_id(store) == caching.store_id(other) and first != second
    return (f"concept {first}", f"concept {second}") if one else ("the one here", "the one there")


def agreement(store: Store, other: Store, found: Shared, both: tuple[str, str]) -> None:
    """Samples on which both fire, and on which only one does."""
    rows = caching.shared_rows(store, other)[0]
    titles = ("Both fire", f"Only {both[0].removeprefix('the one ')}", f"Only {both[1].removeprefix('the one ')}")
    parts = (found.both, found.only_here, found.only_there)
    for column, title, part in zip(st.columns(3, gap="medium"), titles, parts, strict=True):
        with column:
            st.subheader(title, anchor=False)
            chosen = rows[part[:200]]
            kind = caching.corpus(store).kind[chosen]
            gallery.pictures(store, chosen[kind == examples.IMAGE][:6], width=84, empty="On no picture.")
            gallery.texts(store, chosen[kind == examples.TEXT][:3], empty="On no caption.")


def through_both(store: Store, other: Store, found: Shared) -> None:
    """One sample, by default the picture on which both fire most: its strongest concepts on either side."""
    rows = caching.shared_rows(store, other)
    places = found.both if len(found.both) else np.arange(len(rows[0]))
    pictures = places[caching.corpus(store).kind[rows[0][places]] == examples.IMAGE]
    default = int(rows[0][(pictures if len(pictures) else places)[0]])
    st.subheader("One sample through both", anchor=False)
    state.check_number(state.SAMPLE, low=0, high=store.n_samples - 1, default=default, what="a sample, row")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        row = int(
            st.number_input(
                "Sample (row of the store here)", 0, store.n_samples - 1, default, **state.bound(state.SAMPLE),
                width=230,
            )
        )  # fmt: skip
        if picture := caching.picture(store, row):
            st.image(picture, width=96, alt=gallery.alt(store, row))
        st.markdown(gallery.escape(caching.description(store, row), 300) or "A sample without words.")
    at = np.flatnonzero(rows[0] == row)
    if not len(at):
        st.caption(f"Sample {row} is not in both stores; choose one that is, for instance {default}.")
        return
    for column, whose, here in zip(
        st.columns(2, gap="medium"), (store, other), (row, int(rows[1][at[0]])), strict=True
    ):
        with column:
            st.caption(safe.words(whose.label))
            values, ids = np.asarray(whose.codes.values[here]), np.asarray(whose.codes.indices[here])
            for slot in np.argsort(-values, kind="stable")[:STRONG]:
                if values[slot] > 0:
                    concept_cards.row(whose, int(ids[slot]), f"activation {values[slot]:#.3g}")


def _cosine(store: Store, first: int, other: Store, second: int) -> float | None:
    """Cosine of two directions of one space; None for two backbones."""
    if store.backbone != other.backbone or store.width != other.width:
        return None
    return float(caching.sae(store).dictionary[first] @ caching.sae(other).dictionary[second])


with guard():
    main()
