"""Everything that is kept between reruns. The only module with st.cache_*; every cache is bounded.

Stores are keyed by a stamp of their files (names, sizes, times), so a store that is rebuilt, truncated or deleted while the
app runs is opened anew instead of being read through a stale memory map.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from analysis.errors import StoreError
from analysis.store import Store, StoreRef, find_stores, open_store

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


# --- words --------------------------------------------------------------------------------------------------------
@st.cache_resource(max_entries=12, show_spinner=False, hash_funcs=BY_KEY)
def _first_captions(store: Store) -> dict[int, int]:
    """pair_id -> row of its first caption."""
    samples = store.samples
    captions = samples.index[(samples["modality"] == "text") & (samples["pair_id"] >= 0)]
    pairs = samples["pair_id"].to_numpy()[captions]
    return dict(zip(pairs[::-1].tolist(), captions[::-1].tolist(), strict=True))


def description(store: Store, row: int) -> str:
    """What a sample shows in words: its own text, or the first caption of its picture."""
    samples = store.samples
    text = samples["text"].iat[row]
    if text:
        return str(text)[:200]
    caption = _first_captions(store).get(int(samples["pair_id"].iat[row]))
    return "" if caption is None else str(samples["text"].iat[caption])[:200]
