"""Everything that is kept between reruns. The only module with caches; every one is bounded.

Stores are keyed by a stamp of their files (names, sizes, times), so a store that is rebuilt, truncated or deleted while the
app runs is opened anew instead of being read through a stale memory map.
"""

from __future__ import annotations

import base64
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import cachetools
import numpy as np
import pandas as pd
import streamlit as st
from cachetools.keys import hashkey

from analysis import CACHE, CACHE_VARIABLE
from analysis.concepts import browse, examples
from analysis.errors import AnalysisError, StoreError
from analysis.store import Report, Store, StoreRef, TokenView, find_stores, open_store, verify
from analysis.store.notebook import Label, label_stamp, labels_since
from analysis.store.notebook import labels as read_labels
from pages.components.overview import sentences
from pages.components.shared import scores, state

if TYPE_CHECKING:
    from analysis.concepts.bridges import Meeting
    from analysis.concepts.evidence import Evidence
    from analysis.concepts.search import Index
    from analysis.concepts.tokens import Tokens
    from analysis.concepts.twins import Shared, Twins
    from analysis.demo.truth import Truth
    from analysis.query.distance import Usual
    from analysis.query.slot import ModelSlot
    from analysis.retrieval.evaluation.curves import Curves
    from analysis.retrieval.evaluation.diagnostics import Diagnostics, PairGap
    from analysis.retrieval.evaluation.lab import Lab, Measured
    from analysis.retrieval.interventions import Intervention, Step
    from analysis.retrieval.interventions.fitting import Fitted
    from analysis.retrieval.interventions.step import MapsRows
    from analysis.retrieval.task import RetrievalSpace
    from analysis.sae.checkpoint import Sae
    from analysis.store.read import Task

_NEAR = 50  # strongest samples looked through for each picture that is shown, before all are
SWEEP_SECONDS = 600.0
Drawn = TypeVar("Drawn")
Work = TypeVar("Work", bound=Callable[..., Any])
MODELS_VARIABLE = "RETRIEVALLENS_MODELS"  # what may be loaded beside the stores' models: names with commas, or "any"


def key_of(store: Store) -> tuple[str, str, str]:
    """What tells two open stores apart, also before and after a rescore: what is kept of a Store is found by it."""
    return str(store.path), store.manifest.created, store.derived.folder


def kept(most: int, says: str = "", *, by: int | None = None) -> Callable[[Work], Work]:
    """What a function gives is kept for all visitors, the last `most` of it; who asks for what is being made waits for it.

    says: what people read meanwhile, unless they read something already. by: the first so many arguments tell what is kept
    apart; without, all do. A cache of Streamlit is not used: it takes 80 microseconds to find what it keeps, this one two,
    and a page looks a hundred things up.
    """

    def keep(work: Work) -> Work:
        cached = cachetools.cached(
            cachetools.LRUCache(most),
            lambda *args, **options: _key(*args[:by], **options),
            condition=threading.Condition(),
        )(work)
        if not says:
            return cast(Work, cached)

        @wraps(work)
        def found(*args: Any, **options: Any) -> Any:
            if _told.get() or cached.cache_key(*args, **options) in cached.cache:
                return cached(*args, **options)
            before = _told.set(True)
            try:
                with st.spinner(says):
                    return cached(*args, **options)
            finally:
                _told.reset(before)

        found.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
        return cast(Work, found)

    return keep


_told: ContextVar[bool] = ContextVar("told", default=False)  # this run of a page has said what people wait for


def _key(*args: Any, **options: Any) -> Hashable:
    return hashkey(*(key_of(value) if isinstance(value, Store) else value for value in args), **options)


def cache_dir() -> Path:
    """The folder with the stores: $RETRIEVALLENS_CACHE, or `cache` in the working directory."""
    return Path(os.path.expanduser(os.environ.get(CACHE_VARIABLE) or CACHE)).absolute()


def notes_dir() -> Path:
    return cache_dir() / "notes"


def uploads_dir() -> Path:
    """Where the pictures of live queries are kept; from the first call on, what is over its time is deleted."""
    folder = cache_dir() / "uploads"
    _sweeper(str(folder))
    return folder


@kept(2)
def _sweeper(folder: str) -> threading.Thread:
    """Deletes pictures whose time is over, also while nobody comes."""
    from analysis.query import uploads

    def run() -> None:
        while True:
            try:
                uploads.sweep(Path(folder))
            except (OSError, AnalysisError) as error:  # a disk that is away may come back
                logging.getLogger(__name__).warning("Pictures of visitors could not be deleted: %s", error)
            time.sleep(SWEEP_SECONDS)

    thread = threading.Thread(target=run, daemon=True, name="uploads")
    thread.start()
    return thread


def store_id(store: Store | StoreRef) -> str:
    """How a store is named in a URL: <backbone>/<dataset>-<key>."""
    return f"{store.path.parent.name}/{store.path.name}"


# --- stores -------------------------------------------------------------------------------------------------------
def stores() -> list[StoreRef]:
    """Every store of the cache folder, also those that cannot be opened; looked for once in a run of a page."""
    folder = cache_dir()

    def look() -> list[StoreRef]:
        manifests = sorted(folder.glob("*/*/manifest.json"))
        return _find(str(folder), tuple((str(path), stamp(path.parent)) for path in manifests))

    return state.once(("stores", folder), look)


def open_ref(ref: StoreRef) -> Store:
    """The open store behind a reference. Raises StoreError with the reason when it cannot be opened (any more)."""
    if not ref.ok:
        raise StoreError(ref.problem)
    return _open(str(ref.path), stamp(ref.path))


def stamp(path: Path) -> int:
    """Changes whenever a file of the store does, looked up once in a run of a page. Thumbnails are left out: thousands of
    files that no array reads."""
    return state.once(("stamp", path), lambda: _stamp(path))


def _stamp(path: Path) -> int:
    found = []
    pending = [str(path)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        if entry.name != "thumbs":
                            pending.append(entry.path)
                    else:
                        facts = entry.stat()
                        found.append((entry.path, facts.st_size, facts.st_mtime_ns))
        except OSError:  # removed while we looked: the next open says what is missing
            found.append(("gone", 0, 0))
    return hash(tuple(sorted(found)))


@kept(4)
def _find(folder: str, stamps: tuple[tuple[str, int], ...]) -> list[StoreRef]:
    return find_stores(folder)


@kept(12)
def _open(path: str, stamp: int) -> Store:
    return open_store(path)


@kept(12)
def sae(store: Store) -> Sae:
    """The store's SAE (dictionary and encoder), read once; a large one is mapped."""
    return store.sae()


@kept(48)
def task(store: Store, name: str, pool: str) -> Task:
    """A task with the candidates of a pool."""
    from analysis.retrieval.task import task_in_pool

    return task_in_pool(store, name, pool)


def task_space(store: Store, task: str, pool: str = "local") -> RetrievalSpace:
    """Queries, candidates and qrels of one task, ready for search and interventions."""
    return (_small_space if is_small(store, task, pool) else _space)(store, task, pool)


SMALL = 32_000_000  # bytes of a task's embeddings and similarities up to which many tasks are kept in memory


@kept(512)
def is_small(store: Store, name: str, pool: str = "local") -> bool:
    """Whether many such tasks may be kept: visitors of a small cache look at all of its tasks, and each that was put away
    meanwhile is read and compared anew while others wait."""
    found = task(store, name, pool)
    n_queries, n_candidates = len(found.query_rows), len(found.candidate_rows)
    return 4 * (n_queries * n_candidates + (n_queries + n_candidates) * store.width) <= SMALL


@kept(48, "Reading the embeddings of this task")
def _small_space(store: Store, task: str, pool: str) -> RetrievalSpace:
    from analysis.retrieval.task import space_from_store

    return space_from_store(store, task, pool)


@kept(4, "Reading the embeddings of this task")
def _space(store: Store, task: str, pool: str) -> RetrievalSpace:
    from analysis.retrieval.task import space_from_store

    return space_from_store(store, task, pool)


@kept(48)
def usual_queries(store: Store, task: str) -> Usual | None:
    """How far from each other the queries of a task are, and what the SAE leaves of them; None for few queries."""
    from analysis.query.distance import usual

    return usual(task_space(store, task))


def fitted(store: Store, task: str, method: Intervention) -> Fitted:
    """An intervention fitted to one task: transformed candidates, and what transforms another query."""
    return (_small_fit if is_small(store, task, "local") else _fit)(store, task, method)


@kept(48, "Fitting the intervention")
def _small_fit(store: Store, task: str, method: Intervention) -> Fitted:
    from analysis.retrieval.interventions.fitting import fit

    return fit(method, task_space(store, task))


@kept(4, "Fitting the intervention")
def _fit(store: Store, task: str, method: Intervention) -> Fitted:
    from analysis.retrieval.interventions.fitting import fit

    return fit(method, task_space(store, task))


@kept(2)
def picture_files(store: Store) -> dict[str, Path]:
    """Files of the store's pictures as the data set holds them."""
    from analysis.query.originals import picture_files

    return picture_files(store)


@kept(1)
def model_slot() -> ModelSlot:
    """The one model of this server, shared by all visitors."""
    from analysis.query.slot import ModelSlot

    return ModelSlot()


def models_offered() -> tuple[tuple[str, ...], bool]:
    """(names of models that visitors may load, whether any other may be loaded too). The models of the stores, and what
    the owner allows in $RETRIEVALLENS_MODELS; a link changes neither."""
    allowed = [name.strip() for name in os.environ.get(MODELS_VARIABLE, "").split(",") if name.strip()]
    refs = tuple(ref for ref in stores() if ref.ok)
    made_by = _models(tuple((str(ref.path), stamp(ref.path)) for ref in refs))
    names = dict.fromkeys([*made_by, *(name for name in allowed if name != "any")])
    return tuple(names), "any" in allowed


@kept(4)
def _models(stores: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    from analysis.query.compatibility import request_for

    found = []
    for path, _ in stores:
        with suppress(AnalysisError):  # a store that broke since it was listed, or whose vectors were imported
            found.append(request_for(open_store(path)).name)
    return tuple(dict.fromkeys(found))


@kept(64)
def _size(path: str, stamp: int) -> int:
    from pages.components.shared.inventory import folder_size

    return folder_size(Path(path))[0]


def size(ref: StoreRef) -> int:
    """Bytes of a store on disk, thumbnails included."""
    return _size(str(ref.path), stamp(ref.path))


@kept(16, "Checking hashes, shapes and invariants")
def _verified(path: str, stamp: int) -> Report:
    return verify(path)


def verified(ref: StoreRef) -> Report:
    """The report of `analysis.store.verify`; asked again when a file has changed."""
    return _verified(str(ref.path), stamp(ref.path))


@kept(1)
def deep_learning() -> threading.Thread:
    """Starts importing torch and transformers, which takes seconds, while a visitor chooses a picture. Join it before
    using either: two threads that import the same library at once get in each other's way."""
    thread = threading.Thread(target=_import_deep_learning, daemon=True)
    thread.start()
    return thread


def _import_deep_learning() -> None:
    with suppress(ImportError):  # loading a model imports them again and says what is missing
        from transformers import AutoModel, AutoProcessor  # noqa: F401


# --- pictures -----------------------------------------------------------------------------------------------------
@kept(6000)
def picture(store: Store, row: int) -> str:
    """A sample's thumbnail as a data URI ("" without one). The stored WebP bytes go to the browser as they are: handing
    the path to st.image would decode and re-encode every picture at every rerun."""
    path = store.thumb_path(row)
    if path is None:
        return ""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


@kept(20_000)
def look(store: Store, row: int) -> np.ndarray | None:
    """A tiny copy of a sample's thumbnail, for telling near-duplicates; None without one."""
    path = store.thumb_path(row)
    return None if path is None else examples.tiny(path)


def distinct_pictures(store: Store, pictures: examples.Firing, count: int) -> examples.Firing:
    """The first `count` strongest pictures, nearly equal ones left out."""
    return examples.distinct_pictures(pictures, lambda row: look(store, row), count)


@kept(3000)
def strip(store: Store, rows: tuple[int, ...], side: int = 56, mark: str = "") -> str:
    """Some thumbnails side by side in one small picture, as a table cell shows them; "" when there is none. mark: a letter
    on a tile before them, white on the colour of captions."""
    import io

    from PIL import Image, ImageDraw, ImageFont

    from analysis.figures.palette import TEXT

    paths = [path for row in rows if (path := store.thumb_path(row)) is not None and path.is_file()]
    if not paths:
        return ""
    first = side // 2 if mark else 0
    sheet = Image.new("RGBA", (first + len(paths) * (side + 4) - 4, side))
    if mark:
        pen = ImageDraw.Draw(sheet)
        pen.rectangle((0, 0, first - 4, side), fill=TEXT)
        pen.text((first // 2 - 2, side // 2), mark, fill="white", anchor="mm", font=ImageFont.load_default(side // 3))
    for slot, path in enumerate(paths):
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((side, side))
        sheet.paste(small, (first + slot * (side + 4) + (side - small.width) // 2, (side - small.height) // 2))
    buffer = io.BytesIO()
    sheet.save(buffer, format="WEBP", quality=75, method=0)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@kept(10_000)
def face(store: Store, concept: int, count: int, side: int) -> tuple[str, str]:
    """(the strongest pictures of a concept side by side, what `faces` says of them)"""
    rows, mark = faces(store, concept, count)
    return strip(store, rows, side, mark), mark


@kept(512, by=2)
def drawn(store: Store, key: tuple[str | int | bool, ...], draw: Callable[[], Drawn]) -> Drawn:
    """A figure, table or sentence that follows from a store and a key, made once: Plotly checks every property of a figure,
    which takes longer than all else on a page. Whoever gets it changes nothing in it."""
    return draw()


@kept(1)
def chromium() -> str:
    """Path of the browser that draws pictures, once it was found. ReportError where there is none."""
    from analysis.report import browser

    return browser.chromium()


def drawn_together(stores: Sequence[Store], key: tuple[str | int | bool, ...], draw: Callable[[], Drawn]) -> Drawn:
    """`drawn` of what follows from several stores, in their order."""
    first, *others = stores
    return drawn(first, (*key, *(part for other in others for part in key_of(other))), draw)


# --- what concepts are read from ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Corpus:
    """Columns of the sample table that examples are chosen with."""

    kind: np.ndarray  # (N,) int8, see examples.kinds
    pair_id: np.ndarray  # (N,)
    texts: np.ndarray  # (N,) str
    n_images: int
    n_texts: int
    pair_images: np.ndarray  # (P,) pictures of each pair
    pair_texts: np.ndarray  # (P,) captions of each pair
    first_caption: np.ndarray  # (P,) row of the pair's first caption, -1 without
    first_picture: np.ndarray  # (P,) row of its picture, -1 without


@kept(12)
def corpus(store: Store) -> Corpus:
    samples = store.samples
    pair_id = samples["pair_id"].to_numpy()
    kind = examples.kinds(samples["modality"].to_numpy(), pair_id)
    n_pairs = int(pair_id.max(initial=-1)) + 1
    images, texts = (np.flatnonzero(kind == which) for which in (examples.IMAGE, examples.TEXT))
    first, picture_of = (examples.first_of_pairs(rows, pair_id) for rows in (texts, images))
    counts = [np.bincount(pair_id[rows][pair_id[rows] >= 0], minlength=n_pairs) for rows in (images, texts)]
    words = samples["text"].to_numpy(object)
    return Corpus(kind, pair_id, words, len(images), len(texts), counts[0], counts[1], first, picture_of)


PAIRS_OF_GAP = 1000


@kept(12)
def pair_gap(store: Store) -> PairGap:
    """Modality gap and cosines of at most PAIRS_OF_GAP pairs, drawn once: however large a store is, a few rows are read."""
    from analysis.retrieval.evaluation.diagnostics import pair_gap

    found = corpus(store)
    whole = np.flatnonzero((found.first_picture >= 0) & (found.first_caption >= 0))
    if len(whole) > PAIRS_OF_GAP:
        whole = np.sort(np.random.default_rng(0).choice(whole, PAIRS_OF_GAP, replace=False))
    embeddings = store.mapped_embeddings()
    images, texts = (
        np.asarray(embeddings[rows[whole]], np.float32) for rows in (found.first_picture, found.first_caption)
    )
    return pair_gap(images, texts)


@kept(12)
def ranks(store: Store) -> dict[str, np.ndarray]:
    """Score -> (K,) rank of every concept, 1 = largest; 0 where the score is missing."""
    table = store.concepts
    return {column: browse.ranks(table[column].to_numpy(float)) for column in scores.SCORES}


def untrained_median(store: Store, score: str) -> float | None:
    """A score in the untrained SAE of the same start: the median of its concepts. None where there is none."""
    return untrained_medians(store).get(score)


@kept(12)
def untrained_medians(store: Store) -> dict[str, float]:
    table = store.untrained
    return {} if table is None else {name: float(table[name].median()) for name in table}


def near(store: Store, concept: int, count: int) -> tuple[int, ...]:
    """The nearest live concepts by direction; where all that are stored are dead, those."""
    stored = store.neighbours[concept]
    live = stored[store.concepts["energy"].to_numpy()[stored] > 0]
    return tuple(int(other) for other in (live if len(live) else stored)[:count])


def cosines(store: Store, concept: int, others: tuple[int, ...]) -> list[float | None]:
    """Cosines of a concept's direction with others; None where the SAE is not at hand (the rest of the page works)."""
    try:
        dictionary = sae(store).dictionary
    except AnalysisError:
        return [None] * len(others)
    return [round(float(value), 4) + 0.0 for value in dictionary[list(others)] @ dictionary[concept]]


def partners(store: Store, concept: int) -> list[tuple[int, str, float, float]]:
    """(concept, side on which it fires, bridge, excess) of the bridges from a concept to others that exceed the
    permutation null, the largest excess first."""
    image, text, bridge, excess = _bridge_columns(store)
    rows = np.flatnonzero(((image == concept) | (text == concept)) & (image != text) & (excess > 0))
    rows = rows[np.argsort(-excess[rows], kind="stable")]
    return [
        (int(text[r]), "captions", float(bridge[r]), float(excess[r]))
        if image[r] == concept
        else (int(image[r]), "pictures", float(bridge[r]), float(excess[r]))
        for r in rows
    ]


@kept(12)
def _bridge_columns(store: Store) -> tuple[np.ndarray, ...]:
    return tuple(store.bridges[name].to_numpy() for name in ("image_concept", "text_concept", "bridge", "excess"))


@kept(12)
def _pair_rows(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the picture and of the caption of every pair that bridges are averaged over."""
    from analysis.build.rescore import pair_rows

    found = pair_rows(store)
    return found.pair_image, found.pair_text


@kept(48)
def meeting(store: Store, image_concept: int, text_concept: int) -> tuple[Meeting, np.ndarray, np.ndarray]:
    """Where two concepts meet, and the rows of the picture and the caption of those pairs, strongest first."""
    from analysis.concepts.bridges import meeting as meet

    values = []
    for concept, rows in zip((image_concept, text_concept), _pair_rows(store), strict=True):
        values.append(store.postings.activation(concept, store.n_samples)[rows])
    found = meet(*values)
    image, text = (rows[found.both] for rows in _pair_rows(store))
    return found, image, text


@kept(48, "Drawing the null of this pair")
def bridge(store: Store, image_concept: int, text_concept: int) -> pd.Series:
    """The row of the bridges of two concepts; computed where the pair is not among the strongest that the store keeps."""
    from analysis.concepts.bridges import bridge_between

    kept = store.bridges
    here = kept[(kept["image_concept"] == image_concept) & (kept["text_concept"] == text_concept)]
    if not len(here):
        image, text = _pair_rows(store)
        codes = store.codes[image], store.codes[text]
        here = bridge_between(*codes, sae(store).dictionary, image_concept, text_concept, groups=image)
    return here.iloc[0]


@kept(64, "Ranking with and without this concept")
def removal_effect(store: Store, task: str, concept: int) -> pd.DataFrame:
    """Recall without one concept beside the base, one row a method and k."""
    from analysis.retrieval.evaluation.evaluate import evaluate
    from analysis.retrieval.interventions import BASE, parse

    return evaluate(task_space(store, task), [BASE, parse(f"removal:concepts={concept}")], lab=lab(store, task))


@kept(4)
def token_views(store: Store) -> list[TokenView]:
    """Codes, roles and strings of every token of the samples they are kept of (a bounded set)."""
    return [view for row in store.token_rows if (view := store.token_view(int(row))) is not None]


@kept(4)
def tokens(store: Store) -> Tokens:
    """All tokens whose codes are kept, laid end to end."""
    from analysis.concepts.tokens import lay_out

    return lay_out(token_views(store))


@kept(500)
def patch_picture(store: Store, row: int, position: int) -> str:
    """A sample's picture with a frame around the patch of a token, as a data URI; the whole picture for another token."""
    import io

    from PIL import Image, ImageDraw

    from analysis.figures.palette import ACCENT

    view, path = store.token_view(row), store.thumb_path(row)
    if path is None or view is None or view.grid is None or view.cells is None or position not in view.cells:
        return picture(store, row)
    r, c = divmod(int(np.flatnonzero(view.cells == position)[0]), view.grid[1])
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    left, top, right, bottom = view.box
    across, down = (right - left) / view.grid[1], (bottom - top) / view.grid[0]
    corners = (left + c * across, top + r * down, left + (c + 1) * across, top + (r + 1) * down)
    sides = (image.width, image.height) * 2
    frame = [min(round(part * side), side - 1) for part, side in zip(corners, sides, strict=True)]
    pen = ImageDraw.Draw(image)
    pen.rectangle(frame, outline="white", width=max(3, image.width // 30))
    pen.rectangle(frame, outline=ACCENT, width=max(2, image.width // 45))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=80, method=0)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def description(store: Store, row: int) -> str:
    """What a sample shows in words: its own text, or the first caption of its picture."""
    known = corpus(store)
    text = str(known.texts[row])
    if not text and known.pair_id[row] >= 0:
        caption = int(known.first_caption[known.pair_id[row]])
        text = str(known.texts[caption]) if caption >= 0 else ""
    return text[:200]


def picture_of(store: Store, row: int) -> int:
    """Row of the picture that stands for a sample: its own, else the one that a caption describes, -1 without any."""
    if picture(store, row):
        return row
    known = corpus(store)
    pair = int(known.pair_id[row])
    shown = int(known.first_picture[pair]) if pair >= 0 else -1
    return shown if shown >= 0 and picture(store, shown) else -1


def top_rows(store: Store, concept: int, count: int) -> tuple[int, ...]:
    """Rows of the strongest pictures of a concept; none where it fires on captions only."""
    rows, values = store.postings.rows(concept)
    known = corpus(store).kind
    near = slice(0, _NEAR * count)  # a common concept fires on half of all samples; its first pictures stand in front
    pictures = examples.split(rows[near], values[near], known)[0]
    if len(pictures) < count and len(rows) > near.stop:
        pictures = examples.split(rows, values, known)[0]
    return tuple(int(row) for row in pictures.rows[:count])


@kept(10_000)
def faces(store: Store, concept: int, count: int) -> tuple[tuple[int, ...], str]:
    """(rows whose pictures stand for a concept, "T" where they are those that its strongest captions describe)"""
    rows = top_rows(store, concept, count)
    if rows:
        return rows, ""
    captions = examples.split(*store.postings.rows(concept), corpus(store).kind)[1].rows[: 5 * count]
    described = dict.fromkeys(picture_of(store, int(caption)) for caption in captions)
    return tuple(row for row in described if row >= 0)[:count], "T"


@kept(12)
def pictures_within(store: Store, concepts: tuple[int, ...], count: int, most: int) -> dict[str, list[str]]:
    """Concept -> its strongest pictures as data URIs, for the first concepts whose pictures fit into `most` bytes together."""
    found: dict[str, list[str]] = {}
    for concept in concepts:
        shown = [uri for row in faces(store, concept, count)[0] if (uri := picture(store, row))]
        most -= sum(map(len, shown))
        if most < 0:
            break
        if shown:
            found[str(concept)] = shown
    return found


# --- the overview's numbers ---------------------------------------------------------------------------------------
@kept(24, "Computing the density of modality scores")
def modality_density(store: Store, weighting: str) -> tuple[np.ndarray, np.ndarray]:
    """(grid, density) of the modality scores of live concepts, constant ones left out; weighting "concepts" or "energy"."""
    from analysis.concepts.kde import curve_of

    return curve_of(store.concepts, weighting)


@kept(12)
def modality_shares(store: Store) -> sentences.ModalityShares:
    from analysis.concepts.kde import outstanding

    found = sentences.modality_shares(store.concepts["modality_score"].to_numpy(), store.concepts["energy"].to_numpy())
    return dataclasses.replace(found, outstanding=tuple(outstanding(store.concepts)))


@kept(12)
def cumulative_energy(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """(n, share of the energy in the n strongest concepts)."""
    from analysis.concepts.metrics import cumulative_energy as cumulative

    return np.arange(1, store.n_concepts + 1), cumulative(store.concepts["energy"].to_numpy())


@kept(128)
def overlap(store: Store, share: float, bridge: str) -> dict[str, float]:
    """Jaccard overlaps of the top sets; bridge: a column of the concept table."""
    energy, attribution, bridges = (store.concepts[name].to_numpy() for name in ("energy", "attribution", bridge))
    return sentences.overlap(energy, attribution, bridges, share)


@kept(64)
def results(store: Store, task: str) -> pd.DataFrame | None:
    """Recall of the standard methods as measured when the store was built; None where it was not."""
    return store.results(task) if store.has(f"retrieval/{task}/results.parquet") else None


def short_names(stores: list[Store]) -> list[str]:
    """Names for legends: the backbone, with what tells stores of one backbone apart."""
    keys = [store.backbone for store in stores]
    labels = [store.label for store in stores]
    return [
        key if keys.count(key) == 1 else label if labels.count(label) == 1 else f"{label} {store.name[-12:-6]}"
        for key, label, store in zip(keys, labels, stores, strict=True)
    ]


# --- the browser --------------------------------------------------------------------------------------------------
def concept_ids(store: Store, filters: browse.Filters) -> np.ndarray:
    """Ids of the concepts that pass the filters, ascending."""
    matches = _relevance(store, filters.words, _labelled(store), whose()) > 0 if filters.words else None
    return browse.select(store.concepts, ranks(store)["energy"], filters, matches)


def relevance(store: Store, words: str) -> np.ndarray | None:
    """(K,) how well every concept fits the words, 0 for one that they do not find; None without words."""
    if not words:
        return None
    return _relevance(store, words, _labelled(store), whose())


@kept(64)
def _relevance(store: Store, words: str, labelled: int | None, author: str) -> np.ndarray:
    return _word_index(store).search(words, {concept: label.text for concept, label in labels(store).items()})


@kept(12, "Indexing the words of all concepts")
def _word_index(store: Store) -> Index:
    from analysis.concepts.search import build_index

    postings = store.postings
    return build_index(postings.offsets, postings.sample_rows, postings.values, said(store), _names(store))


@kept(12)
def said(store: Store) -> np.ndarray:
    """(N,) what each sample says: its text, or the first caption of its picture."""
    known = corpus(store)
    return browse.said_by(known.texts, known.pair_id, known.first_caption)


def found_because(store: Store, concepts: np.ndarray, words: str) -> list[str]:
    """Why a search found each of some concepts, in one line."""
    from analysis.concepts.search import EXAMPLES, why

    texts, people, automatic = said(store), labels(store), _names(store)
    lines = []
    for concept in map(int, concepts):
        rows = store.postings.rows(concept)[0][:EXAMPLES]
        label = people[concept].text if concept in people else ""
        lines.append(why(words, automatic[concept], label, [str(texts[row]) for row in rows]))
    return lines


@kept(64)
def shared_rows(store: Store, other: Store) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the samples that two stores both hold. DataError where there are none."""
    from analysis.concepts import twins

    return twins.shared_rows(store.samples, other.samples)


@kept(64, "Matching the concepts of two stores")
def twins(store: Store, other: Store) -> Twins:
    """Which concepts of two stores fire on the same samples."""
    from analysis.concepts.twins import find_twins

    here, there = shared_rows(store, other)
    return find_twins(store.codes[here], other.codes[there])


@kept(64, "Matching the concepts of two stores once more, samples shuffled")
def twins_by_chance(store: Store, other: Store) -> int:
    """How many twins two stores have when the samples of one are shuffled within pictures and captions."""
    from analysis.concepts.twins import twins_by_chance

    here, there = shared_rows(store, other)
    return twins_by_chance(store.codes[here], other.codes[there], corpus(store).kind[here])


@kept(32)
def side_by_side(store: Store, concept: int, other: Store, other_concept: int) -> Shared:
    """On which shared samples two concepts fire, together or alone."""
    from analysis.concepts.twins import compare_concepts

    here, there = shared_rows(store, other)
    return compare_concepts(store.codes[here], concept, other.codes[there], other_concept)


def second_sae(store: Store) -> Store | None:
    """Another SAE of the same model, data and unit (another seed or size), the first of them; None without."""
    for ref in stores():
        if ref.ok and ref.path != store.path and (ref.backbone, ref.label) == (store.backbone, store.label):
            try:
                other = open_ref(ref)
            except AnalysisError:  # removed since it was listed
                continue
            if other.config["sae"]["sha256"] != store.config["sae"]["sha256"]:
                return other
    return None


@kept(256)
def in_second_sae(store: Store, concept: int, other: Store) -> tuple[int, float]:
    """The concept of another SAE that fires most alike, and the correlation."""
    from analysis.concepts.twins import best_match

    here, there = shared_rows(store, other)
    return best_match(store.codes[here], concept, other.codes[there])


@kept(12, "Holding the concepts against the ground truth")
def truth(store: Store) -> Truth | None:
    """What each concept stands for by what the generator of the data knows; None for other data."""
    from analysis.demo.truth import truth_of

    return truth_of(store)


@kept(3, "Reading the words of all samples")
def _evidence(store: Store) -> Evidence:
    from analysis.build.rescore import pair_rows
    from analysis.build.score import evidence_of

    return evidence_of(store.samples["text"].tolist(), pair_rows(store))


@kept(256)
def label_f1(store: Store, concept: int, text: str) -> float:
    """What a label predicts on samples that no model was shown; NaN where that cannot be tested."""
    from analysis.concepts.held_out import label_f1

    modality = float(store.concepts["modality_score"].iat[concept])
    return label_f1(store.codes, _evidence(store), concept, modality, text)


@kept(12)
def _lengths(store: Store, kind: int) -> np.ndarray:
    from analysis.concepts.coactivation import lengths

    return lengths(store.codes, np.flatnonzero(corpus(store).kind == kind))


def firing_together(store: Store, concept: int, kind: int, count: int) -> list[tuple[int, float]]:
    """(concept, cosine of the activations) of those that fire on the same pictures (kind examples.IMAGE) or captions."""
    from analysis.concepts.coactivation import together

    rows, values = store.postings.rows(concept)
    here = corpus(store).kind[rows] == kind
    if not here.any():
        return []
    cosine = together(store.codes, np.sort(rows[here]), values[here][np.argsort(rows[here])], _lengths(store, kind))
    cosine[concept] = 0
    best = np.argsort(-cosine, kind="stable")[:count]
    return [(int(other), float(cosine[other])) for other in best if cosine[other] > 0]


@kept(12, "Projecting the directions")
def principal_map(store: Store) -> np.ndarray:
    """(K, 2) the directions of the live concepts on their two principal components, NaN for others."""
    from analysis.concepts.map2d import concept_map

    return concept_map(sae(store).dictionary, alive=store.concepts["energy"].to_numpy() > 0, method="pca")


@kept(12)
def _names(store: Store) -> list[str]:
    return [str(name or "") for name in store.concepts["name"].to_numpy()]


# --- labels -------------------------------------------------------------------------------------------------------
def labels(store: Store) -> dict[int, Label]:
    """What people called this SAE's concepts, or the one author that the address names; read again when a label was added.
    Those that were read before where the notes cannot be read now."""
    author, sha = whose(), str(store.config["sae"]["sha256"])
    return state.once(("labels", notes_dir(), sha, author), lambda: _labels_now(store, sha, author))


def _labels_now(store: Store, sha: str, author: str) -> dict[int, Label]:
    if author:
        stamp = _labelled(store)
        return {} if stamp is None else _labels_by(str(notes_dir()), sha, author, stamp)
    book = _label_book(str(notes_dir()), sha)
    with book.lock:
        stamp = _labelled(store)
        if stamp is None:
            return book.labels
        if stamp > book.stamp > 0:  # only what is new is read: a hundred thousand labels take a second
            found = book.labels | labels_since(notes_dir(), sha, book.stamp)
            book.labels = {concept: label for concept, label in found.items() if label.text}
        elif stamp != book.stamp:
            book.labels = read_labels(notes_dir(), sha)
        book.stamp = stamp
        return book.labels


def whose() -> str:
    """The author whose labels alone count, "" for everybody's."""
    return state.get(state.LABELS) or ""


@kept(24)
def _labels_by(notes: str, sha: str, author: str, stamp: int) -> dict[int, Label]:
    return read_labels(Path(notes), sha, author=author)


def _labelled(store: Store) -> int | None:
    """Number of the last label. None, and a sentence on the page, where the notes cannot be read: the page needs them least."""
    sha, notes = str(store.config["sae"]["sha256"]), notes_dir()

    def stamp() -> int | None:
        try:
            return label_stamp(notes, sha)
        except StoreError as error:
            state.notice(f"Labels that people gave are left out: {error}")
            return None

    return state.once(("stamp of the labels", notes, sha), stamp)


@dataclass
class LabelBook:
    """Labels of an SAE up to a stamp."""

    labels: dict[int, Label]
    stamp: int = -1
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


@kept(12)
def _label_book(notes: str, sha: str) -> LabelBook:
    return LabelBook({})


def concept_name(store: Store, concept: int) -> str:
    """The label that somebody gave, else the automatic name, else ""."""
    return concept_names(store, [concept])[0]


def concept_names(store: Store, concepts: Sequence[int] | np.ndarray) -> list[str]:
    """`concept_name` of many: the labels are looked up once."""
    known, automatic = labels(store), state.once(("names", key_of(store)), lambda: _names(store))
    return [known[int(i)].text if int(i) in known else automatic[int(i)] for i in concepts]


@kept(12, "Reading the results of this store")
def reproduction(store: Store) -> pd.DataFrame:
    """Every published number beside the one of a store."""
    from analysis.report.reproduce import reproduction_table

    return reproduction_table(store=store)


# --- retrieval lab ------------------------------------------------------------------------------------------------
@kept(1)
def plugin_problems() -> tuple[str, ...]:
    """Registers the steps that $RETRIEVALLENS_PLUGINS names, once a server; one sentence for each that cannot be used."""
    from analysis.retrieval.interventions import load_named_plugins

    return tuple(load_named_plugins())


def lab(store: Store, task: str, pool: str = "local") -> Lab:
    """One task with its similarities in memory. A hybrid's partner is named by its store id."""
    return (_small_lab if is_small(store, task, pool) else _large_lab)(store, task, pool)


@kept(24, "Comparing all queries with all candidates")
def _small_lab(store: Store, task: str, pool: str) -> Lab:
    return _new_lab(store, task, pool)


@kept(2, "Comparing all queries with all candidates")
def _large_lab(store: Store, task: str, pool: str) -> Lab:
    return _new_lab(store, task, pool)


def _new_lab(store: Store, task: str, pool: str) -> Lab:
    import analysis.retrieval.ranking.rank_kernels  # noqa: F401  # many rankings follow: worth numba's second of import
    from analysis.retrieval.evaluation.lab import Lab

    return Lab(task_space(store, task, pool), lambda name: task_space(by_id(name, store.dataset), task, pool))


def by_id(name: str, dataset: str) -> Store:
    """The store of an id, or the first one of a backbone on a data set. StoreError when there is none."""
    for ref in sorted(stores(), key=lambda ref: "token SAE" in ref.label):
        if ref.ok and (name in (store_id(ref), ref.path.name) or (name, dataset) == (ref.backbone, ref.dataset)):
            return open_ref(ref)
    raise StoreError(f"There is no store {name!r} in {cache_dir()}; the page Stores lists what there is.")


def measured(store: Store, task: str, method: Intervention, pool: str = "local") -> Measured:
    """Ranks of all targets under an intervention. Each random seed is measured and kept by itself: a visitor who moves on
    meanwhile waits for one seed, not for ten."""
    from analysis.retrieval.evaluation.lab import together

    seeds = method.seeds()
    if len(seeds) == 1:
        return _measured(store, task, method, pool)
    return together(method, [_measured(store, task, seed, pool) for seed in seeds])


def _measured(store: Store, task: str, method: Intervention, pool: str) -> Measured:
    return (_small_measured if is_small(store, task, pool) else _large_measured)(store, task, method, pool)


@kept(2048, "Ranking every candidate for every query")
def _small_measured(store: Store, task: str, method: Intervention, pool: str) -> Measured:
    return lab(store, task, pool).measure(method)


@kept(256, "Ranking every candidate for every query")
def _large_measured(store: Store, task: str, method: Intervention, pool: str) -> Measured:
    return lab(store, task, pool).measure(method)


@kept(512)
def directions_removed(store: Store, task: str, projection: MapsRows, pool: str) -> int:
    """How many directions a projection removes from a task's embeddings."""
    return lab(store, task, pool).projection(projection)[1]


@kept(512, "Drawing bootstrap samples")
def recall(
    store: Store,
    task: str,
    methods: tuple[Intervention, ...],
    ks: tuple[int, ...],
    definition: str,
    pool: str = "local",
) -> pd.DataFrame:
    """Recall of interventions with intervals and paired differences to the base, one row a method and k."""
    from analysis.retrieval.evaluation.evaluate import recall_frame
    from analysis.retrieval.interventions import BASE

    base, *others = (measured(store, task, method, pool) for method in (BASE, *methods))
    return recall_frame(base, others, ks=ks, definition=definition)


@kept(64)
def masking(store: Store, task: str, k: int, definition: str, pool: str) -> tuple[pd.DataFrame, pd.Series | None]:
    """Recall under the masks of the paper's Figure 4, and the prompt's mask beside the image's, see `masking_table`."""
    from analysis.retrieval.evaluation.masking import image_or_prompt, masking_table

    def ranks(method: Intervention) -> Measured:
        return measured(store, task, method, pool)

    space = task_space(store, task, pool)
    return masking_table(space, ranks, k=k, definition=definition), image_or_prompt(
        space, ranks, k=k, definition=definition
    )


@kept(256, "Measuring the curve")
def lab_curves(
    store: Store,
    task: str,
    setting: str,
    method: Intervention,
    ks: tuple[int, ...],
    definition: str,
    pool: str = "local",
) -> Curves:
    """Recall along a setting."""
    from analysis.retrieval.evaluation.curves import curves

    def one(point: Intervention) -> Measured:
        return measured(store, task, point, pool)

    return curves(lab(store, task, pool), setting, method, ks=ks, definition=definition, measure=one)


@kept(256)
def lab_band(
    store: Store,
    task: str,
    setting: str,
    method: Intervention,
    ks: tuple[int, ...],
    definition: str,
    pool: str = "local",
) -> pd.DataFrame | None:
    """The random control of a curve; each seed is kept by itself, as in `measured`."""
    from analysis.retrieval.evaluation.curves import control_band
    from analysis.retrieval.interventions import Intervention

    def along(drawn: Step, values: tuple[float, ...]) -> np.ndarray:
        return _recall_along(store, task, setting, Intervention((drawn,)), values, ks, definition, pool)

    return control_band(lab(store, task, pool), setting, method, ks=ks, definition=definition, along=along)


@kept(4096, "Measuring ten random controls")
def _recall_along(
    store: Store,
    task: str,
    setting: str,
    control: Intervention,
    values: tuple[float, ...],
    ks: tuple[int, ...],
    definition: str,
    pool: str,
) -> np.ndarray:
    from analysis.retrieval.evaluation.curves import recall_along

    (drawn,) = control.steps
    return recall_along(lab(store, task, pool), drawn, setting, values, ks=ks, definition=definition)


@kept(48, "Measuring hubs, spectrum and margins")
def diagnosis(store: Store, task: str, method: Intervention, pool: str = "local") -> Diagnostics:
    return lab(store, task, pool).diagnose(method)
