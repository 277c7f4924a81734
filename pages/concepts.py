"""All concepts of a model: search, filters, and one list under three pictures (none, map, histogram)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analysis.concepts import browse
from analysis.figures.concepts import concept_scatter, log_energy, score_histogram
from analysis.figures.export import selected_ids
from analysis.store import Store
from pages.components.concepts import collecting, effect_board, example, filter_widgets, map_hover
from pages.components.shared import (
    caching,
    commands,
    concept_cards,
    downloads,
    layout,
    pickers,
    pins,
    safe,
    scores,
    state,
)
from pages.components.shared.errors import guard

ROWS = 50
LIT = 300  # search hits that the map rings; more would hide it
PINNED = 18  # rows of the list that a finding keeps: two slides
VIEWS = ["table", "map", "histogram", "effect", "by example"]
ENERGIES = "On the edge, a decade below the faintest: never on that side. Dead concepts are left out."
PROJECTIONS = ["UMAP", "PCA", "energies"]
PICTURED = 400  # concepts whose pictures travel with the map, the loudest


def main() -> None:
    if (chosen := st.session_state.pop("_open_concept", None)) is not None:
        state.open_page("concept", store=state.get(state.STORE), concept=chosen)
    layout.header("concepts", "Which concepts does this model have?")
    with layout.controls("concepts") as row:
        store = pickers.store()
        state.check_choice(state.VIEW, VIEWS, default=VIEWS[0], what="a view")
        view = st.segmented_control("View", VIEWS, required=True, **state.placed(state.VIEW, VIEWS[0], VIEWS))
        words = filter_widgets.words()
        line = row.more.container(horizontal=True, vertical_alignment="bottom", gap="small")
        with line:
            by, descending = filter_widgets.sorting(words)
            with st.popover("Filters", icon=":material/filter_alt:"):
                filters = filter_widgets.filters(words)
            filter_widgets.say(filters)
            only = collecting.only(store)
        asked = commands.Listed(filters, by, not descending, only=only)
        row.command = commands.concepts(store, asked)
        row.title = f"Concepts of {store.label}"
        with line:
            collecting.saved(store, row.title, row.command)
    layout.store_line(store)

    fits = caching.relevance(store, filters.words)
    fired, given = example.fires(store) if view == "by example" else (None, {})
    asked = replace(asked, example=given)
    passed = caching.concept_ids(store, filters)
    passed = passed if only is None else passed[np.isin(passed, only)]
    ids = browse.order(store.concepts, passed, by, descending=descending, relevance=fits)
    if fired is not None:
        ids = ids[fired[ids] > 0]
        ids = ids[np.argsort(-fired[ids], kind="stable")]
        st.markdown(f"**{len(ids)}** of the concepts below fire on it, the strongest first.")
    if not len(ids):
        st.info(
            f"No concept of {safe.words(store.label)} passes these filters"
            f"{f' and contains “{safe.words(words)}”' if words else ''}.",
            icon=":material/filter_alt_off:",
        )
        st.button("Show all concepts", on_click=filter_widgets.reset, icon=":material/restart_alt:")
        return
    found = None
    if view == "effect":
        with guard("The leaderboard", stop=False):
            effect_board.section(store)
    elif view in ("map", "histogram"):
        with guard("The picture", stop=False):
            found = map_of(store, ids, filters) if view == "map" else histogram_of(store, ids, filters)
    listed = ids if found is None else ids[np.isin(ids, found)]
    if found is not None and len(listed):
        collecting.offer(store, listed)
    concept_list(store, listed, len(ids), replace(asked, only=only if found is None else listed), fired=fired)


def map_of(store: Store, ids: np.ndarray, filters: browse.Filters) -> np.ndarray | None:
    """Concepts on the plane of their directions; a click opens one, a box or lasso fills the list below. What a search found,
    and the collection, are lit up among the others."""
    table = store.concepts
    lit: list[int] = []
    if filters.words or collecting.collected(store):
        lit = [*(ids[:LIT].tolist() if filters.words else []), *collecting.collected(store)]
        ids = caching.concept_ids(store, replace(filters, words=""))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        color = filter_widgets.score("Colour", state.COLOR, default="modality")
        projection = pickers.one_of(
            "Position by", state.PROJECTION, PROJECTIONS, what="a projection",
            help="UMAP keeps neighbours together (15 neighbours by cosine; principal components for fewer than 50 concepts); "
            "PCA keeps large distances. energies: how loud it is on pictures, and on captions.",
        )  # fmt: skip
    where, titles = f"Positions by {projection} of the directions.", ("", "")
    if projection == "energies":
        x, y = (
            log_energy(table[side].to_numpy(), table["energy"].to_numpy() > 0)
            for side in ("energy_image", "energy_text")
        )
        where, titles = ENERGIES, ("energy on pictures, log10", "energy on captions, log10")
    elif projection == "PCA":
        x, y = caching.principal_map(store).T
    else:
        x, y = table["map_x"].to_numpy(), table["map_y"].to_numpy()
    values = table[color.name].to_numpy(float)[ids]
    names = [name or f"concept {i}" for i, name in zip(ids, caching.concept_names(store, ids), strict=True)]
    chart = concept_scatter(
        x[ids], y[ids], ids=ids, energy=table["energy"].to_numpy()[ids],
        color=values, color_title=color.axis,
        names=names, highlight=lit, x_title=titles[0], y_title=titles[1], data=f"{where} {store.caption}",
    )  # fmt: skip
    event = downloads.figure(
        chart,
        f"{store.name}-map",
        select=("points", "box", "lasso"),
        table=lambda: pd.DataFrame({"concept": ids, "x": x[ids], "y": y[ids], color.name: values}),
        command=commands.concepts(store, commands.Listed(filters, color.name)),
    )
    loudest = ids[np.argsort(-table["energy"].to_numpy()[ids], kind="stable")][:PICTURED]
    map_hover.show(f"figure_{store.name}-map", map_hover.pictures_of(store, map(int, loudest)))
    selected = selected_ids(event)
    region = browse.in_region(event, x[ids], y[ids])
    if len(selected) == 1 and region is None:
        state.open_page("concept", store=caching.store_id(store), concept=selected[0])
    return None if region is None else ids[region]


def histogram_of(store: Store, ids: np.ndarray, filters: browse.Filters) -> np.ndarray | None:
    """How a score is distributed; a brushed range fills the list below."""
    score = filter_widgets.score("Score", state.SCORE, default="modality")
    values = store.concepts[score.name].to_numpy(float)[ids]
    chart = score_histogram(values, title=score.axis, data=store.caption, height=320)
    event = downloads.figure(
        chart,
        f"{store.name}-{score.name}",
        select=("box",),
        note=score.help,
        command=commands.concepts(store, commands.Listed(filters, score.name)),
    )
    return browse.brushed(event, values, ids)


def concept_list(
    store: Store, ids: np.ndarray, total: int, asked: commands.Listed, *, fired: np.ndarray | None
) -> None:
    """One page of the list; a click anywhere in a row opens the concept, a click on a heading sorts by it."""
    pages = max(1, -(-len(ids) // ROWS))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        chosen = "" if len(ids) == total else f"{len(ids):,} chosen in the picture, of "
        st.caption(f"{chosen}{total:,} of {store.n_concepts:,} concepts. Click a row to open it, a heading to sort.")
        page = 1
        if pages > 1:
            state.check_number(state.PAGE, low=1, high=pages, default=1, what="page")
            page = st.pagination(pages, **state.bound(state.PAGE))
        shown, words = ids[(page - 1) * ROWS : page * ROWS], asked.filters.words
        command = commands.concepts(store, replace(asked, skip=(page - 1) * ROWS))
        layout.refresh(command)
        says = f"{total:,} of {store.n_concepts:,} concepts of {store.label}, by {asked.sort}"
        part = pins.table(lambda: rows_of(store, shown[:PINNED], words, fired).drop(columns="kind"))
        downloads.save(
            f"{store.name}-concepts", table=lambda: full_table(store, ids), command=command,
            pin=pins.Pin(part.parts, sentence=says, caption=f"The first {min(PINNED, len(shown))} of the list in view."),
        )  # fmt: skip
    key = f"concepts_{caching.store_id(store)}_{hash(shown.tobytes())}"
    st.dataframe(
        rows_of(store, shown, words, fired), hide_index=True, key=key, row_height=60, height=min(60 * len(shown), 900) + 40,
        selection_mode=["single-cell", "single-column"], column_config=column_config(), alt="Concepts and their scores",
        on_select=lambda: picked(st.session_state[key]["selection"], shown),
    )  # fmt: skip


def picked(selection: dict, shown: np.ndarray) -> None:
    """A cell opens its concept, a heading sorts by its score (again: the other way round)."""
    if selection.get("cells"):
        st.session_state["_open_concept"] = int(shown[selection["cells"][0][0]])
    elif selection.get("columns"):
        filter_widgets.sort_by(selection["columns"][0])


def rows_of(store: Store, shown: np.ndarray, words: str = "", fired: np.ndarray | None = None) -> pd.DataFrame:
    part = store.concepts.iloc[shown]
    table = pd.DataFrame({"pictures": [concept_cards.strip(store, int(i), 56) or None for i in shown], "id": shown})
    table["name"] = concept_cards.names(store, shown)
    if fired is not None:
        table["fires"] = fired[shown]
    if words:
        table["why"] = caching.found_because(store, shown, words)
    table["kind"] = [[scores.modality_words(value)[0]] for value in part["modality_score"].to_numpy(float)]
    for score in scores.at("table"):
        table[score.name] = part[score.name].to_numpy() * (100 if score.format == "percent" else 1)
    return table


def full_table(store: Store, ids: np.ndarray) -> pd.DataFrame:
    """Every score of the listed concepts, for the CSV."""
    table = store.concepts.iloc[ids].copy()
    table.insert(0, "concept", ids)
    return table


def column_config() -> dict[str, Any]:
    kinds = dict(scores.modality_words(value) for value in (0.0, 0.2, 0.5, 0.8, 1.0, float("nan")))
    config: dict[str, Any] = {
        "pictures": st.column_config.ImageColumn("strongest pictures", width=218, help=concept_cards.STRIP_HELP),
        "id": st.column_config.NumberColumn("id", format="%d", width=56),
        "name": st.column_config.TextColumn("name", width=170),
        "fires": st.column_config.NumberColumn("activation", format="%.3g", width=92, help="On the example."),
        "why": st.column_config.TextColumn(
            "why it was found",
            width=330,
            help="Where the words stand, and how many of its 20 strongest samples say one of them.",
        ),
        "kind": st.column_config.MultiselectColumn(
            "fires on", options=list(kinds), color=list(kinds.values()), width=120
        ),
    }
    for score in scores.at("table"):
        style = "%.1f %%" if score.format == "percent" else score.format
        config[score.name] = st.column_config.NumberColumn(
            score.label.removeprefix("fires "), help=score.help, format=style, width=92
        )
    return config


with guard():
    main()
