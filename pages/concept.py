"""One concept: what it fires on, what it scores, what is near it, and what retrieval does without it."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.concepts import examples
from analysis.figures.concepts import concept_histogram
from analysis.figures.style import percent
from analysis.store import Store
from analysis.store.finding import Part, table_part
from pages.components.concepts import belief, collecting, effect, label_editor, token_views
from pages.components.shared import (
    caching,
    commands,
    concept_cards,
    downloads,
    gallery,
    layout,
    pickers,
    pins,
    scores,
    state,
)
from pages.components.shared.errors import guard

PICTURES, CAPTIONS, BIN = 12, 10, 6
RELATIVES = 6  # of the kind in view; a row takes 6 ms, its pictures half of that
SCORES, STRENGTH, TOKENS = "Scores", "By strength", "Where it fires"
BY_DIRECTION = "By direction"
ALIKE, REMOVED = "More like this", "Retrieval without it"
Sections = dict[str, Callable[..., None]]  # name of a tab -> what it shows of (store, concept)
BELIEF_HELP = (
    "The words of the captions are searched on one half of the pairs and tested on the other, both ways; a name is shown only "
    "where it holds there. The untrained SAE has the same size and the same start and saw no training: the median of its "
    "concepts."
)

SECOND_HELP = (
    "soft-WPMI of CLIP-Dissect: which word of the captions a contrastive model of the same data finds on the strongest samples "
    "of the concept and on few others. A word is the mean of the captions with it, from pairs that are not asked about."
)

LABEL_HELP = (
    "Which of its words, or all together, is chosen on one half of the pairs, the half that `name --model` shows to a model, "
    "and tested on the other."
)
TRUTH_HELP = (
    "The generator of these pictures knows objects, numbers, grounds and layouts. The attribute is chosen on one half of the "
    "scenes and tested on the other, both ways, as the name is; of the untrained SAE the median."
)


def main() -> None:
    heading = st.container()
    with layout.controls("concept") as row:
        if not any(ref.ok for ref in caching.stores()):
            with heading:
                layout.header("concept", "What does a concept stand for?")
        store = pickers.store()
        concept = pickers.concept(store)
        pickers.concept_jump(store, concept)
        label_editor.popover(store, concept)
        collecting.button(store, concept)
        pickers.chosen_task(list(store.tasks), whose=store.label)
        row.command = commands.concept_row(store, concept)
        row.title = f"Concept {concept_cards.title(store, concept)} of {store.label}"
        row.facts = {"concept": concept, "energy": float(store.concepts["energy"].iat[concept])}
        name = gallery.escape(caching.concept_name(store, concept), 60)
        asks = f"What does concept {concept}{f', “{name}”,' if name else ''} stand for?"
        with heading:
            layout.header("concept", asks, tab=row.title)
    layout.store_line(store)

    known = caching.corpus(store)
    pictures, captions = examples.split(*store.postings.rows(concept), known.kind)
    if not len(pictures) and not len(captions):
        st.info(
            f"Concept {concept} never fires on this data: it is one of the dead concepts of the dictionary. "
            "Its neighbours by direction stand below.",
            icon=":material/bedtime:",
        )
    else:
        said = summary(store, concept, pictures, captions)
        strongest(store, concept, pictures, captions, said)
    found = sections(store, concept, pictures, captions)
    if asked := asked_for():
        state.imply(state.SECTION, asked)
    in_tabs(found, state.SECTION, asked, store, concept)


def sections(store: Store, concept: int, pictures: examples.Firing, captions: examples.Firing) -> Sections:
    """What there is to say beyond the strongest samples, one section at a time: a new concept draws one of them."""
    found: Sections = {}
    if len(pictures) or len(captions):
        found[SCORES] = score_tables
        found[STRENGTH] = partial(strengths, pictures=pictures, captions=captions)
        if len(store.token_rows):
            found[TOKENS] = token_views.section
    return {**found, ALIKE: relatives, REMOVED: effect.section}


def asked_for() -> str:
    """The section that a link without one means, by what else it says; "" where it says nothing."""
    if state.address(state.TOKEN):
        return TOKENS
    if state.address(state.LIKE) not in (None, BY_DIRECTION):
        return ALIKE
    return REMOVED if state.address(state.SHOW) == "true" else ""


def in_tabs(found: Sections, parameter: str, default: str, store: Store, concept: int) -> None:
    """Only the section in view is drawn."""
    names = list(found)
    placed = state.placed(parameter, default if default in found else names[0], names)
    for tab, (name, draw) in zip(st.tabs(names, **placed), found.items(), strict=True):
        if tab.open:
            with tab, guard(f"“{name}”", stop=False):
                draw(store, concept)


def summary(store: Store, concept: int, pictures: examples.Firing, captions: examples.Firing) -> str:
    """In one line: modality, how often it fires, and whether both sides of a pair agree. Returns what it says first."""
    known, row = caching.corpus(store), store.concepts.iloc[concept]
    words, color = scores.modality_words(float(row["modality_score"]))
    top = pictures.rows[: examples.PAIRED_TOP]
    on_captions = examples.paired_share(top, captions.rows, known.pair_id, known.pair_texts)
    top_captions = captions.rows[: examples.PAIRED_TOP]
    on_pictures = examples.paired_share(top_captions, pictures.rows, known.pair_id, known.pair_images)
    parts = [
        f":{color}-badge[{words}] fires on **{percent(row['frequency_image'])}** of {known.n_images:,} pictures and "
        f"**{percent(row['frequency_text'])}** of {known.n_texts:,} captions"
    ]
    for share, what in (
        (on_captions, "captions of its top pictures"),
        (on_pictures, "pictures of its top captions"),
    ):
        if not math.isnan(share):
            parts.append(f"on **{100 * share:.0f} %** of the {what}")
    for flag in belief.flags(row):
        parts[0] += f" :orange-badge[{flag}]"
    st.markdown(
        " · ".join(parts),
        help=f"Paired check: the {examples.PAIRED_TOP} strongest pictures (captions), and whether the concept fires on the "
        f"other side of the same pairs. {belief.FLAG_HELP}",
    )
    named = bool(str(row["name"] or ""))
    if not (store.older and pd.isna(row["word_f1"])):
        st.markdown(belief.sentence(row, named, caching.untrained_median(store, "word_f1")), help=BELIEF_HELP)
    if second := belief.second_sentence(row, caching.untrained_median(store, "word_second")):
        st.markdown(second, help=SECOND_HELP)
    with guard("What else is known of it", stop=False):
        beyond_words(store, concept)
    return parts[0].partition("] ")[2]


def beyond_words(store: Store, concept: int) -> None:
    """What a label that somebody gave predicts, and what the ground truth of the data and a second SAE say of the concept,
    where there are any."""
    if (label := caching.labels(store).get(concept)) is not None:
        f1 = caching.label_f1(store, concept, label.text)
        st.markdown(belief.label_sentence(label.text, label.author, f1), help=LABEL_HELP)
    if (known := caching.truth(store)) is not None:
        word = int(known.held.word[concept])
        attribute = str(known.attributes[word]) if word >= 0 else ""
        st.markdown(belief.true_sentence(attribute, float(known.held.f1[concept]), known.untrained), help=TRUTH_HELP)
    if (other := caching.second_sae(store)) is not None:
        match, correlation = caching.in_second_sae(store, concept, other)
        whose = gallery.escape(caching.short_names([store, other])[1])
        st.markdown(belief.stable_sentence(match, correlation, whose))
        if match >= 0:
            state.page_link(
                "compare", "Side by side with it", icon=":material/compare:", store=caching.store_id(store),
                other=caching.store_id(other), concept=concept, other_concept=match,
            )  # fmt: skip


def strongest(store: Store, concept: int, pictures: examples.Firing, captions: examples.Firing, said: str) -> None:
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.subheader("Strongest pictures", anchor=False)
        top = caching.distinct_pictures(store, pictures, PICTURES)
        gallery.pictures(store, top.rows, values=top.values, width=100, empty="It fires on no picture.")
    with right:
        st.subheader("Strongest captions", anchor=False)
        top = examples.distinct(captions, caching.corpus(store).texts, CAPTIONS)
        gallery.texts(store, top.rows, top.values, empty="It fires on no caption.")
        pins.button(f"concept-{concept}", card(store, concept, said))


def card(store: Store, concept: int, said: str) -> pins.Pin:
    """The concept as a finding: its faces, and the scores that tell most."""

    def parts() -> tuple[Part, ...]:
        from analysis.report.standard_deck import concept_gallery

        shown = score_table(store, concept, scores.at("concept"))[["score", "value", "rank"]].head(6)
        return concept_gallery(store, concept), table_part(shown)

    return pins.Pin(
        parts, title=f"Concept {concept_cards.title(store, concept)}",
        sentence=f"Concept {concept_cards.title(store, concept)} {said}", command=commands.concept_examples(store, concept),
        caption="Strongest pictures and captions.", measure=pins.measure("concept", [store], concept=concept),
    )  # fmt: skip


def score_tables(store: Store, concept: int) -> None:
    """Every score beside its control: first what it fires on, then whether to believe it and what it does."""
    measure = pins.measure("concept", [store], concept=concept)
    whose = concept_cards.title(store, concept)
    plain = [score for score in scores.at("concept") if not score.control and not score.name.startswith("effect")]
    judged = [score for score in scores.at("concept") if score not in plain]
    st.subheader("What it fires on", anchor=False)
    table_of_scores(store, concept, plain, "scores", f"Scores of concept {whose}", measure)
    st.subheader("May it be believed, and what does it do?", anchor=False)
    table_of_scores(store, concept, judged, "belief", f"Belief in concept {whose}, and its effect", measure)


def table_of_scores(
    store: Store, concept: int, shown: Sequence[scores.Score], name: str, title: str, measure: dict[str, Any]
) -> None:
    """Some scores as a table that can be pinned."""
    found = caching.drawn(store, (name, concept), lambda: score_table(store, concept, shown))
    st.table(found.set_index("score"), border="horizontal")
    part = pins.table(
        lambda: found.drop(columns="what it says"), pins.Pin(sentence=title, measure=measure),
        command=commands.concept_row(store, concept),
    )  # fmt: skip
    pins.button(f"{name}-{concept}", part)


def score_table(store: Store, concept: int, shown: Sequence[scores.Score]) -> pd.DataFrame:
    """Score, value, that of the untrained SAE, rank among all concepts, equation, and one line of explanation; columns
    without any entry are left out."""
    row, ranks, controls = store.concepts.iloc[concept], caching.ranks(store), caching.untrained_medians(store)
    records = []
    for score in shown:
        value, rank = float(row[score.name]), int(ranks[score.name][concept])
        records.append(
            {
                "score": score.label,
                "value": score.text(value),
                "untrained SAE": score.text(controls[score.name]) if score.name in controls else "",
                "rank": ""
                if score.notable == "both" or not rank
                else f"{rank:,} of {store.n_concepts:,}".replace(" ", "\N{NO-BREAK SPACE}"),
                "paper": score.equation,
                "what it says": score.sentence,
            }
        )
    table = pd.DataFrame(records)
    return table.drop(columns=[name for name in ("untrained SAE", "paper") if not table[name].any()])


def strengths(store: Store, concept: int, *, pictures: examples.Firing, captions: examples.Firing) -> None:
    """How strongly it fires, and samples at lower strengths: what the concept means where it is not at its strongest."""
    histogram(store, concept, pictures, captions)
    parts = [(f"{100 * quantile:.0f} % quantile", quantile) for quantile in examples.QUANTILES] + [("at random", None)]
    for column, (words, quantile) in zip(st.columns(len(parts), gap="medium"), parts, strict=True):
        with column:
            st.caption(f"**{words}** of the non-zero activations" if quantile else f"**{words}** among all that fire")
            chosen = [
                examples.around(side, quantile, count) if quantile else examples.at_random(side, count, concept)
                for side, count in ((pictures, BIN), (captions, 3))
            ]
            gallery.pictures(store, chosen[0].rows, values=chosen[0].values, width=76, empty="no picture")
            gallery.texts(store, chosen[1].rows, chosen[1].values, empty="no caption")


def histogram(store: Store, concept: int, pictures: examples.Firing, captions: examples.Firing) -> None:
    """Its activations by modality, with the share that fires at all."""
    known = caching.corpus(store)

    def draw() -> go.Figure:
        return concept_histogram(
            pictures.values,
            captions.values,
            n_image=known.n_images,
            n_text=known.n_texts,
            data=store.caption,
            height=300,
        )

    title = f"How strongly concept {concept_cards.title(store, concept)} fires"
    pin = pins.Pin(sentence=title, measure=pins.measure("concept", [store], concept=concept))
    downloads.figure(
        caching.drawn(store, ("histogram", concept), draw), f"{store.name}-concept-{concept}",
        command=commands.concept_examples(store, concept), pin=pin,
    )  # fmt: skip


def relatives(store: Store, concept: int) -> None:
    """Other concepts, one kind at a time: nearest directions, bridge partners, and what fires on the same samples."""
    kinds: Sections = {
        BY_DIRECTION: by_direction, "Bridge partners": bridge_partners,
        "On the same pictures": partial(firing_together, kind=examples.IMAGE, side="pictures"),
        "On the same captions": partial(firing_together, kind=examples.TEXT, side="captions"),
    }  # fmt: skip
    in_tabs(kinds, state.LIKE, "", store, concept)
    state.page_link(
        "bridges", "All its bridges, and the pairs behind them", icon=":material/conversion_path:",
        store=caching.store_id(store), of=concept,
    )  # fmt: skip


def by_direction(store: Store, concept: int) -> None:
    st.caption("Nearest live directions in the dictionary, by cosine")
    near = caching.near(store, concept, RELATIVES)
    cosines = caching.cosines(store, concept, near)
    related(
        store,
        [
            (other, f"cosine {cosine:.2f}" if cosine is not None else "", "neighbour")
            for other, cosine in zip(near, cosines, strict=True)
        ],
    )
    state.page_link(
        "compare", "Side by side with the nearest", icon=":material/compare:", store=caching.store_id(store),
        other=caching.store_id(store), concept=concept, other_concept=near[0] if near else concept,
    )  # fmt: skip


def bridge_partners(store: Store, concept: int) -> None:
    st.caption("Concepts of the other side of the same pairs (Eq. 5), by their excess over the permutation null")
    found = [
        (other, f"on the {side} · bridge {bridge:.3g}, excess {excess:.3g}", f"partner-{side}")
        for other, side, bridge, excess in caching.partners(store, concept)[:RELATIVES]
    ]
    related(store, found)
    if not found:
        st.caption("No bridge from it to another concept exceeds the null.")


def firing_together(store: Store, concept: int, *, kind: int, side: str) -> None:
    st.caption(f"Cosine of the activations over all {side}; 1: on the same ones, equally strongly")
    found = caching.firing_together(store, concept, kind, RELATIVES)
    related(store, [(other, f"co-activation {cosine:.2f}", f"together-{side}") for other, cosine in found])
    if not found:
        st.caption(f"It fires on no {side[:-1]} together with another concept.")


def related(store: Store, found: Sequence[tuple[int, str, str]]) -> None:
    """Concepts with a number that says why they stand here, and their place, in two columns: the first half left."""
    half = -(-len(found) // 2)
    for column, part in zip(st.columns(2, gap="medium"), (found[:half], found[half:]), strict=True):
        with column:
            for other, note, place in part:
                concept_cards.row(store, other, note, place=place)


with guard():
    main()
