"""One bridge: pictures of the image concept, captions of the text concept, the pairs on which they meet, and its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.concepts import examples
from analysis.concepts.bridges import Meeting
from analysis.figures.style import percent
from analysis.figures.style import score as digits
from analysis.store import Store
from analysis.store.finding import Part, table_part
from pages.components.shared import caching, commands, concept_cards, gallery, pins, state

PICTURES, CAPTIONS, SHARED, OTHERS = 8, 6, 6, 5
NUMBERS = {
    "coactivation": (
        "co-activation",
        "Mean over all pairs: activation on the picture times activation on the caption.",
    ),
    "cosine": ("cosine", "Of the two directions in the dictionary; 1 for a concept and itself."),
    "bridge": ("bridge B", "Co-activation times cosine (Eq. 5)."),
    "null_quantile": ("null", "What 99.9 % of permutations of the pictures stay below."),
    "excess": ("beyond the null", "Bridge minus null; not above 0: pairing by chance would give as much."),
}


def section(store: Store, image_concept: int, text_concept: int) -> None:
    found, image_rows, text_rows = caching.meeting(store, image_concept, text_concept)
    row = caching.bridge(store, image_concept, text_concept)
    says = sentence(found, same=image_concept == text_concept)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", wrap=False):
        st.subheader(f"Bridge {image_concept} → {text_concept}", anchor=False, width="stretch")
        pins.button("bridge", pin(store, image_concept, text_concept, row, says))
    st.markdown(says)
    for column, (name, (words, help)) in zip(st.columns(len(NUMBERS)), NUMBERS.items(), strict=True):
        column.metric(words, digits(float(row[name])), help=help)
    left, right = st.columns(2, gap="medium", border=True)
    with left:
        _head(store, image_concept, "On pictures")
        pictures = caching.distinct_pictures(store, concept_cards.firing(store, image_concept)[0], PICTURES)
        gallery.pictures(store, pictures.rows, values=pictures.values, width=84, empty="It fires on no picture.")
    with right:
        _head(store, text_concept, "On captions")
        captions = concept_cards.firing(store, text_concept)[1]
        top = examples.distinct(captions, caching.corpus(store).texts, CAPTIONS)
        gallery.texts(store, top.rows, top.values, empty="It fires on no caption.")
    st.subheader("Pairs on which they meet", anchor=False)
    shown = list(dict.fromkeys(int(row) for row in image_rows[:200]))[:SHARED]  # a picture has several captions
    first = {int(image): int(text) for image, text in zip(image_rows[199::-1], text_rows[199::-1], strict=True)}
    if not shown:
        st.caption("On none: the one fires on no picture whose caption the other fires on.")
    else:
        said = [str(caching.corpus(store).texts[first[row]])[:90] for row in shown]
        gallery.pictures(store, shown, captions=said, width=140)
    if image_concept != text_concept:
        state.page_link(
            "compare", "The two concepts side by side", icon=":material/compare:", store=caching.store_id(store),
            other=caching.store_id(store), concept=image_concept, other_concept=text_concept,
        )  # fmt: skip
    others(store, image_concept, text_concept)


def sentence(found: Meeting, *, same: bool) -> str:
    """How often they meet, beside how often the text concept fires anyway."""
    if not found.image:
        return "The image concept fires on no picture of these pairs."
    other = "it fires on the caption too" if same else "the other fires on the caption"
    return (
        f"Of the {found.image:,} pairs on whose picture the one fires, {other} on **{len(found.both):,}** "
        f"(**{percent(found.share)}**; over all {found.pairs:,} pairs it fires on {percent(found.usual)} of the captions)."
    )


def first_caption(store: Store, concept: int) -> str:
    """The strongest caption of a concept, "" without one."""
    rows = concept_cards.firing(store, concept)[1].rows
    return str(caching.corpus(store).texts[rows[0]]) if len(rows) else ""


def others(store: Store, image_concept: int, text_concept: int) -> None:
    """From either concept to its other partners, and back."""
    for column, concept, side, there in zip(
        st.columns(2, gap="medium"), (image_concept, text_concept), ("pictures", "captions"), ("captions", "pictures"),
        strict=True,
    ):  # fmt: skip
        with column:
            st.subheader(f"What else answers the {side} of {concept}", anchor=False)
            pairs = [
                (other, excess) for other, where, _, excess in caching.partners(store, concept)
                if where == there and other not in (image_concept, text_concept)
            ]  # fmt: skip
            for other, excess in pairs[:OTHERS]:
                pair = f"{concept},{other}" if side == "pictures" else f"{other},{concept}"
                concept_cards.row(
                    store, other, f"its {there} · beyond the null {excess:.3g}", place=f"bridge-{side}", pair=pair
                )
            if not pairs:
                st.caption("No other bridge exceeds the null.")
            state.view_button(
                f"All bridges of {concept}", place=f"of-{side}", icon=":material/conversion_path:", of=concept
            )  # fmt: skip


def pin(store: Store, image_concept: int, text_concept: int, row: pd.Series, says: str) -> pins.Pin:
    titles = [concept_cards.title(store, concept) for concept in (image_concept, text_concept)]

    def parts() -> Sequence[Part]:
        from analysis.report.standard_deck import concept_gallery

        numbers = pd.DataFrame([{words: float(row[name]) for name, (words, _) in NUMBERS.items()}])
        concepts = dict.fromkeys((image_concept, text_concept))
        return (*(concept_gallery(store, concept) for concept in concepts), table_part(numbers))

    title = f"Bridge from concept {titles[0]} to concept {titles[1]}"
    return pins.Pin(
        parts, title=title, sentence=f"{title}. {says}", caption="Strongest pictures and captions, and the bridge (Eq. 5).",
        command=commands.bridges(store, "bridge", of=image_concept), params={state.PAIR: f"{image_concept},{text_concept}"},
    )  # fmt: skip


def _head(store: Store, concept: int, where: str) -> None:
    concept_cards.modality(store, concept, before=where)
    state.page_link(
        "concept", concept_cards.title(store, concept), icon=":material/center_focus_strong:",
        store=caching.store_id(store), concept=concept,
    )  # fmt: skip
