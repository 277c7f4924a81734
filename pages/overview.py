"""The three findings of the paper on the chosen models, each with its picture and one computed sentence; model cards."""

from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.concepts.metrics import TEXT_FROM
from analysis.figures import overview as figures
from analysis.figures.palette import backbone_styles
from analysis.figures.recall import furthest, recall_bars
from analysis.figures.style import Curve
from analysis.report.published import published, published_note
from analysis.store import Store
from analysis.store.read import data_of
from pages.components.overview import behind, model_cards, sentences, verdicts
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

K_OF_SENTENCE = 10


def main() -> None:
    layout.header(
        "overview",
        "Why do generative giants retrieve badly?",
        "Multimodal LLMs describe pictures superbly and retrieve them badly. Three findings of the paper, measured here on the "
        "chosen models.",
    )
    with layout.controls("overview", title="Overview") as row:
        # the models in question first, then what was made of such a one to embed
        stores = sorted(pickers.stores(), key=lambda store: (store.contrastive, store.embedding_mllm))
        names = caching.short_names(stores)
        task = pickers.chosen_task(pickers.common_tasks(stores))
        row.command = "\n".join(commands.results(store, task) for store in stores if task) or commands.stores()
        row.title, row.facts = f"Overview: {', '.join(names)}", {"stores": names}
    layout.stores_line(stores)
    with guard("The summary", stop=False):
        headlines(stores, names, task)
    for part in (text_dominates, energy_is_concentrated, loud_concepts, distractors, cards):
        st.space("small")
        with guard("This section", stop=False):
            part(stores, names)


def headlines(stores: list[Store], names: list[str], task: str | None) -> None:
    """One number a finding for the first model, the others beside it."""
    found = caching.drawn_together(
        stores, ("headlines", task or "", *names),
        lambda: sentences.headlines(
            names,
            [caching.modality_shares(store) for store in stores],
            [figures.energy_readout(caching.cumulative_energy(store)[1]) for store in stores],
            [caching.results(store, task) if task else None for store in stores],
            K_OF_SENTENCE,
        ),
    )  # fmt: skip
    words = (_text_verdict(stores), _energy_verdict(stores), _removal_verdict(stores, task))
    for column, (label, value, others), verdict in zip(st.columns(len(found)), found, words, strict=True):
        with column.container(border=True, height="stretch"):
            st.metric(safe.words(label), value)
            st.badge(verdict.word, color=verdicts.COLORS[verdict.word], help=f"{verdict.why} Paper: {verdict.paper}")  # type: ignore[arg-type]
            # wraps on a narrow screen, where a metric's own second line is cut; a number keeps its sign of percent
            st.caption(safe.unbroken(safe.words(others)))


def text_dominates(stores: list[Store], names: list[str]) -> None:
    words, picture = _section("1", "Does text dominate?")
    with words:
        st.markdown(
            safe.unbroken(
                sentences.text_sentence(safe.every(names), [caching.modality_shares(store) for store in stores])
            )
        )
        sentence = sentences.text_sentence(names, [caching.modality_shares(store) for store in stores])
        st.caption(f"{scores.SCORES['modality_score'].help} Text: from {TEXT_FROM:g} on.")
        state.check_choice(state.WEIGHTING, ["concepts", "energy"], default="concepts", what="a weighting")
        weighting = st.segmented_control(
            "Weighted by", ["concepts", "energy"], default="concepts", required=True, **state.bound(state.WEIGHTING),
            help="concepts: every live concept counts once; energy: by how loud it is.",
        )  # fmt: skip
        left_out = []
        for store, name in zip(stores, names, strict=True):
            shares = caching.modality_shares(store)
            titles = [concept_cards.title(store, concept) for concept, _, _ in shares.outstanding]
            left_out.append(sentences.left_out(safe.words(name), shares, titles))
        st.caption(" ".join(filter(None, left_out)))
        st.markdown(safe.unbroken(_text_verdict(stores).line))
    with picture:

        def draw() -> go.Figure:
            curves = [
                Curve(name, *caching.modality_density(store, weighting), style)
                for store, name, style in zip(stores, names, backbone_styles(names), strict=True)
            ]
            return figures.modality_kde(curves, weighting=weighting, data=data_of(stores))

        chart = caching.drawn_together(stores, ("modality", weighting, *names), draw)
        command = "\n".join(commands.modality_density(store, weighting) for store in stores)
        pin = pins.Pin(sentence=sentence, measure=pins.measure("modality", stores, **{"from": TEXT_FROM}))
        downloads.figure(chart, "modality-scores", command=command, pin=pin)


def energy_is_concentrated(stores: list[Store], names: list[str]) -> None:
    words, picture = _section("2", "Is energy concentrated?")
    shares = [caching.cumulative_energy(store) for store in stores]
    curves = [Curve(n, *share, style) for n, share, style in zip(names, shares, backbone_styles(names), strict=True)]
    with words:
        readouts = [figures.energy_readout(curve.y) for curve in curves]
        st.markdown(
            safe.unbroken(
                sentences.energy_sentence(safe.every(names), readouts, [store.n_concepts for store in stores])
            )
        )
        sentence = sentences.energy_sentence(names, readouts, [store.n_concepts for store in stores])
        st.caption(scores.SCORES["energy"].help)
        st.markdown(safe.unbroken(_energy_verdict(stores).line))
        relative = st.toggle("Number of concepts as a share of the dictionary", **state.bound(state.RELATIVE))
    with picture:
        draw = partial(figures.cumulative_energy, curves, relative=relative, data=data_of(stores))
        chart = caching.drawn_together(stores, ("energy", relative, *names), draw)
        command = "\n".join(commands.cumulative_energy(store) for store in stores)
        downloads.figure(
            chart, "cumulative-energy", command=command, table=lambda: figures.energy_table(curves),
            pin=pins.Pin(sentence=sentence, measure=pins.measure("energy", stores)),
        )  # fmt: skip


def loud_concepts(stores: list[Store], names: list[str]) -> None:
    """Jaccard table: measured rows, and the paper's, which are another thing and stand apart."""
    words, tables = _section("", "Are the loudest concepts those that bridge and decide?")
    with words:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            share = pickers.share()
            reduction = pickers.reduction()
        overlaps = [caching.overlap(store, share, scores.REDUCTIONS[reduction]) for store in stores]
        st.markdown(safe.unbroken(sentences.overlap_sentence(safe.every(names), overlaps, share)))
        sentence = sentences.overlap_sentence(names, overlaps, share)
        st.caption("J: intersection by union of the top sets (Eq. 7); E energy, A attribution, B bridge.")
        st.markdown(safe.unbroken(_overlap_verdict(stores, share, reduction).line))
    measured = [
        {"model": name, "share": f"{100 * share:g} %", "reduction": reduction, **found}
        for name, found in zip(names, overlaps, strict=True)
    ]
    with tables:
        key = ("jaccard", f"{share}", reduction, *names)
        both = caching.drawn_together(stores, key, lambda: figures.jaccard_table(measured, published("table1")))
        st.markdown("**Measured here**")
        cell = _numbers(both.measured, select="overview_jaccard")
        with st.container(horizontal=True, vertical_alignment="center", wrap=False):
            st.caption(
                f"{safe.words(data_of(stores), 1200)}. Top {100 * share:g} % of all K concepts.", width="stretch"
            )
            command = "\n".join(commands.overlap(store, share, scores.REDUCTIONS[reduction]) for store in stores)
            pin = pins.Pin(
                sentence=sentence, caption=f"Jaccard overlap (Eq. 7) of the top {100 * share:g} % of all K concepts.",
                measure=pins.measure("overlap", stores, share=share, reduction=reduction),
            )  # fmt: skip
            downloads.save("jaccard", table=lambda: both.measured, command=command, pin=pin)
        behind.section(stores, names, cell, share, reduction)
        with st.expander("Published: what the paper prints for its six models (Table 1)", expanded=True):
            _numbers(both.published)
            st.caption(gallery.escape(published_note("table1"), 600))


def distractors(stores: list[Store], names: list[str]) -> None:
    words, picture = _section("3", "Do the loudest concepts distract?")
    tasks = pickers.common_tasks(stores)
    with words:
        if not tasks:
            st.caption("None of these stores holds a retrieval task; build one with `--tasks`.")
            return
        task = pickers.task_of(tasks)
        everything = st.toggle("All methods", **state.bound(state.EVERY_METHOD))
        found = {
            name: table
            for s, name in zip(stores, names, strict=True)
            if (table := caching.results(s, task)) is not None
        }
        said = caching.drawn_together(
            stores, ("removal", task, *names),
            lambda: sentences.removal_sentence(safe.every(found), list(found.values()), K_OF_SENTENCE),
        )  # fmt: skip
        st.markdown(safe.unbroken(said))
        st.markdown(safe.unbroken(_removal_verdict(stores, task).line))
        st.caption("Share of queries with a target among the first k, as measured when the store was built (Eq. 8-10).")
        for name in (name for name in names if name not in found):
            st.caption(f"{safe.words(name)} has no results for {task}.")
    with picture:
        frames = {name: table if everything else sentences.main_methods(table) for name, table in found.items()}
        reach = furthest(list(frames.values())) if frames else {}  # one axis for all models
        for store, name in zip(stores, names, strict=True):
            if name in found:
                st.markdown(f"**{gallery.escape(name)}**")
                shown = frames[name]
                chart = caching.drawn(
                    store, ("results", task, everything, str(reach)),
                    partial(recall_bars, shown, data=f"{task}, {store.caption}", reach=reach),
                )  # fmt: skip
                methods = [str(method) for method in shown["method"].unique()]
                pin = pins.Pin(
                    stores=[store],
                    sentence=caching.drawn(
                        store, ("removal", task, everything, name),
                        partial(sentences.removal_sentence, [name], [shown], K_OF_SENTENCE),
                    ),
                    measure=pins.measure("results", [store], task=task, k=K_OF_SENTENCE, methods=methods),
                )  # fmt: skip
                downloads.figure(chart, f"recall-{name}-{task}", command=commands.results(store, task), pin=pin)
        if found:
            state.page_link(
                "retrieval_lab", "Other interventions, curves and single queries in the Retrieval lab",
                icon=":material/science:", store=caching.store_id(stores[0]), task=task,
            )  # fmt: skip


def _of_the_papers_kinds(stores: list[Store]) -> list[Store]:
    """Those that the paper speaks of. A multimodal LLM that was trained to embed is none: it would speak for either side."""
    return [store for store in stores if not store.embedding_mllm]


def _text_verdict(stores: list[Store]) -> verdicts.Verdict:
    asked = _of_the_papers_kinds(stores)
    return verdicts.text_verdict([caching.modality_shares(one) for one in asked], [one.contrastive for one in asked])


def _energy_verdict(stores: list[Store]) -> verdicts.Verdict:
    asked = _of_the_papers_kinds(stores)
    readouts = [figures.energy_readout(caching.cumulative_energy(one)[1]) for one in asked]
    return verdicts.energy_verdict(readouts, [one.n_concepts for one in asked])


def _overlap_verdict(stores: list[Store], share: float, reduction: str) -> verdicts.Verdict:
    asked = _of_the_papers_kinds(stores)
    return caching.drawn_together(
        stores, ("overlaps", f"{share}", reduction),
        lambda: verdicts.overlap_verdict(
            [caching.overlap(one, share, scores.REDUCTIONS[reduction]) for one in asked],
            [one.contrastive for one in asked], [one.n_concepts for one in asked], share, published("table1"),
        ),
    )  # fmt: skip


def _removal_verdict(stores: list[Store], task: str | None) -> verdicts.Verdict:
    asked = _of_the_papers_kinds(stores)
    tables = [caching.results(one, task) if task else None for one in asked]
    return caching.drawn_together(
        stores, ("verdict", task or ""),
        lambda: verdicts.removal_verdict(tables, [one.contrastive for one in asked], K_OF_SENTENCE, published("table2")),
    )  # fmt: skip


def cards(stores: list[Store], names: list[str]) -> None:
    st.subheader("The models", anchor=False)
    with st.grid(min(3, max(2, len(stores))), min_column_width=300, border=True):
        for store, name in zip(stores, names, strict=True):
            with st.container():
                model_cards.card(store, name)


def _section(number: str, heading: str) -> tuple[st.delta_generator.DeltaGenerator, st.delta_generator.DeltaGenerator]:
    words, picture = st.columns([2, 3], gap="medium")
    with words:
        st.subheader(f"{number}  {heading}" if number else heading, anchor=False)
    return words, picture


def _numbers(table: pd.DataFrame, select: str = "") -> tuple[int, str] | None:
    """The table; with `select` (its key) a cell can be picked, (row, column) then."""
    formats = {name: st.column_config.NumberColumn(name, format="%.3f") for name in figures.OVERLAPS.values()}
    look: dict[str, Any] = {"hide_index": True, "column_config": formats, "height": "content"}
    look["alt"] = "Jaccard overlaps of the top sets"
    if not select:
        st.dataframe(table, **look)
        return None
    event: Any = st.dataframe(table, key=select, on_select="rerun", selection_mode="single-cell", **look)
    cells = event["selection"]["cells"]
    return (int(cells[0][0]), str(cells[0][1])) if cells and cells[0][0] < len(table) else None


with guard():
    main()
