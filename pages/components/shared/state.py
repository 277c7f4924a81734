"""What is in the address bar: every query-parameter key, how its value is read and written, and links between pages.

Two kinds of parameters. Keys that a link may set from another page (store, concept, task ...) are owned here: `get` reads
the URL, then what the session used last; `put` writes both. Keys of a single page's widgets are bound by Streamlit itself
(`**state.bound(state.SHARE)`); call `check_number` or `check_choice` before such a widget, because Streamlit drops a value
that does not fit without a word. A link to the view carries the values of both kinds, defaults too: a default that changes
one day does not change what an old link shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import streamlit as st
from streamlit.errors import StreamlitPageNotFoundError

from analysis.errors import AnalysisError
from pages.components.shared import safe

# Owned by this module: links set them.
STORE = "store"  # <backbone>/<dataset>-<key>; the backbone alone means its first store
STORES = "stores"  # several of them, comma-separated
CONCEPT = "concept"
OTHER = "other"  # the second store of a comparison
OTHER_CONCEPT = "other_concept"  # the second concept of a comparison
TASK = "task"
QUERY = "query"  # position of the query in view
METHOD = "method"  # text form of the intervention in view, see analysis.retrieval.interventions.intervention
ALSO = "also"  # text forms of other rows of the results table, joined by ;
CHANGED = "changed"  # which queries are listed: rescued | lost | near | moved | all
WHY = "why"  # which list the why-panel of the lab explains: before | after
CURVE = "curve"  # what the curve of recall runs over: r | share | alpha | ...
MASK = "mask"  # text form of the masked tokens, see analysis.query.masks
TEXT = "text"  # of a live query
UPLOAD = "upload"  # of a live query: identity of its picture, see analysis.query.uploads
SOURCE = "source"  # of a live query: upload | camera | data
RUN = "run"  # of a live query from the data: 1 when the model runs on it
BESIDE = "beside"  # of a live query: stores of other models whose lists stand beside, comma-separated
MODEL = "model"  # of a live query: key, hub id or folder
DEVICE = "device"
DTYPE = "dtype"
COLLECTION = "collection"  # of findings
FINDING = "finding"  # id of the one that is open
TAB = "tab"  # of the retrieval lab
SECTION = "section"  # of the Concept page
LIKE = "like"  # which relatives of a concept are in view
VIEW = "view"  # of the concept browser: table | map | histogram | effect | by example; of the bridges: graph | table
PAIR = "pair"  # of the bridges: image concept, text concept, with a comma between them
OF = "of"  # of the bridges: the one concept whose bridges are shown
WORDS = "words"
COLLECTED = "collected"  # of concepts: the first digits of their SAE, a colon, ids with commas
LABELS = "labels"  # of concepts: whose count, the name of an author; everybody's without

# Bound to widgets.
SHARE = "share"  # percent of the concepts: top sets, removal
REDUCTION = "reduction"  # of the bridge matrix to one number a concept
WEIGHTING = "weighting"  # of the density of modality scores: concepts | energy
EVERY_METHOD = "every_method"  # of the overview: all rows of the stored results
RELATIVE = "relative"  # cumulative energy over the share of the dictionary instead of a number of concepts
K = "k"  # cut-off of recall
KS = "ks"  # all cut-offs that are measured
FIND = "find"  # words in the queries that are listed, or the number of one
MODALITY = "modality"
ENERGY = "energy"
FREQUENCY = "frequency"
BY = "by"  # label of the score whose percentiles filter the concepts
PERCENTILE = "percentile"
ALIVE = "alive"
NAMED = "named"  # concepts whose name holds on unseen samples, or those without
DENSITY = "density"  # sparse | dense | constant concepts
EFFECT = "effect"  # concepts that hurt or help recall
SORT = "sort"
ORDER = "order"
PAGE = "page"
COLOR = "color"
SCORE = "score"
DEFINITION = "definition"
POOL = "pool"  # candidates of the retrieval lab: local | global
SHOW = "show"
BARE = "bare"  # 1: the view without header and controls, for an iframe
SEARCH = "search"  # words in findings
TAG = "tag"  # of findings
AUTHOR = "author"  # of findings
EXAMPLE = "example"  # where the example of a search comes from: the data, or the visitor
SAMPLE = "sample"  # row of a sample of the store
TOKEN = "token"  # of the Concept page: row and position of the token that was clicked, with a dot between them
AGGREGATION = "aggregation"  # of a concept over the tokens of a sample: max token | mean of tokens | pooled
COUNTED = "counted"  # tokens that count for it: content | all
RANKED = "ranked"  # of bridges: beyond the null | raw
APART = "apart"  # of bridges: without those of a concept to itself
PROJECTION = "projection"  # of the map: UMAP | PCA | energies
ONLY_COLLECTED = "only_collected"  # of the concept browser: nothing but the collection
LISTED = "listed"  # of a comparison of stores: twins | only here | only there

OWNED = (
    STORE,
    STORES,
    OTHER,
    CONCEPT,
    OTHER_CONCEPT,
    TASK,
    QUERY,
    METHOD,
    ALSO,
    CHANGED,
    CURVE,
    WHY,
    MASK,
    TEXT,
    UPLOAD,
    SOURCE,
    RUN,
    BESIDE,
    MODEL,
    DEVICE,
    DTYPE,
    COLLECTION,
    FINDING,
    TAB,
    SECTION,
    LIKE,
    VIEW,
    WORDS,
    PAIR,
    OF,
    TOKEN,
    LABELS,
    COLLECTED,
)
KNOWN = frozenset(value for name, value in dict(globals()).items() if name.isupper() and isinstance(value, str))
LONGEST, MOST_VALUES = 4000, 20  # characters of a value, values of a parameter: what links and pins keep
_MEMORY = "_last_values"
_SHOWN = "_shown_values"
_NOTICES, _ONCE, _NEXT = "_notices", "_looked_up", "_said_next"
Found = TypeVar("Found")
_NAMED, _CHOSEN, _SEEN = "_named_in_address", "_chosen_params", "_seen_views"
MOST_VIEWS = 200  # addresses of a visit whose view comes back as it was
_BOUND = "_bound_values"
_LINK = "_link_slot"


@dataclass(frozen=True)
class PageInfo:
    """One row of the navigation. Its key is the stem of its file in pages/ and its address."""

    title: str
    icon: str
    help: str
    params: tuple[str, ...] = ()  # which owned keys the page's address carries
    kept: tuple[str, ...] = ()  # bound keys that come back when the visitor does, also by the browser's back button
    hidden: bool = False  # not in the navigation


PAGES: dict[str, PageInfo] = {
    "overview": PageInfo(
        "Overview", ":material/insights:",
        "The three findings, all models overlaid, and the model cards.", (STORES, TASK),
    ),
    "concepts": PageInfo(
        "Concepts", ":material/grid_view:",
        "All concepts of one model: table, map, histogram and effect, with search and filters.",
        (STORE, TASK, VIEW, WORDS, LABELS, COLLECTED),
        (SORT, ORDER, MODALITY, ENERGY, FREQUENCY, BY, PERCENTILE, ALIVE, NAMED, DENSITY, EFFECT, EXAMPLE,
         ONLY_COLLECTED, PROJECTION, SAMPLE, PAGE, COLOR, SCORE),
    ),
    "concept": PageInfo(
        "Concept", ":material/center_focus_strong:",
        "One concept: its pictures and captions, scores, neighbours, partners and effect on retrieval.",
        (STORE, CONCEPT, TASK, SECTION, TOKEN, LIKE, LABELS, COLLECTED), (AGGREGATION, COUNTED),
    ),
    "bridges": PageInfo(
        "Bridges", ":material/conversion_path:",
        "Which concepts of pictures go with which concepts of captions, and on which pairs.",
        (STORE, VIEW, OF, PAIR, LABELS), (RANKED, APART),
    ),
    "compare": PageInfo(
        "Compare", ":material/compare:",
        "Two stores or two concepts side by side: concept twins, and what only one of them has.",
        (STORE, OTHER, CONCEPT, OTHER_CONCEPT, LABELS), (LISTED,),
    ),
    "retrieval_lab": PageInfo(
        "Retrieval lab", ":material/science:",
        "Recall before and after an intervention, per query and over all.",
        (STORE, TASK, TAB, QUERY, METHOD, ALSO, CHANGED, CURVE, WHY, STORES),
    ),
    "live_query": PageInfo(
        "Live query", ":material/image_search:",
        "Your own picture and text: mask tokens, remove concepts, whiten, and watch the ranking.",
        (STORE, TASK, QUERY, CONCEPT, METHOD, MASK, WHY, TEXT, UPLOAD, SOURCE, RUN, BESIDE, MODEL, DEVICE, DTYPE),
    ),
    "findings": PageInfo(
        "Findings", ":material/keep:",
        "What was pinned: in order, with notes, to present and to export.", (COLLECTION, FINDING), (SEARCH, TAG, AUTHOR),
    ),
    "reproduce": PageInfo(
        "Reproduce", ":material/fact_check:",
        "Every published number beside the one measured here.", (STORE,),
    ),
    "present": PageInfo(
        "Present", ":material/slideshow:", "Findings on the whole screen, one a slide.",
        (COLLECTION, FINDING), hidden=True,
    ),
    "stores": PageInfo(
        "Stores", ":material/database:",
        "What is in the cache, whether it is sound, and how to build what is missing.",
    ),
}  # fmt: skip

DEFAULT_PAGE = "overview"  # served at the root as well


def file_of(page: str) -> str:
    """Where the page stands, relative to app.py: "pages/concepts.py"."""
    return f"pages/{page}.py"


# --- owned keys ---------------------------------------------------------------------------------------------------
def get(key: str) -> str | None:
    """The value in the URL, else the one this session used last, else None."""
    raw = address(key)
    return _memory().get(key) if raw is None else raw


def chosen(key: str) -> str | None:
    """The value that an address or the visitor chose, without what another page showed by itself."""
    return get(key) if key in st.query_params or key in _chosen() else None


def put(key: str, value: object) -> None:
    """Choose a value: write it to the URL and to the session's memory. None removes it from both."""
    if value is None:
        _memory().pop(key, None)
        _named().discard(key)
        _chosen().discard(key)
        if key in st.query_params:
            del st.query_params[key]
        return
    text = str(value)
    if st.query_params.get(key) != text:
        st.query_params[key] = text
    _named().add(key)
    _choose(key, text)


def put_together(values: Mapping[str, object]) -> None:
    """Several values as one step of the browser's back button."""
    texts = {key: None if value is None else str(value) for key, value in values.items()}
    params = {key: st.query_params.get_all(key) for key in st.query_params if key not in texts}
    st.query_params.from_dict(params | {key: [text] for key, text in texts.items() if text is not None})
    for key, text in texts.items():
        put(key, text)


def keep(key: str, value: object, *, default: object, alias: bool = False) -> None:
    """The value in effect. The address changes only where it says something else, or nothing although this is not the
    default: each change of it is a step of the browser's back button. alias: what it says means the same."""
    named = key in st.query_params
    if (alias and named) or (not named and str(value) == str(default)):
        _memory()[key] = str(value)
        if not named:
            _chosen().discard(key)
    else:
        put(key, value)


def address(key: str) -> str | None:
    """The value in the URL alone, without what this session used last."""
    raw = st.query_params.get(key)
    if raw is not None and len(raw) > LONGEST:
        notice(
            f"The link's {key} has {len(raw):,} characters; the first {LONGEST:,} are read: this is not all it asks for."
        )
    return None if raw is None else raw[:LONGEST]


def imply(key: str, value: str) -> None:
    """What the rest of the address says of an owned key that it does not name: it holds, and the address stays as it is."""
    if key not in st.query_params:
        _choose(key, value)


def shows(key: str, value: object) -> None:
    """The page shows this value though nobody chose it: links to the view carry it, the page itself does not read it back."""
    st.session_state.setdefault(_SHOWN, {})[key] = str(value)


def get_int(key: str, *, low: int, high: int, default: int, what: str) -> int:
    """An integer in [low, high]; anything else leaves a notice that names `what` and gives the default."""
    raw = get(key)
    if raw is None:
        return default
    try:
        value = int(raw)
    except ValueError:
        value = low - 1
    if low <= value <= high:
        return value
    notice(
        f"The link asks for {what} {shown(raw)}, expected a whole number from {low:,} to {high:,}; showing {default:,}."
    )
    return default


def enter(page: str) -> None:
    """Start of a page: take the owned keys of other pages out of the address (the session still remembers them), and bring
    back the page's kept widgets when the visitor returns by the browser's back button, where Streamlit resets them."""
    if page not in PAGES:
        raise AnalysisError(f"The page {page!r} has no row in PAGES of pages/components/shared/state.py; add one.")
    previous, st.session_state["_page"] = st.session_state.get("_page"), page
    st.session_state.pop(_SHOWN, None)
    if previous != page:
        st.session_state.pop(_BOUND, None)
    _follow(page, previous)
    st.session_state[_NAMED] = {key for key in st.query_params if key in OWNED}
    for key in PAGES[page].params:  # other pages go on from what this one shows
        if key in st.query_params:
            _choose(key, st.query_params[key][:LONGEST])
    kept = PAGES[page].kept
    if previous not in (None, page) and not any(key in st.query_params for key in kept):
        values = {key: st.session_state[key] for key in kept if key in st.session_state}
        if values:
            st.session_state.update(values)
            st.rerun()
    for key in OWNED:
        if key not in PAGES[page].params and key in st.query_params:
            _choose(key, st.query_params[key])
            del st.query_params[key]


def _follow(page: str, previous: str | None) -> None:
    """Make what the session remembers agree with the address. A view that was shown before, which the browser's buttons
    lead to, is shown as it was. What an address of the same page no longer says does not hold any more. Coming from
    another page by its name alone, the visitor brings along what was chosen there, and the address says so."""
    params, memory = PAGES[page].params, _memory()
    dropped = _named() - set(st.query_params) if previous == page else set()
    seen = st.session_state.get(_SEEN, {}).get(_address(page)) if len(st.query_params) else None
    if seen is not None:
        for key in params:
            memory.pop(key, None)
        memory.update(seen)
        return
    for key in dropped:
        memory.pop(key, None)
    brought = {key: memory[key] for key in params if key in memory and key in _chosen()}
    if previous not in (None, page) and not len(st.query_params) and brought:
        put_together(brought)


def _address(page: str) -> tuple[str, ...]:
    return page, *(f"{key}={value}" for key in sorted(st.query_params) for value in st.query_params.get_all(key))


def _remember_view(page: str) -> None:
    """What the session remembers of the page's keys belongs to its address, whatever is chosen later."""
    seen: dict[tuple[str, ...], dict[str, str]] = st.session_state.setdefault(_SEEN, {})
    seen[_address(page)] = {key: _memory()[key] for key in PAGES[page].params if key in _memory()}
    while len(seen) > MOST_VIEWS:
        seen.pop(next(iter(seen)))


def bare() -> bool:
    """Whether this visitor sees views without header and controls: asked for once, it holds for the whole visit, because
    links inside the frame do not repeat it."""
    if st.query_params.get(BARE) == "1":
        st.session_state["_bare"] = True
    return bool(st.session_state.get("_bare"))


def page_in_view() -> str:
    """Its key in PAGES; "" before a page has begun."""
    return st.session_state.get("_page", "")


def _named() -> set[str]:
    """Owned keys that the address of this page carried when it was last drawn or written."""
    return st.session_state.setdefault(_NAMED, set())


def _chosen() -> set[str]:
    """Remembered keys that a visitor or an address has chosen, not a page by itself."""
    return st.session_state.setdefault(_CHOSEN, set())


def _choose(key: str, value: str) -> None:
    _memory()[key] = value
    _chosen().add(key)


def _memory() -> dict[str, str]:
    return st.session_state.setdefault(_MEMORY, {})


# --- bound keys -------------------------------------------------------------------------------------------------------
def bound(key: str, words: Callable[[Any], str] = str) -> dict[str, Any]:
    """Arguments of a widget whose value stands in the address: `st.toggle("Relative", **state.bound(state.RELATIVE))`.

    words: how one value is written there, the widget's own `format_func` where it has one.
    """
    st.session_state.setdefault(_BOUND, {})[key] = words
    return {"key": key, "bind": "query-params"}


def placed(
    key: str, default: str, options: Sequence[str] = (), then: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Arguments of a widget whose value is a place of its own, a step of the browser's back button; the value of a bound one
    replaces the address instead. options: what it may be, anything where there are none; then: after a change."""
    value = get(key)
    if value is None or (options and value not in options):
        value = default
    st.session_state[key] = value
    st.session_state.setdefault(_BOUND, {})[key] = str

    def changed() -> None:
        chosen = st.session_state[key]
        put(key, None if chosen in (None, "", default) else chosen)
        if then is not None:
            then()

    return {"key": key, "on_change": changed}


def _bound_params() -> dict[str, list[str]]:
    """What the bound widgets of the view hold, as Streamlit writes it into the address; empty ones are left out."""
    found: dict[str, list[str]] = {}
    for key, words in st.session_state.get(_BOUND, {}).items():
        value = st.session_state.get(key)
        if isinstance(value, bool):
            found[key] = [str(value).lower()]
        elif isinstance(value, list | tuple):
            found[key] = [words(part) for part in value]
        elif value is not None and value != "":
            found[key] = [words(value)]
    return found


def check_number(key: str, *, low: float, high: float, default: float, what: str) -> None:
    """Leave a notice when the URL's value for a bound slider or number is no number in [low, high]."""
    raw = st.query_params.get(key)
    if raw is None:
        return
    try:
        value = float(raw)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        fallback = f"{default:g}" if math.isnan(value) else f"{min(max(value, low), high):g}"
        notice(f"The link asks for {what} {shown(raw)}, expected {low:g} to {high:g}; showing {fallback}.")


def check_choice(key: str, options: Sequence[str], *, default: str, what: str) -> None:
    """Leave a notice when the URL's value for a bound picker is none of its options."""
    raw = st.query_params.get(key)
    if raw is not None and raw not in options:
        notice(f"The link asks for {what} {shown(raw)}, expected one of {', '.join(options)}; showing {default}.")


def notice(sentence: str) -> None:
    """One sentence for the visitor, below the controls row; the same sentence once a run."""
    found, slot = st.session_state.setdefault(_NOTICES, ([], None))
    if sentence not in found:
        found.append(sentence)
        if slot is not None:
            _show_notice(slot, sentence)


def say_next(sentence: str) -> None:
    """What the next run of the page tells in passing: a toast of this one would be gone with it."""
    st.session_state[_NEXT] = sentence


def begin_notices() -> None:
    """Start of a run: nothing to say yet, nothing looked up."""
    if (sentence := st.session_state.pop(_NEXT, None)) is not None:
        st.toast(sentence, icon=":material/keep:")
    st.session_state.pop(_NOTICES, None)
    st.session_state[_ONCE] = {}


def once(key: Hashable, look_up: Callable[[], Found]) -> Found:
    """What was looked up in this run of the page, looked up at most once in it."""
    found = st.session_state.get(_ONCE)
    if found is None:
        return look_up()
    if key not in found:
        found[key] = look_up()
    return found[key]


def place_notices(slot: Any) -> None:
    """Show in this container what was noticed so far, and what will be further down the page."""
    found, _ = st.session_state.setdefault(_NOTICES, ([], None))
    st.session_state[_NOTICES] = (found, slot)
    for sentence in found:
        _show_notice(slot, sentence)


def _show_notice(slot: Any, sentence: str) -> None:
    slot.warning(safe.sentence(sentence), icon=":material/link_off:")


def shown(raw: str) -> str:
    """A value from the URL as it may stand in a sentence: quoted, bounded, on one line."""
    text = " ".join(raw.split())
    return f"\N{LEFT DOUBLE QUOTATION MARK}{text[:60]}{'…' if len(text) > 60 else ''}\N{RIGHT DOUBLE QUOTATION MARK}"


# --- links --------------------------------------------------------------------------------------------------------
def page_url(page: str, **params: object) -> str:
    """Relative address of a page with its parameters, e.g. for a picture that links to a concept."""
    query = urlencode({key: str(value) for key, value in params.items() if value is not None}, safe="/,")
    path = "./" if page == DEFAULT_PAGE else page
    return f"{path}?{query}" if query else path


def place_link(page: str, slot: Any) -> None:
    """Show the link to the view in this container, now and again when the whole page has been drawn."""
    st.session_state[_LINK] = page, slot
    write_link()


def write_link() -> None:
    """Write the link anew: widgets further down the page stand in it as well, and a fragment changes some of them."""
    page, slot = st.session_state.get(_LINK, ("", None))
    if page and page == page_in_view():
        _remember_view(page)
    if slot is not None and page == page_in_view() and not bare():  # a page without a row of controls has none
        slot.code(here(page), language=None, wrap_lines=True)


def here(page: str) -> str:
    """The address of the view in front of the visitor, complete: also what is there by default."""
    base = (st.context.url or "").split("?")[0]
    return f"{base}?{urlencode(view_params(page), doseq=True, safe='/,')}"


def page_link(page: str, label: str, *, icon: str | None = None, help: str | None = None, **params: object) -> None:
    """A link to another page; a page that runs without the router shows an ordinary link instead. For a link to other
    parameters of the page in view use `view_button`: Streamlit draws links to the current page as chosen."""
    query = {key: str(value) for key, value in params.items() if value is not None}
    try:
        st.page_link(file_of(page), label=label, icon=icon, help=help, query_params=query)
    except StreamlitPageNotFoundError:
        st.markdown(f"[{label}](/{page_url(page, **query)})")


def view_button(
    label: str, *, place: str, icon: str | None = None, shortcut: str | None = None, **params: object
) -> None:
    """A quiet button that sets owned parameters of the page in view. place: tells apart equal buttons of one page."""
    key = "_".join(["view", place, *(f"{name}={value}" for name, value in params.items())])

    def go() -> None:
        for name, value in params.items():
            put(name, value)

    st.button(label, key=key, type="tertiary", icon=icon, shortcut=shortcut, on_click=go)


def open_page(page: str, **params: object) -> None:
    """Go to another view now (from a click on a chart or a table row)."""
    st.switch_page(file_of(page), query_params={key: str(value) for key, value in params.items() if value is not None})


def view_params(page: str) -> dict[str, list[str]]:
    """The parameters of the view in front of the visitor, as links and pinned findings keep them."""
    known = _memory() | st.session_state.get(_SHOWN, {})
    owned = {key: [known[key]] for key in PAGES[page].params if key in known}
    named = {key: st.query_params.get_all(key)[:MOST_VALUES] for key in st.query_params if key in KNOWN}
    named = {key: [value[:LONGEST] for value in values] for key, values in named.items()}
    whole = {key: owned[key] for key in (STORE, STORES) if key in owned}  # the address may say the backbone alone
    return owned | _bound_params() | named | whole
