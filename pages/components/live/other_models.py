"""One query through several models: two to six stores of the same data side by side, with the same masks and methods. A
stored query needs no model; another one goes through each store's model in turn, as only one is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import streamlit as st

from analysis.errors import AnalysisError, RetrievalError
from analysis.query.applied import Applied, carried_mask
from analysis.query.compatibility import request_for
from analysis.query.masks import TokenMask
from analysis.query.query import LiveQuery, embed_query
from analysis.query.reproduce import command_for
from analysis.query.slot import ModelRequest
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.interventions import Intervention, Pool
from analysis.retrieval.interventions.pool import VARIANT_LABELS
from analysis.store import Store
from pages.components.live import model_panel, result
from pages.components.shared import caching, downloads, gallery, pickers, pins, ranked_lists, safe, state

MOST = 6  # models side by side, the page's own among them
K = 5  # places of each list
_OPENED, _CHANGED, _KEPT = "_live_beside_opened", "_live_beside_changed", "_live_others"


@dataclass(frozen=True)
class Column:
    """What one model makes of the query. problem: why it has no list; notes: what it could not do, or does in its own way."""

    store: Store
    live: result.Live | None = None
    changes: Applied | None = None
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""


def section(live: result.Live, request: ModelRequest, mask: TokenMask, intervention: Intervention) -> None:
    """The other models to choose from, and the lists of those that are chosen. mask, intervention: of the page's query."""
    others = {caching.store_id(store): store for store in partners(live.store, live.task.task)}
    if not others and not state.get(state.BESIDE):
        return
    st.subheader("The same query through other models", anchor=False)
    chosen = _chosen(live, others)
    if not chosen:
        return
    read = {} if live.query is None else _read(live, request, {key: others[key] for key in chosen})
    columns = [_column(live, live.store, live.query, mask, intervention)]
    for key in chosen:
        if live.query is None or key in read:
            columns.append(_column(live, others[key], read.get(key), mask, intervention))
    if len(columns) > 1:
        _summary(live, columns)
        with st.grid(min(3, len(columns)), min_column_width=260, border=True):
            for column in columns:
                with st.container(gap="xsmall"):
                    _show(column)
        st.caption(
            "Each model ranks the same candidates in its own space; movement is against its own base. Masks go by role, a "
            "region of the picture by its place in it."
        )


def partners(store: Store, task: str) -> list[Store]:
    """Other stores of the same data that have the task: their candidates are the same samples."""
    found = []
    for ref in caching.stores():
        if ref.ok and ref.path != store.path and ref.dataset == store.dataset:
            other = caching.open_ref(ref)
            if task in other.tasks:
                found.append(other)
    return found


def _chosen(live: result.Live, others: dict[str, Store]) -> list[str]:
    """The stores beside the page's own, as the address names them; what it cannot mean is said and taken out of it."""
    own, said = caching.store_id(live.store), (state.get(state.BESIDE) or "").split(",")
    whole = (next((key for key in others if word in (key, *key.split("/"))), word) for word in said if word)
    named = [key for key in dict.fromkeys(whole) if key != own]
    for key in named:
        if key not in others:
            state.notice(
                f"The link puts {state.shown(key)} beside the query, expected "
                + (f"one of {', '.join(others)}" if others else f"no store, as no other one holds {live.task.task}")
                + f" (stores of {live.store.dataset} here with the task {live.task.task})."
            )
    known = [key for key in named if key in others]
    if len(known) >= MOST:
        state.notice(
            f"The link puts {len(known) + 1} models side by side, expected at most {MOST}; showing the first {MOST}."
        )
        known = known[: MOST - 1]
    if ",".join(known) != (state.get(state.BESIDE) or ""):
        state.put(state.BESIDE, ",".join(known) or None)

    def changed(keys: list[str]) -> None:
        st.session_state[_CHANGED] = True
        state.put(state.BESIDE, ",".join(keys) or None)

    pickers.several(
        "Models beside it", {key: other.label for key, other in others.items()}, known, key="_live_beside", most=MOST - 1,
        then=changed, help="Stores of the same data. A stored query needs no model; your own goes through each model in turn.",
    )  # fmt: skip
    return known


def _read(live: result.Live, request: ModelRequest, chosen: dict[str, Store]) -> dict[str, LiveQuery | str]:
    """The query as each model reads it, or why one does not; those that were read for this query before are at hand. Models
    are loaded when a link is opened, a choice is made, or by the button: each takes the place of the one before."""
    kept: dict[tuple[str, ...], LiveQuery | str] = st.session_state.setdefault(_KEPT, {})
    query = (live.task.task, request.device, *live.asked.key)
    by_itself = st.session_state.pop(_CHANGED, False) or not st.session_state.get(_OPENED)
    st.session_state[_OPENED] = True
    missing = [key for key in chosen if isinstance(kept.get((key, *query), ""), str)]
    pressed = bool(missing) and st.button(
        f"Run {len(missing)} model{'s' * (len(missing) > 1)}", icon=":material/compare_arrows:", key="_live_beside_run",
        help="One after the other; each takes the place of the model in memory.",
    )  # fmt: skip
    ran = False
    for key in missing:
        if not pressed and (not by_itself or (key, *query) in kept):
            continue
        found = _through(live, chosen[key], request.device, ask=not pressed)
        if found is None:
            st.info(f"{safe.words(chosen[key].label)} is not loaded by itself: press Run.")
            continue
        while len(kept) >= MOST - 1:
            kept.pop(next(iter(kept)))
        kept[key, *query], ran = found, True
    if ran:
        st.rerun()  # the row of the model says which one is in memory now
    return {key: kept[key, *query] for key in chosen if (key, *query) in kept}


def _through(live: result.Live, other: Store, device: str, *, ask: bool) -> LiveQuery | str | None:
    """The query as the model of another store reads it, or the sentence why not. ask: None for one that nobody pressed a
    button for and that is large."""
    asked = live.asked
    try:
        wanted = request_for(other, device=device)
        if ask and not model_panel.may_load(wanted):
            return None
        with model_panel.using(wanted, other) as backbone:
            return embed_query(
                backbone, picture=asked.picture, text=asked.text, prompts=other.config["prompts"],
                task=live.task.task, name=asked.name or "your picture",
            )  # fmt: skip
    except AnalysisError as error:
        return str(error)


def _column(
    first: result.Live, store: Store, query: LiveQuery | str | None, mask: TokenMask, intervention: Intervention
) -> Column:
    """The query under the page's mask and method in one store, as far as that can be."""
    if isinstance(query, str):
        return Column(store, problem=query)
    try:
        live = first if store is first.store else _in_store(first, store, query)
        method, notes = _method(first.store, store, intervention)
        if query is not None and first.query is not None and query is not first.query:
            mask, more = carried_mask(mask, first.query, query)
            notes += more
        changes = live.changes(mask, method)
        notes += tuple(result.notes_of(live, changes)) if live is not first else ()
        return Column(store, live, changes, live.compare(changes), notes)
    except AnalysisError as error:
        return Column(store, problem=str(error))


def _in_store(first: result.Live, store: Store, query: LiveQuery | None) -> result.Live:
    """The query where another store holds it: found by the id of its sample."""
    name = first.task.task
    task, row, position = store.task(name), first.asked.row, None
    if row is not None:
        sample = str(first.store.samples["sample_id"].iat[row])
        held = np.flatnonzero(store.samples["sample_id"].to_numpy()[task.query_rows] == sample)
        position = int(held[0]) if len(held) else None
        if position is None and query is None:
            raise RetrievalError(
                f"{store.label} does not hold this query ({sample}) among its queries of {name}; choose a query that both "
                "stores hold, or run the model on it."
            )
    row = None if position is None else int(task.query_rows[position])
    return result.Live(store, task, replace(first.asked, position=position, row=row), query, first.preview)


def _method(own: Store, other: Store, intervention: Intervention) -> tuple[Intervention, tuple[str, ...]]:
    """The page's method as another store can do it, and what is left out of it, a sentence each."""
    notes = []
    numbered = [step for step in intervention.steps if step.names_concepts]
    if numbered and own.config["sae"]["sha256"] != other.config["sae"]["sha256"]:
        for step in numbered:
            intervention = intervention.replaced(step, None)
            notes.append(f"Without “{step.label}”: its numbers name concepts of another SAE.")
    pool = intervention.pool
    sides = {"queries": pool.queries, "candidates": pool.candidates}
    lacking = {side: variant for side, variant in sides.items() if variant not in other.variants}
    if lacking:
        intervention = intervention.with_pool(Pool(**{**sides, **dict.fromkeys(lacking, "mean")}))
    for side, variant in lacking.items():
        words = VARIANT_LABELS.get(variant, variant)
        why = f"the embedding is the {other.embedding_words}, no mean of tokens" if other.one_vector else \
            f"the store was built without {variant}"  # fmt: skip
        notes.append(f"{side.capitalize()} not “{words}”: {why}.")
    return intervention, tuple(notes)


def _summary(first: result.Live, columns: Sequence[Column]) -> None:
    """One row a model: where the best target stands, what stands first."""
    names = caching.short_names([column.store for column in columns])
    rows, said = [], []
    for name, column in zip(names, columns, strict=True):
        row: dict[str, object] = {"model": name}
        if column.live is None or column.changes is None or column.comparison is None:
            rows.append(row | {"first place": "none, see below"})
            continue
        row["done to it"] = column.changes.label or "nothing"
        best = column.comparison.best_targets
        if best is not None:
            row |= {"rank before": best[0].rank, "rank after": best[1].rank}
            said.append(f"{name} {best[0].rank:,} → {best[1].rank:,}")
        place = column.comparison.places("after", 1)[0]
        row["first place"] = caching.description(column.store, int(column.live.task.candidate_rows[place.candidate]))
        rows.append(row)
        if best is None:
            said.append(f"{name} puts “{str(row['first place'])[:60]}” first")
    order = ("model", "rank before", "rank after", "done to it", "first place")
    table = pd.DataFrame(rows)
    table = table[[name for name in order if name in table]]
    st.dataframe(table, hide_index=True, height="content", alt="The same query through several models")
    of = f"the query {first.asked.position:,}" if first.asked.position is not None else "a live query"
    ranked = any("rank after" in row for row in rows)
    sentence = f"{'Best target of ' + of if ranked else of.capitalize()}: {'; '.join(said)}"
    lines = [command_for(c.live.view(c.changes)) for c in columns if c.live is not None and c.changes is not None]
    pin = pins.Pin(
        title=f"One query through {len(columns)} models", sentence=sentence, stores=[column.store for column in columns],
        caption=f"{len(first.task.candidate_rows):,} candidates of {first.task.task}; each model in its own space.",
        command="\n".join(lines),
    )  # fmt: skip
    with st.container(horizontal=True, gap="small", width="content"):
        downloads.save("live-models", table=lambda: table, command="\n".join(lines), pin=pin)


def _show(column: Column) -> None:
    """The list of one model after the mask and the method."""
    st.markdown(f"**{gallery.escape(column.store.label)}**")
    if column.live is None or column.changes is None or column.comparison is None:
        st.warning(safe.sentence(column.problem), icon=":material/block:")
        return
    live, comparison = column.live, column.comparison
    st.caption(gallery.escape(column.changes.label or "nothing done to it", 300))
    for note in dict.fromkeys(column.notes):
        st.caption(f":material/info: {gallery.escape(note, 400)}")
    outcome = ranked_lists.outcome(comparison.best_targets)
    if outcome:
        st.markdown(outcome)
    places = [*comparison.places("after", K), *comparison.pinned("after", K)]
    ranked_lists.one_list(live.store, live.task.candidate_rows, places, side="after")
    if not state.bare():
        with st.popover("Command", icon=":material/terminal:", type="tertiary"):
            st.code(command_for(live.view(column.changes)), language=None, wrap_lines=True)
