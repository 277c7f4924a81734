"""What is asked on the live page: a picture by upload, camera or from the data, and a text."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from analysis.data.apart import Decoded, decode_apart
from analysis.data.pictures import thumbnail_webp
from analysis.data.samples import Sample
from analysis.query import uploads
from analysis.query.query import query_sample
from analysis.store import Store
from analysis.store.read import Task
from pages.components.shared import caching, commands, gallery, state

SOURCES = {"upload": "Upload", "camera": "Camera", "data": "Data"}
TYPES = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2"]
TAKEN = 4  # decoded uploads that a session keeps

OF_SESSION = 20  # pictures that one visit may keep on the server
_UPLOADED, _TAKEN, _NEW, _MINE, _RAW = "_live_upload", "_live_camera", "_live_new", "_live_mine", "_live_raw"
_OPENED = "_live_opened"
LINKED_TEXT = 480  # characters of a text that the address keeps


@dataclass(frozen=True)
class Asked:
    """One query as the visitor gave it. position: of the query in the task when it comes from the data; then a cached
    embedding answers it without a model."""

    picture: bytes | None = None
    name: str = ""
    file: str = ""  # of the picture, as a command names it: for an upload its name
    text: str = ""
    position: int | None = None
    row: int | None = None
    note: str = ""  # what to know about the picture
    kept: str = ""  # identity of the visitor's picture, see analysis.query.uploads
    lost: str = ""  # identity that the address names and nobody has any more

    def __bool__(self) -> bool:
        return not self.lost and (self.picture is not None or bool(self.text.strip()) or self.position is not None)

    @property
    def key(self) -> tuple[str, str]:
        return hashlib.sha256(self.picture or b"").hexdigest(), self.text


def ask(store: Store, task: Task) -> Asked:
    """Draw the inputs and return what they hold."""
    source = state.get(state.SOURCE) or ("data" if state.get(state.QUERY) and not state.get(state.TEXT) else "upload")
    if source not in SOURCES:
        state.notice(f"The link asks for a query by {state.shown(source)}, expected one of {', '.join(SOURCES)}.")
        source = "upload"
    st.session_state["_live_source"] = source
    st.radio(
        "Picture", list(SOURCES), format_func=SOURCES.__getitem__, key="_live_source",
        on_change=lambda: state.put(state.SOURCE, st.session_state["_live_source"]),
    )  # fmt: skip
    if source == "data":
        return from_data(store, task)
    caching.deep_learning()
    if source == "upload":
        held = st.file_uploader(
            "Drop a picture here",
            type=TYPES,
            key=_UPLOADED,
            on_change=_another,
            help="JPEG, PNG, WebP ... up to 60 megapixels",
        )
    else:
        held = st.camera_input("Take a picture", key=_TAKEN, on_change=_another)
    st.caption(
        _said_of_keeping(),
        help=f"At most {uploads.SIDE:,} pixels, {uploads.TOTAL_BYTES / 1e6:.0f} MB in all, so that links, reload and Back show "
        f"the same query. The server's owner decides: {uploads.VARIABLE}=0 keeps none.",
    )
    known = state.get(state.UPLOAD)
    # Where the address names another picture than the field's, or none, the browser's way back was gone: the address holds.
    if held is not None and (st.session_state.get(_NEW) or _ids().get(_hash(held.getvalue())) in (None, known)):
        text = text_box()
        name = held.name if source == "upload" else "camera.jpg"
        return Asked(held.getvalue(), name, name, text)
    return _kept(known) if known is not None else Asked(text=text_box())


def _another() -> None:
    """Another picture was given, or the one in the field was taken away. For callbacks."""
    held = st.session_state.get(_UPLOADED) or st.session_state.get(_TAKEN)
    st.session_state[_NEW] = held is not None
    if held is None:
        state.put(state.UPLOAD, None)


def _kept(identity: str) -> Asked:
    """The picture that the address names, from this session or as the server keeps it; or what is to be known where it is
    gone: then there is no query, whatever text stands beside it."""
    png = _pictures().get(identity) or uploads.load(caching.uploads_dir(), identity)
    if png is None:
        text = text_box()
        st.button("Go on without it", icon=":material/no_photography:", on_click=state.put, args=(state.UPLOAD, None))
        return Asked(text=text, lost=identity)
    _remember(identity, png)
    st.image(png, width=120, alt="The picture of the query")
    st.button("Take it away", icon=":material/close:", type="tertiary", on_click=state.put, args=(state.UPLOAD, None))
    folder = caching.uploads_dir()
    file = commands.place(uploads.place(folder, identity)) if is_kept(identity) else "picture.png"
    return Asked(png, "your picture", file, text_box(), kept=identity)


def keeping(asked: Asked) -> Asked:
    """A visitor's decoded picture under its identity, in the address too; on the server where pictures are kept."""
    if asked.picture is None or asked.kept:
        return asked
    folder, png, note, file = caching.uploads_dir(), asked.picture, asked.note, asked.file
    raw = st.session_state.get(_RAW, "")
    if uploads.days():
        png = _pictures().get(_ids().get(raw, "")) or uploads.reduced(png)
        if png != asked.picture:
            note = f"{note} The picture is read at {uploads.SIDE:,} pixels at most, as it is kept for its link.".strip()
    identity = uploads.identity(png)
    mine: list[str] = st.session_state.setdefault(_MINE, [])
    if uploads.days() and (identity in mine or len(mine) < OF_SESSION):
        if not is_kept(identity):
            uploads.keep(folder, png)
        mine += [] if identity in mine else [identity]
        file = commands.place(uploads.place(folder, identity))
    _remember(identity, png)
    _ids()[raw] = identity
    st.session_state[_NEW] = False
    if state.get(state.UPLOAD) != identity:
        state.put(state.UPLOAD, identity)
    return replace(asked, picture=png, note=note, file=file, kept=identity)


def is_kept(identity: str) -> bool:
    """Whether a link to this picture shows it to others."""
    return uploads.is_kept(caching.uploads_dir(), identity)


def lacks(asked: Asked) -> str:
    """What a link to the query in view would lack, in a sentence; "" where it is whole."""
    if asked.position is not None:
        return ""
    if len(asked.text) > LINKED_TEXT:
        return f"The link keeps the first {LINKED_TEXT} of the {len(asked.text):,} characters of your text: it asks for less."
    if asked.picture is None or is_kept(asked.kept):
        return ""
    why = (
        f"this server keeps none ({uploads.VARIABLE})" if not uploads.days() else f"a visit keeps {OF_SESSION} at most"
    )
    return f"The link lacks your picture: {why}. Opened elsewhere it says so and shows no other query."


def _said_of_keeping() -> str:
    if not uploads.days():
        return "Your picture stays in this visit and is not kept; links lack it."
    return f"Kept {uploads.days():g} days, small, without metadata; whoever has the link sees it."


def _pictures() -> dict[str, bytes]:
    """Identity -> picture, the last ones of this visit."""
    return st.session_state.setdefault("_live_kept", {})


def _ids() -> dict[str, str]:
    """Hash of an upload -> identity of the picture that it gave."""
    return st.session_state.setdefault("_live_identities", {})


def _remember(identity: str, png: bytes) -> None:
    held = _pictures()
    held.pop(identity, None)
    while len(held) >= TAKEN:
        held.pop(next(iter(held)))
    held[identity] = png


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def text_box() -> str:
    said = state.get(state.TEXT) or ""
    if (
        str(st.session_state.get("_live_text") or "")[:LINKED_TEXT] != said
    ):  # the address moved, by the browser's way back
        st.session_state["_live_text"] = said
    st.text_area(
        "Text", key="_live_text", height=80, placeholder="a brown dog on a skateboard",
        on_change=lambda: state.put(state.TEXT, st.session_state["_live_text"][:LINKED_TEXT] or None),
    )  # fmt: skip
    return st.session_state["_live_text"]


def from_data(store: Store, task: Task) -> Asked:
    """A query of the task. Its embedding is cached, so no model is needed; with one its tokens can be masked."""
    last = len(task.query_rows) - 1
    position = state.get_int(state.QUERY, low=0, high=last, default=0, what=f"query of {task.task},")
    st.session_state["_live_position"] = position

    def move(to: int | None = None) -> None:
        state.put(state.QUERY, st.session_state["_live_position"] if to is None else to)

    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.number_input(
            f"Query, 0 to {last:,}", 0, last, key="_live_position", on_change=move, width=150,
        )  # fmt: skip
        st.button("Another", icon=":material/casino:", on_click=move, args=(random.randint(0, last),))
    row = int(task.query_rows[position])
    text = str(store.samples["text"].iat[row])
    path = store.thumb_path(row)
    with st.container(gap="small"):  # below each other: the rail has no room for words beside a picture
        if path is not None:
            st.image(caching.picture(store, row), width=120, alt=gallery.alt(store, row))
        if text:
            st.markdown(gallery.escape(text, 400))
    picture = path.read_bytes() if path is not None and path.is_file() else None
    name, file = ("", "") if picture is None or path is None else (path.name, commands.place(path))
    return Asked(picture, name, file, text, position, row)


def taken(asked: Asked) -> Asked:
    """A visitor's query with the picture as it was decoded, once and in a process apart (see analysis.data.apart). Raises
    DataError with the reason for one that cannot be taken."""
    if asked.picture is None or asked.kept:
        return asked
    found = decoded(asked.picture, asked.name)
    st.session_state[_RAW] = _hash(asked.picture)
    return keeping(replace(asked, picture=found.png, note=" ".join(found.notes)))


def decoded(picture: bytes, name: str) -> Decoded:
    """A visitor's picture, decoded once a session and in a process apart. Raises DataError as `taken`."""
    kept: dict[str, Decoded] = st.session_state.setdefault("_live_taken", {})
    key = _hash(picture)
    if key not in kept:
        with st.spinner("Reading the picture"):
            found = decode_apart(picture, name=name or "your picture")
        while len(kept) >= TAKEN:
            kept.pop(next(iter(kept)))
        kept[key] = found
    return kept[key]


def as_embedded(store: Store, asked: Asked) -> Asked:
    """A query of the data with the picture that its stored embedding was made of; where that is not at hand the thumbnail
    stays, with a note."""
    if asked.picture is None or asked.row is None:
        return asked
    file = caching.picture_files(store).get(str(store.samples["sample_id"].iat[asked.row]))
    if file is None or not file.is_file():
        return replace(
            asked,
            note="The data set's own picture is not at hand: the model sees the store's thumbnail, so its numbers differ from "
            "the stored ones.",
        )
    return replace(asked, picture=file.read_bytes(), name=file.name, file=commands.place(file))


def sample(asked: Asked, prompts: str, task: str) -> Sample:
    """What the model will read, its picture decoded. While a model waits to be loaded, reruns find the pixels again."""
    asked_for = (prompts, task, *asked.key)
    known = st.session_state.get(_OPENED)
    if known is None or known[0] != asked_for:
        found = query_sample(asked.picture, asked.text, prompts, task, asked.name or "your picture")
        known = st.session_state[_OPENED] = (asked_for, found)
    return known[1]


def forget_pixels() -> None:
    """Nobody needs the decoded picture any more: up to 100 MB."""
    st.session_state.pop(_OPENED, None)


def preview(sample: Sample, side: int = 448) -> str:
    """A data URI of the picture of a query, upright and small; "" when there is none."""
    import base64

    if sample.picture is None:
        return ""
    small = thumbnail_webp(sample.picture.load(), side=side)
    return f"data:image/webp;base64,{base64.b64encode(small).decode()}"


def targets(task: Task, position: int | None) -> tuple[int, ...]:
    """Relevant candidates of a query of the task; none for a visitor's own."""
    if position is None:
        return ()
    span = slice(task.qrels.indptr[position], task.qrels.indptr[position + 1])
    return tuple(np.asarray(task.qrels.indices[span]).astype(int).tolist())
