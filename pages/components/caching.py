"""Everything that is kept between reruns. The only module with st.cache_*; every cache is bounded.

Stores are keyed by a stamp of their files (names, sizes, times), so a store that is rebuilt, truncated or deleted while the
app runs is opened anew instead of being read through a stale memory map.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analysis.errors import AnalysisError, StoreError
from analysis.store import Store, StoreRef, TokenView, find_stores, open_store
from analysis.store.notebook import Label, label_stamp
from analysis.store.notebook import labels as read_labels
from pages.components import examples, scores

CACHE_VARIABLE = "RETRIEVALLENS_CACHE"


def cache_dir() -> Path:
    """The folder with the stores: $RETRIEVALLENS_CACHE, or `cache` in the working directory."""
    return Path(os.environ.get(CACHE_VARIABLE) or "cache").absolute()


def notes_dir() -> Path:
    return cache_dir() / "notes"


def store_id(store: Store | StoreRef) -> str:
    """How a store is named in a URL: <backbone>/<dataset>-<key>."""
    return f"{store.path.parent.name}/{store.path.name}"


# --- stores -------------------------------------------------------------------------------------------------------
def stores() -> list[StoreRef]:
    """Every store of the cache folder, also those that cannot be opened."""
    folder = cache_dir()
    manifests = sorted(folder.glob("*/*/manifest.json"))
    return _find(str(folder), tuple((str(path), stamp(path.parent)) for path in manifests))


def open_ref(ref: StoreRef) -> Store:
    """The open store behind a reference. Raises StoreError with the reason when it cannot be opened (any more)."""
    if not ref.ok:
        raise StoreError(ref.problem)
    return _open(str(ref.path), stamp(ref.path))


def stamp(path: Path) -> int:
    """Changes whenever a file of the store does. Thumbnails are left out: thousands of files that no array reads."""
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


@st.cache_resource(max_entries=4, show_spinner=False)
def _find(folder: str, stamps: tuple[tuple[str, int], ...]) -> list[StoreRef]:
    return find_stores(folder)


@st.cache_resource(max_entries=12, show_spinner=False)
def _open(path: str, stamp: int) -> Store:
    return open_store(path)


def key_of(store: Store) -> tuple[str, str]:
    """What tells two open stores apart: cached functions hash a Store by it."""
    return str(store.path), store.manifest.created


BY_KEY: dict[str | type[Any], Callable[[Any], Any]] = {Store: key_of}


@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs=BY_KEY)
def sae(store: Store) -> Any:
    """The store's SAE (dictionary and encoder), read once."""
    return store.sae()


@st.cache_resource(max_entries=4, show_spinner="Reading the embeddings of this task", hash_funcs=BY_KEY)
def task_space(store: Store, task: str) -> Any:
    """Queries, candidates and qrels of one task, ready for search and interventions (analysis.retrieval.spaces)."""
    from analysis.retrieval.spaces import space_from_store

    return space_from_store(store, task)


@st.cache_resource(max_entries=4, show_spinner="Fitting the intervention", hash_funcs=BY_KEY)
def fitted(store: Store, task: str, spec: str) -> Any:
    """An intervention (text form) fitted to one task: transformed candidates, and what transforms another query."""
    from analysis.retrieval.interventions import parse
    from analysis.retrieval.pipeline import fit

    return fit(parse(spec), task_space(store, task))


@st.cache_resource(max_entries=1, show_spinner=False, on_release=lambda slot: slot.unload())
def model_slot() -> Any:
    """The one model of this server, shared by all visitors (analysis.live.slot.ModelSlot)."""
    from analysis.live.slot import ModelSlot

    return ModelSlot()


# --- pictures -----------------------------------------------------------------------------------------------------
@st.cache_resource(max_entries=6000, show_spinner=False, hash_funcs=BY_KEY)
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


@st.cache_resource(max_entries=3000, show_spinner=False, hash_funcs=BY_KEY)
def strip(store: Store, rows: tuple[int, ...], side: int = 56) -> str:
    """Some thumbnails side by side in one small picture, as a table cell shows them; "" when there is none."""
    import io

    from PIL import Image

    paths = [path for row in rows if (path := store.thumb_path(row)) is not None and path.is_file()]
    if not paths:
        return ""
    sheet = Image.new("RGBA", (len(paths) * (side + 4) - 4, side))
    for slot, path in enumerate(paths):
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((side, side))
        sheet.paste(small, (slot * (side + 4) + (side - small.width) // 2, (side - small.height) // 2))
    buffer = io.BytesIO()
    sheet.save(buffer, format="WEBP", quality=75, method=0)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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


@st.cache_resource(max_entries=12, show_spinner=False, hash_funcs=BY_KEY)
def corpus(store: Store) -> Corpus:
    samples = store.samples
    pair_id = samples["pair_id"].to_numpy()
    kind = examples.kinds(samples["modality"].to_numpy(), pair_id)
    n_pairs = int(pair_id.max(initial=-1)) + 1
    images, texts = (np.flatnonzero(kind == which) for which in (examples.IMAGE, examples.TEXT))
    first, picture_of = (np.full(n_pairs, -1, np.int64) for _ in range(2))
    first[pair_id[texts][::-1]] = texts[::-1]
    picture_of[pair_id[images][::-1]] = images[::-1]
    counts = [np.bincount(pair_id[rows], minlength=n_pairs) for rows in (images, texts)]
    words = samples["text"].to_numpy(object)
    return Corpus(kind, pair_id, words, len(images), len(texts), counts[0], counts[1], first, picture_of)


@st.cache_resource(max_entries=12, show_spinner=False, hash_funcs=BY_KEY)
def ranks(store: Store) -> dict[str, np.ndarray]:
    """Score -> (K,) rank of every concept, 1 = largest; 0 where the score is missing."""
    table = store.concepts
    found = {}
    for column in scores.SCORES:
        values = table[column].to_numpy(float)
        order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")
        rank = np.empty(len(values), np.int64)
        rank[order] = np.arange(1, len(values) + 1)
        found[column] = np.where(np.isnan(values), 0, rank)
    return found


def cosines(store: Store, concept: int, others: tuple[int, ...]) -> list[float | None]:
    """Cosines of a concept's direction with others; None where the SAE is not at hand (the rest of the page works)."""
    try:
        dictionary = sae(store).dictionary
    except AnalysisError:
        return [None] * len(others)
    return [round(float(value), 4) + 0.0 for value in dictionary[list(others)] @ dictionary[concept]]


def partners(store: Store, concept: int) -> list[tuple[int, str, float, float]]:
    """(concept, side on which it fires, bridge, excess) of the strongest bridges through a concept, strongest first."""
    image, text, bridge, excess = _bridge_columns(store)
    rows = np.flatnonzero((image == concept) | (text == concept))
    rows = rows[np.argsort(-bridge[rows], kind="stable")]
    return [
        (int(text[r]), "captions", float(bridge[r]), float(excess[r]))
        if image[r] == concept
        else (int(image[r]), "pictures", float(bridge[r]), float(excess[r]))
        for r in rows
    ]


@st.cache_resource(max_entries=12, show_spinner=False, hash_funcs=BY_KEY)
def _bridge_columns(store: Store) -> tuple[np.ndarray, ...]:
    return tuple(store.bridges[name].to_numpy() for name in ("image_concept", "text_concept", "bridge", "excess"))


@st.cache_resource(max_entries=64, show_spinner="Ranking without this concept", hash_funcs=BY_KEY)
def removal_effect(store: Store, task: str, concept: int) -> pd.DataFrame:
    """Recall with and without one concept: k, base, recall, delta, delta_low, delta_high."""
    from analysis.retrieval.bootstrap import paired_difference
    from analysis.retrieval.recall import hits_of_ranks

    ks = (1, 5, 10)
    base, without = (
        hits_of_ranks(_target_ranks(store, task, spec), ks) for spec in ("base", f"removal:concepts={concept}")
    )
    change = paired_difference(without, base)
    return pd.DataFrame(
        {
            "k": ks, "base": base.mean(axis=0), "recall": without.mean(axis=0),
            "delta": change.value, "delta_low": change.low, "delta_high": change.high,
        }
    )  # fmt: skip


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=BY_KEY)
def _target_ranks(store: Store, task: str, spec: str) -> Any:
    from analysis.retrieval.interventions import parse
    from analysis.retrieval.pipeline import fit
    from analysis.retrieval.ranks import target_ranks
    from analysis.retrieval.scoring import RowScores

    space = task_space(store, task)
    found = fit(parse(spec), space)
    return target_ranks(RowScores(found.queries, found.candidates), space.qrels, exact_to=10).losing(found.void_queries)


@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs=BY_KEY)
def token_views(store: Store) -> list[TokenView]:
    """Codes, roles and strings of every token of the samples they are kept of (a bounded set)."""
    return [view for row in store.token_rows if (view := store.token_view(int(row))) is not None]


def description(store: Store, row: int) -> str:
    """What a sample shows in words: its own text, or the first caption of its picture."""
    known = corpus(store)
    text = str(known.texts[row])
    if not text and known.pair_id[row] >= 0:
        caption = int(known.first_caption[known.pair_id[row]])
        text = str(known.texts[caption]) if caption >= 0 else ""
    return text[:200]


# --- labels -------------------------------------------------------------------------------------------------------
def labels(store: Store) -> dict[int, Label]:
    """What people called this SAE's concepts; read again when a label was added."""
    sha = str(store.config["sae"]["sha256"])
    return _labels(str(notes_dir()), sha, label_stamp(notes_dir(), sha))


@st.cache_resource(max_entries=12, show_spinner=False)
def _labels(notes: str, sha: str, stamp: int) -> dict[int, Label]:
    return read_labels(Path(notes), sha)


def concept_name(store: Store, concept: int) -> str:
    """The label that somebody gave, else the automatic name, else ""."""
    label = labels(store).get(concept)
    return label.text if label else str(store.concepts["name"].iat[concept] or "")
