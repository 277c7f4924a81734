"""The masks of the paper's Figure 4 on one task: each side, all chosen models overlaid."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.errors import AnalysisError
from analysis.figures.recall import masked_recall
from analysis.figures.style import interval, percent, points
from analysis.report.published import statements
from analysis.retrieval.evaluation.masking import MASKS, NOT_STORED, masked_methods
from analysis.retrieval.interventions import BASE
from analysis.retrieval.interventions.pool import VARIANT_LABELS
from analysis.store import Store
from analysis.store.read import data_of
from pages.components.lab.lab_view import LabView
from pages.components.shared import caching, commands, downloads, gallery, pickers, pins, safe, state


def section(view: LabView) -> None:
    """Picture, verdict and table; what a store does not hold is said with what makes it."""
    stores = [store for store in pickers.stores("Models overlaid") if _has_task(store, view.name)]
    frames, shown, said = [], [], []
    for store, name in zip(stores, caching.short_names(stores), strict=True):
        try:
            table, sentence = _measured(view, store, name)
            frames.append(table)
            shown.append(store)
            said += [sentence] if sentence else []
        except AnalysisError as error:
            st.warning(safe.sentence(f"{store.label}: {error}"), icon=":material/block:")
    if not frames:
        st.info(
            f"None of these stores holds the task {safe.words(view.name)}; choose others, or another task in the rail."
        )
        return
    frame = pd.concat(frames, ignore_index=True)
    for sentence in said:
        st.markdown(sentence)
    specs = [
        method.spec for method in (BASE, *masked_methods(set.intersection(*(set(s.variants) for s in shown))).values())
    ]
    lines = "\n".join(_command(view, store) for store in shown)
    pin = pins.Pin(
        title=f"Masks on {view.name}", sentence=" ".join(said), stores=shown,
        measure=pins.measure(
            "recall", shown, task=view.name, methods=specs, k=view.k, definition=view.definition, pool=view.pool
        ),
    )  # fmt: skip
    pool = "" if view.pool == "local" else " in the global pool"
    chart = masked_recall(frame, k=view.k, data=f"{view.name}{pool}; {data_of(shown)}", definition=view.definition)
    downloads.figure(chart, f"masks-{view.name}", command=lines, table=lambda: frame, pin=pin)
    table = _readable(frame)
    st.dataframe(
        table, hide_index=True, height="content", alt="Recall of every model under every mask, with its interval"
    )
    downloads.keep(f"masks-{view.name}-table", pins.table(lambda: table, pin, command=lines))
    published = next(entry for entry in statements() if entry["table"] == "figure4")
    st.caption(
        f"R@{view.k} in percent with its 95 % interval, then the paired change to the model's own base. No store "
        "holds a control with as many random tokens left out: a part of each change may come from pooling fewer tokens. "
        f"Paper: {published['what']} ({published['source']})."
    )
    for store in shown:
        _lacking(store, view)


def _has_task(store: Store, name: str) -> bool:
    if name in store.tasks:
        return True
    held = f"only {', '.join(store.tasks)}" if store.tasks else "none"
    state.notice(f"{store.label} has no task {name}, {held}; it is left out of the masks.")
    return False


def _measured(view: LabView, store: Store, name: str) -> tuple[pd.DataFrame, str]:
    """The table and the sentence of one store. On a large task every mask takes seconds: which one it is stands there
    meanwhile, and what was measured is kept when the visitor moves on."""
    note = st.empty()
    for (side, variant), method in masked_methods(store.variants).items():
        if not caching.is_small(store, view.name, view.pool):
            note.caption(f"Measuring {safe.words(name)}: {VARIANT_LABELS[variant]}, {side}.")
        caching.measured(store, view.name, method, view.pool)
    note.empty()
    found, pair = caching.masking(store, view.name, view.k, view.definition, view.pool)
    table = found.copy()  # the cache's own stays as it is
    queries = len(view.task.query_rows) if store is view.store else len(store.task(view.name).query_rows)
    sentence = "" if pair is None else _verdict(view, store, queries, pair)
    if store.one_vector:
        table["why"] = table["why"].replace(NOT_STORED, "no mean of tokens")
    return table.assign(model=name, queries=queries), sentence


def _verdict(view: LabView, store: Store, queries: int, pair: pd.Series) -> str:
    """Which of the two masks of the paper costs more on both sides, and, on a task as the paper's, whether it says so."""
    words, beside = "this data cannot tell which of the two carries more", ""
    if pair["difference_high"] < 0:
        words, beside = "the prompt carries more than the picture", ", **as in the paper**"
    elif pair["difference_low"] > 0:
        words, beside = "the picture carries more than the prompt", ", **against the paper**"
    if not view.name.startswith("it2"):
        beside = ""
    bounds = interval(pair["difference_low"], pair["difference_high"])
    image, prompt = percent(pair["recall"] - pair["difference"]), percent(pair["recall"])
    return (
        f"{safe.words(store.label)}, {queries:,} queries: R@{view.k} is {prompt} without the prompt and {image} without the "
        f"picture, {points(pair['difference'])} points {bounds}: {words}{beside}."
    )


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a side and mask, one column a model, N in its head."""
    rows = frame[["side", "mask"]].drop_duplicates().reset_index(drop=True)
    for model, found in frame.groupby("model", sort=False):
        cells = []
        for row in found.itertuples():
            if row.why:
                cells.append(row.why)
                continue
            text = f"{100 * row.recall:.1f} {interval(row.low, row.high)}"
            change = f"{points(row.difference)} {interval(row.difference_low, row.difference_high)}"
            cells.append(text if row.mask == BASE.label else f"{text}; {change}")
        rows[f"{model} (N {int(found['queries'].iloc[0]):,})"] = cells
    return rows


def _command(view: LabView, store: Store) -> str:
    """The command that prints the numbers of one store."""
    methods = tuple(dict.fromkeys(masked_methods(store.variants).values()))
    definition = "" if view.definition == "hit" else f" --definition {view.definition}"
    return f"{commands.retrieve(store, view.name, methods, pool=view.pool)} --k {view.k}{definition}"


def _lacking(store: Store, view: LabView) -> None:
    """What a store has no masks for, and what makes them."""
    lacking = [variant for variant in MASKS if variant not in store.variants]
    if not lacking:
        return
    name = safe.words(store.label)
    if store.one_vector or not store.has_model:
        why = f"its embedding is the {safe.words(store.embedding_words)}, no mean of tokens" if store.has_model else \
            "its embeddings were imported"  # fmt: skip
        st.caption(f"{name}: {why}, so nothing can be left out, and its base stands alone.")
        return
    words = ", ".join(VARIANT_LABELS[variant] for variant in lacking)
    st.caption(f"{gallery.escape(store.label)} holds no embeddings {words}. A store with them is built by:")
    st.code(commands.build_with(store, ("mean", "last", *MASKS)), language=None, wrap_lines=True)
