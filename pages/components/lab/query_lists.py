"""Query by query: which ones changed, one of them in detail with both lists, and why its winner wins."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.figures.palette import SIGN
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.movement import changed
from analysis.retrieval.interventions import BASE
from analysis.store.finding import Lists
from pages.components.lab import reasons
from pages.components.lab.lab_view import LabView
from pages.components.shared import caching, downloads, gallery, layout, pins, ranked_lists, safe, state
from pages.components.shared.errors import guard

TAB = "Query by query"
PAGE = 50  # queries in the list at once
WRAPPED, NARROW = 68, 84  # pixels of a row whose text wraps, alone or beside a picture: Streamlit wraps above 4 rem
FILTERS = {
    "rescued": f"{SIGN['rescued']} rescued",
    "lost": f"{SIGN['lost']} lost",
    "near": "near misses",
    "moved": "biggest movement",
    "all": "all",
}
_STATUS = {"rescued": "rescued", "lost": "lost", "near": "near miss"}


@st.fragment
def section(view: LabView) -> None:
    with guard("The queries", stop=False):
        _section(view)
    layout.refresh(view.command())


def _section(view: LabView) -> None:
    moved = view.moved()
    chosen = _filter(view, moved)
    rows = changed(moved, chosen)
    ways, picture, lists = st.container(), st.container(), st.container()
    with ways, st.container(horizontal=True, vertical_alignment="center", gap="small"):
        words = st.empty()
        _neighbours(rows, _query(view, rows, len(moved)))
        with st.popover(f"{len(rows):,} queries", icon=":material/list:", type="tertiary", width="content"):
            _list(view, rows, chosen, _query(view, rows, len(moved)))
        query = _query(view, rows, len(moved))
        words.markdown(f"**Query {query:,}**", width="content")
        state.page_link(
            "live_query", "Open as a live query", icon=":material/image_search:",
            store=caching.store_id(view.store), task=view.name, query=query, source="data", method=view.after.spec,
        )  # fmt: skip
    if state.get(state.QUERY) is None:
        _shown()[_place(view), view.after.spec, view.k] = query
    st.session_state["_lab_in_view"] = (_place(view), query)
    state.shows(state.QUERY, query)
    state.shows(state.CHANGED, chosen)
    comparison = compare(view, query)
    with picture:
        _asked(view, query, moved.iloc[query], comparison)
    with lists:
        _one(view, query, moved.iloc[query], comparison)
    reasons.section(view, query, comparison)


def _neighbours(rows: pd.DataFrame, query: int) -> None:
    """The way to the query before and after in the list."""
    listed = rows["query"].to_numpy()
    at = (listed == query).nonzero()[0]
    for words, icon, step in (("Previous", "chevron_left", -1), ("Next", "chevron_right", 1)):
        to = int(listed[(int(at[0]) + step) % len(listed)]) if len(at) else int(listed[0]) if len(listed) else query
        st.button(
            words, icon=f":material/{icon}:", key=f"_lab_{words.lower()}", type="tertiary", on_click=state.put,
            args=(state.QUERY, to), disabled=to == query,
        )  # fmt: skip


def _query(view: LabView, rows: pd.DataFrame, count: int) -> int:
    return state.get_int(
        state.QUERY, low=0, high=count - 1, default=_in_view(view, rows), what=f"query of {view.name},"
    )


def _in_view(view: LabView, rows: pd.DataFrame) -> int:
    """The query that nobody chose: the one that this view showed before, else the one shown last, so that moving a slider
    changes its lists and not the query; the first of the list where task or filter are new."""
    known = _shown().get((_place(view), view.after.spec, view.k))
    if known is not None:
        return known
    place, query = st.session_state.get("_lab_in_view", (None, 0))
    if place == _place(view):
        return int(query)
    return int(rows["query"].iloc[0]) if len(rows) else 0


def _shown() -> dict[tuple, int]:
    """Views of this visit -> the query that was shown in them."""
    shown: dict[tuple, int] = st.session_state.setdefault("_lab_shown", {})
    while len(shown) > state.MOST_VIEWS:
        shown.pop(next(iter(shown)))
    return shown


def _place(view: LabView) -> tuple[str, str, str | None]:
    return caching.store_id(view.store), view.name, state.get(state.CHANGED)


def compare(view: LabView, query: int) -> Comparison:
    """Both lists of one query of the task."""
    lab = view.lab
    return Comparison(lab.lists(BASE), lab.lists(view.after), view.task.qrels, query)


def _filter(view: LabView, moved: pd.DataFrame) -> str:
    counts = moved["status"].value_counts()
    words = {
        key: f"{label} {counts.get(_STATUS[key], 0):,}" if key in _STATUS else label for key, label in FILTERS.items()
    }
    wanted = state.get(state.CHANGED)
    if wanted is not None and wanted not in FILTERS:
        state.notice(f"The link asks for queries that are {state.shown(wanted)}, expected one of {', '.join(FILTERS)}.")
    telling = next((key for key in ("rescued", "lost") if counts.get(_STATUS[key], 0)), "moved")
    st.session_state["_lab_changed"] = wanted if wanted in FILTERS else telling if view.after.steps else "all"
    st.pills(
        "Queries", list(FILTERS), format_func=words.__getitem__, key="_lab_changed", required=True, wrap=True,
        label_visibility="collapsed",
        on_change=lambda: state.put(state.CHANGED, st.session_state["_lab_changed"]),
        help=f"rescued: a target enters the first {view.k}; lost: it leaves them; near miss: it stays behind them, at a rank "
        f"of at most {3 * view.k}. The article names near misses as the typical error of multimodal LLMs.",
    )  # fmt: skip
    return st.session_state["_lab_changed"]


def _list(view: LabView, rows: pd.DataFrame, chosen: str, query: int) -> None:
    """A page of queries to click on, the one with the query in view first."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        found = st.text_input(
            "Find", **state.bound(state.FIND), placeholder="number or words", max_chars=80, width=150,
            on_change=_go_to, args=(view,),
            help="The number of a query opens it. Words leave the queries that have them all, in their text or in the caption "
            "of their picture.",
        )  # fmt: skip
        everything, rows = rows, _with_words(view, rows, found or "")
        pages = -(-len(rows) // PAGE)
        key = f"_lab_page_{chosen}"
        place = (chosen, query, found)
        if place != st.session_state.get("_lab_page_of") or not 1 <= st.session_state.get(key, 1) <= max(pages, 1):
            at = (rows["query"].to_numpy() == query).nonzero()[0]
            st.session_state[key] = 1 + int(at[0]) // PAGE if len(at) else 1
        st.session_state["_lab_page_of"] = place
        page = st.number_input(f"Page, of {pages}", 1, pages, key=key, width=130) if pages > 1 else 1
    if not len(rows):
        if len(everything):
            st.info(
                f"No query of this list has {safe.words(state.shown(found or ''))} in its text or in its picture's caption."
            )
        else:
            st.info(f"No query is {FILTERS[chosen].lstrip('▲▼ ')} with this method at k = {view.k}.")
        return
    part = rows.iloc[(page - 1) * PAGE : page * PAGE]
    sample_rows = view.task.query_rows[part["query"].to_numpy()]
    pictures = [caching.strip(view.store, (int(row),), 48) for row in sample_rows]
    table = pd.DataFrame(
        {
            "rank": [_ranks(int(b), int(a)) for b, a in zip(part["before"], part["after"], strict=True)],
            "": pictures,
            "text": [str(view.store.samples["text"].iat[int(row)])[:120] for row in sample_rows],
            "query": part["query"].to_numpy(),
        }
    )
    table = table.drop(columns=[name for name in ("", "text") if not any(table[name])])
    height = 36 if "text" not in table else NARROW if "" in table else WRAPPED
    narrow = 96 if len(view.task.candidate_rows) < 1000 else 108
    event = st.dataframe(
        table,
        hide_index=True,
        height=min(560, 40 + height * len(table)),
        row_height=height,
        on_select="rerun",
        selection_mode="single-row",
        key=f"_lab_list_{chosen}_{page}_{view.after.spec}_{view.k}",
        column_config={
            "rank": st.column_config.TextColumn(width=narrow),
            "": st.column_config.ImageColumn("", width=56),
            "text": st.column_config.TextColumn(width=270 - narrow - (56 if "" in table else 0)),
            "query": st.column_config.NumberColumn(width=56),
        },
        alt="Queries and the rank of their best target before and after",
    )
    picked = list(event.selection.rows) if event is not None else []
    token = (chosen, page, tuple(picked))
    if picked and token != st.session_state.get("_lab_picked"):
        st.session_state["_lab_picked"] = token
        state.put(state.QUERY, int(table["query"].iat[picked[0]]))
    st.caption(
        f"{len(rows):,} of {len(view.task.query_rows):,} queries. Rank of the best target, before → after; click a row."
    )
    words = (
        f"{len(rows):,} of {len(view.task.query_rows):,} queries of {view.name} are {FILTERS[chosen].lstrip('▲▼ ')} at "
    )
    words += f"{view.k} by {view.after.label}"
    command = view.command_for(f" --changed {chosen}") if chosen in _STATUS else view.command()
    downloads.keep("queries", pins.table(lambda: table.head(18), pins.Pin(sentence=words), command=command))


def _go_to(view: LabView) -> None:
    """A number in the field of words opens its query."""
    text = st.session_state[state.FIND].strip()
    if text.isdigit():
        last = len(view.task.query_rows) - 1
        if int(text) > last:
            state.notice(f"There is no query {state.shown(text)} of {view.name}; expected 0 to {last:,}.")
        else:
            state.put(state.QUERY, int(text))


def _with_words(view: LabView, rows: pd.DataFrame, found: str) -> pd.DataFrame:
    """The queries whose text, or the caption of whose picture, holds all words; all of them for a number."""
    words = found.lower().split()
    if not words or found.strip().isdigit():
        return rows
    texts = [
        caching.description(view.store, int(view.task.query_rows[query])).lower() for query in rows["query"].to_numpy()
    ]
    return rows[[all(word in text for word in words) for text in texts]]


def _ranks(before: int, after: int) -> str:
    if not before:
        return "no target"
    sign = SIGN["rescued"] if after < before else SIGN["lost"] if after > before else SIGN["unchanged"]
    return f"{before:,} → {after:,} {sign}"


def _asked(view: LabView, query: int, moved: pd.Series, comparison: Comparison) -> None:
    """The query and what happened to it."""
    row = int(view.task.query_rows[query])
    with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="medium"):
        if caching.picture(view.store, row):
            st.image(caching.picture(view.store, row), width=72, alt=gallery.alt(view.store, row))
        with st.container(gap="small"):
            if text := str(view.store.samples["text"].iat[row]):
                st.markdown(gallery.escape(text, 300))
            st.markdown(_outcome(view, moved, comparison))


def _one(view: LabView, query: int, moved: pd.Series, comparison: Comparison) -> None:
    """The two lists."""
    ranked_lists.side_by_side(
        view.store, view.task.candidate_rows, comparison, k=min(view.k if view.k > 3 else 5, 10),
        titles=("Before: base", f"After: {gallery.escape(view.after.label)}"),
    )  # fmt: skip
    with st.container(horizontal=True, gap="small"):
        with st.popover("Command", icon=":material/terminal:", type="tertiary"):
            st.code(view.command(query), language=None, wrap_lines=True)
        downloads.keep("query", _pin(view, query, moved, comparison))
    st.caption(f"{len(view.task.candidate_rows):,} candidates of {view.name}. {safe.words(view.store.caption)}")


def _pin(view: LabView, query: int, moved: pd.Series, comparison: Comparison) -> pins.Pin:
    """The query before and after."""
    row = int(view.task.query_rows[query])
    asked = caching.description(view.store, row)

    def parts() -> tuple[Lists]:
        lists = ranked_lists.frozen(
            view.store, view.task.candidate_rows, comparison, k=10, titles=("base", view.after.label),
            query=f"query {query:,}: {asked}", picture=caching.picture(view.store, row),
        )  # fmt: skip
        return (lists,)

    return pins.Pin(
        parts, title=f"Query {query:,} of {view.name} before and after {view.after.label}",
        sentence=f"Query {query:,}, {view.after.label}: {_outcome(view, moved, comparison)}", command=view.command(query),
        caption=f"{len(view.task.candidate_rows):,} candidates of {view.name}.", params={state.QUERY: query, state.TAB: TAB},
        measure=pins.measure(
            "ranks", [view.store], task=view.name, query=query, method=view.after.spec, k=view.k, pool=view.pool
        ),
    )  # fmt: skip


def _outcome(view: LabView, moved: pd.Series, comparison: Comparison) -> str:
    """What became of the query, with the ranks that the list and recall count with."""
    if moved["status"] == "no target":
        return "No target of this query is in the pool: it counts as a miss."
    if moved["after"] > len(view.task.candidate_rows):
        return (
            f"Nothing is left of this query after {gallery.escape(view.after.label)}: it counts as a miss, and the order of "
            "the list after means nothing."
        )
    return ranked_lists.outcome(comparison.best_targets, view.k)
