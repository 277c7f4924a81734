"""A finding: one view that somebody pinned, frozen as data (figure, table, ranked lists), with what it takes to see it live
again and to compute it again. Data only: how it looks is the business of `analysis.report`."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import TypeAdapter, ValidationError

from analysis.errors import DataError, StoreError
from analysis.store.manifest import first_problem

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from analysis.store.read import Store

PICTURE_SIDE = 1024  # pixels: sharp on a slide, and no original of anybody's photograph
PICTURE_BYTES = 600_000
UPLOAD_BYTES = 30_000_000
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Figure:
    """A Plotly figure as its own JSON (data and layout)."""

    plotly: str


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers; None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Entry:
    """One candidate of a ranked list. moved: places gained, None where there is no other list. picture: data URI or ""."""

    rank: int
    text: str
    score: float | None = None
    target: bool = False
    moved: int | None = None
    picture: str = ""


@dataclass(frozen=True)
class RankedList:
    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Lists:
    """Ranked lists side by side, with the query they answer."""

    lists: tuple[RankedList, ...]
    query: str = ""
    query_picture: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures (data URIs) and captions that stand for something, strongest first: a concept card."""

    pictures: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


Part = Figure | Table | Lists | Gallery
_KINDS: dict[str, type] = {"figure": Figure, "table": Table, "lists": Lists, "gallery": Gallery}


@dataclass(frozen=True)
class Finding:
    """page and params: the view; facts: name -> number on screen when it was pinned; stores: id -> digest of every store
    behind it (`store_digest`); sentence: what the numbers say, computed; caption: data, split, N, model, demo label.

    parts and picture are empty in listings, which would otherwise read every figure: `notebook.finding` gives them.
    """

    page: str
    title: str
    params: dict[str, list[str]]
    note: str = ""
    author: str = ""
    command: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    time: str = ""  # ISO 8601, UTC
    link: str = ""  # address of the live view, without the server
    sentence: str = ""
    caption: str = ""
    python: str = ""
    stores: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    collection: str = ""
    order: int = 0  # place in its collection, 1 = first
    parts: tuple[Part, ...] = ()
    picture: bytes = b""  # uploaded, downscaled JPEG
    measure: dict[str, Any] = field(default_factory=dict)  # how the facts are measured again, see analysis.report.live
    id: str = ""  # given when it is kept; the same in every database

    @property
    def headline(self) -> str:
        """Title of its slide: the computed sentence, else what the author wrote."""
        return self.sentence or self.title

    def address(self, server: str = "") -> str:
        """Where the live view is: `server` in front, e.g. http://127.0.0.1:8501; "" for a finding without a view."""
        params = {plain_text(name): [plain_text(value) for value in values] for name, values in self.params.items()}
        link = plain_text(self.link) or (f"{self.page}?{urlencode(params, doseq=True, safe='/,')}" if self.page else "")
        return f"{server.rstrip('/')}/{link.lstrip('/')}" if link else ""


def compare(finding: Finding, live: Finding | None) -> str:
    """What changed between a finding and the same view now, in one sentence; "" when nothing did.

    live: a finding of the view as it is now (its facts and stores count), None where the view cannot be computed any more.
    """
    if live is None:
        gone = ", ".join(finding.stores) or "behind this finding"
        return f"The store {gone} is not in the cache any more: what is shown is what was measured then."
    missing = [name for name in finding.stores if name not in live.stores]
    if missing:
        return f"The store {', '.join(missing)} is not in the cache any more: what is shown is what was measured then."
    then, now = _numbers(finding.facts), _numbers(live.facts)
    moved = [(name, then[name], now[name]) for name in then if name in now and not _same(then[name], now[name])]
    lost = [name for name in then if name not in now]
    differs = any(live.stores[name] != digest for name, digest in finding.stores.items())
    if not (moved or lost or differs):
        return ""
    start = "The store has changed since" if differs else "The same store gives other numbers now"
    words = [f"{name} {a} then, {b} now" for name, a, b in ((n, *_both(x, y)) for n, x, y in moved)]
    words += [f"{name} {_both(then[name], then[name])[0]} then, not measured now" for name in lost]
    return f"{start}: {'; '.join(words)}." if words else f"{start}; the numbers of this view are the same."


def store_digest(store: Store) -> str:
    """64 hex digits that change with any file of a store that holds numbers, the tables of a rescore too."""
    import hashlib

    files = {**store.manifest.files, **store.derived.files}
    listed = {name: facts.sha256 for name, facts in files.items() if facts.sha256}
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def figure_part(figure: go.Figure) -> Figure:
    """A figure as data."""
    return Figure(str(figure.to_json()))


def table_part(table: pd.DataFrame, title: str = "") -> Table:
    """A frame as data; NaN becomes an empty cell."""
    rows = []
    for row in table.itertuples(index=False, name=None):
        plain = (value.item() if hasattr(value, "item") else value for value in row)
        rows.append(tuple(None if isinstance(v, float) and math.isnan(v) else v for v in plain))
    return Table(tuple(map(str, table.columns)), tuple(rows), title)


def downscaled(upload: bytes, *, consent: bool) -> bytes:
    """An uploaded picture as it may be kept with a finding: a JPEG of at most PICTURE_SIDE pixels, without metadata.

    StoreError without the author's consent, for what is no picture, and above the limits.
    """
    from PIL import Image

    from analysis.data.apart import decode_apart

    if not consent:
        raise StoreError(
            "The picture is kept only with its author's consent; tick that it may be kept, or pin without it."
        )
    if len(upload) > UPLOAD_BYTES:
        raise StoreError(f"The picture has {len(upload):,} bytes; at most {UPLOAD_BYTES:,} are taken: make it smaller.")
    try:
        upright = Image.open(io.BytesIO(decode_apart(upload, name="The upload").png))
    except DataError as error:
        raise StoreError(str(error)) from error
    upright.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    for quality in (88, 75, 60, 40):
        buffer = io.BytesIO()
        upright.save(buffer, format="JPEG", quality=quality)
        if buffer.tell() <= PICTURE_BYTES:
            break
    return buffer.getvalue()


def plain_text(text: object) -> str:
    """Text that every database, XML and browser takes: no control characters, no halves of surrogate pairs."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def parts_to_json(parts: Sequence[Part]) -> str:
    kinds = {kind: name for name, kind in _KINDS.items()}
    listed = [{"kind": kinds[type(part)], **asdict(part)} for part in parts]
    return json.dumps(listed, ensure_ascii=False, allow_nan=False)


def parts_from_json(text: str) -> tuple[Part, ...]:
    """StoreError for what is no list of parts."""
    try:
        return tuple(_part(entry) for entry in json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"The content of a finding is not as it was written ({error}); restore the notes from a backup."
        ) from error


def to_json(finding: Finding) -> dict[str, Any]:
    """A finding as JSON-able data, nothing left out."""
    entry = {item.name: getattr(finding, item.name) for item in fields(finding)}
    return entry | {
        "tags": list(finding.tags),
        "parts": json.loads(parts_to_json(finding.parts)),
        "picture": base64.b64encode(finding.picture).decode(),
    }


def from_json(entry: Mapping[str, Any]) -> Finding:
    """StoreError for what `to_json` did not write."""
    try:
        known = {item.name for item in fields(Finding)}
        given = {name: value for name, value in entry.items() if name in known}
        given["tags"] = tuple(map(str, given.get("tags", ())))
        given["parts"] = parts_from_json(json.dumps(given.get("parts", [])))
        given["picture"] = base64.b64decode(given.get("picture", ""), validate=True)
        return Finding(**given)
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"An entry is no finding ({error}); expected what `notes export` writes.") from error


def checked(finding: Finding) -> Finding:
    """One that somebody else wrote, every field of its type. StoreError where one is not: a page would stumble over it."""
    apart = ("parts", "picture")
    try:
        plain = {item.name: getattr(finding, item.name) for item in fields(finding) if item.name not in apart}
        parts = tuple(_adapter(type(part)).validate_python(asdict(part)) for part in finding.parts)  # type: ignore[arg-type]
        return replace(_adapter(Finding).validate_python(plain), parts=parts, picture=finding.picture)
    except ValidationError as error:
        place, problem = first_problem(error)
        raise StoreError(
            f"An entry is no finding ({place}: {problem}); expected what `notes export` writes."
        ) from error


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Making one takes milliseconds."""
    return TypeAdapter(kind)


def _part(entry: dict[str, Any]) -> Part:
    kind = entry.pop("kind")
    if kind == "table":
        return Table(tuple(entry["columns"]), tuple(map(tuple, entry["rows"])), entry.get("title", ""))
    if kind == "lists":
        lists = tuple(
            RankedList(one["title"], tuple(Entry(**item) for item in one["entries"])) for one in entry["lists"]
        )
        return Lists(lists, entry.get("query", ""), entry.get("query_picture", ""))
    if kind == "gallery":
        return Gallery(tuple(entry["pictures"]), tuple(entry["captions"]))
    made: Part = _KINDS[kind](**entry)
    return made


def _numbers(facts: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers among facts, those of nested ones under "model R@10"."""
    found: dict[str, float] = {}
    for name, value in facts.items():
        label = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{label} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[label] = float(value)
    return found


def _same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _both(a: float, b: float) -> tuple[str, str]:
    """Two numbers with as few digits as tell them apart, three at least."""
    for digits in range(3, 10):
        words = f"{a:.{digits}g}", f"{b:.{digits}g}"
        if words[0] != words[1]:
            break
    else:
        words = f"{a:.3g}", f"{b:.3g}"
    return words if a != b else (f"{a:.3g}", f"{b:.3g}")
