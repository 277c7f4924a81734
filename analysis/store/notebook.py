"""What people add to a cache: labels of concepts, pinned findings in collections, results they want to keep.

A label is never overwritten: a new one is a new row, the older ones are its history. Labels belong to an SAE (by the sha256
of its weights), so they survive a rebuilt store and never move to another dictionary. Where it all lies: notes_database.py.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from analysis.errors import StoreError
from analysis.store import notes_database as db
from analysis.store.finding import (
    Figure,
    Finding,
    Gallery,
    Lists,
    Table,
    compare,
    from_json,
    parts_from_json,
    parts_to_json,
    plain_text,
    store_digest,
    to_json,
)

__all__ = [
    "Collection", "Figure", "Finding", "Gallery", "Label", "Lists", "Table", "add_finding", "add_label", "collections",
    "compare", "edit_finding", "finding", "findings", "from_json", "hide_finding", "history", "keep_result", "kept_result",
    "label_stamp", "labels", "labels_since",
    "move_finding", "order_findings", "remove_collection", "rename_collection", "store_digest",
    "to_json",
]  # fmt: skip

MAX_LABEL = 200
MOST_LABELS = 200_000  # of one SAE, history included
MOST_OF_CONCEPT = 1000
MOST_FINDINGS = 10_000
MAX_NOTE = 4000
MAX_AUTHOR = 80
MAX_TAGS = 20
MAX_CONTENT = 8_000_000  # characters of the figures, tables and lists of one finding
_MOST = {"title": 500, "sentence": 2000, "caption": 2000, "command": 8000, "python": 20_000, "link": 8000, "page": 100}
_CARD_LIMIT = 200_000  # parameters and facts


@dataclass(frozen=True)
class Label:
    """What somebody called a concept. An empty text takes the label back."""

    concept: int
    text: str
    author: str
    time: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Collection:
    name: str
    count: int


# --- labels -------------------------------------------------------------------------------------------------------
def add_label(notes: Path, sae_sha256: str, concept: int, text: str, author: str = "") -> Label:
    """Keep a label and return it. Raises StoreError when it is too long or the database cannot be written."""
    text = " ".join(plain_text(text).split())
    if len(text) > MAX_LABEL:
        raise StoreError(f"The label has {len(text)} characters; at most {MAX_LABEL} are kept: shorten it.")
    label = Label(int(concept), text, _author(author), db.now())
    with db.writing(notes) as connection:
        of_sae = db.labels.c.sae == sae_sha256[:16]
        _room(connection, db.labels, of_sae, MOST_LABELS, "labels of this SAE")
        _room(
            connection,
            db.labels,
            of_sae & (db.labels.c.concept == label.concept),
            MOST_OF_CONCEPT,
            "labels of this concept",
        )
        connection.execute(
            db.labels.insert().values(
                sae=sae_sha256[:16], concept=label.concept, text=text, author=label.author, time=label.time
            )
        )
    return label


def history(notes: Path, sae_sha256: str, concept: int, limit: int | None = None) -> list[Label]:
    """All labels that a concept was ever given, newest first; at most `limit`."""
    with db.reading(notes) as connection:
        if connection is None:
            return []
        table = db.labels
        rows = sa.select(table).where(table.c.sae == sae_sha256[:16], table.c.concept == int(concept))
        return [_label(row) for row in connection.execute(rows.order_by(table.c.id.desc()).limit(limit))]


def labels(notes: Path, sae_sha256: str, *, author: str = "") -> dict[int, Label]:
    """The label that stands for each concept: the last one (of `author`, where given), left out where it was taken back."""
    with db.reading(notes) as connection:
        if connection is None:
            return {}
        table = db.labels
        which = table.c.sae == sae_sha256[:16]
        if author:
            which &= table.c.author == _author(author)
        newest = sa.select(sa.func.max(table.c.id)).where(which).group_by(table.c.concept)
        rows = connection.execute(sa.select(table).where(table.c.id.in_(newest), table.c.text != ""))
        return {row.concept: _label(row) for row in rows.all()}


def labels_since(notes: Path, sae_sha256: str, stamp: int) -> dict[int, Label]:
    """The last label of every concept that was given one after a `label_stamp`; an empty text takes back what stood before."""
    with db.reading(notes) as connection:
        if connection is None:
            return {}
        table = db.labels
        rows = sa.select(table).where(table.c.sae == sae_sha256[:16], table.c.id > stamp).order_by(table.c.id)
        return {row.concept: _label(row) for row in connection.execute(rows)}


def label_stamp(notes: Path, sae_sha256: str) -> int:
    """Changes whenever a label is added: the number of the last one."""
    with db.reading(notes) as connection:
        if connection is None:
            return 0
        table = db.labels
        found = connection.scalar(sa.select(sa.func.max(table.c.id)).where(table.c.sae == sae_sha256[:16]))
        return int(found or 0)


def insert_label(connection: sa.Connection, sae: str, concept: int, text: str, author: str, time: str) -> bool:
    """A label that was made elsewhere; False when it is here already."""
    table = db.labels
    values = {"sae": sae[:16], "concept": concept, "text": text[:MAX_LABEL], "author": author, "time": time}
    same = sa.and_(*(table.c[name] == value for name, value in values.items()))
    if connection.scalar(sa.select(sa.func.count()).select_from(table).where(same)):
        return False
    connection.execute(table.insert().values(**values))
    return True


# --- findings -----------------------------------------------------------------------------------------------------
def add_finding(notes: Path, finding: Finding) -> Finding:
    """Keep a finding, with the time of now, at the end of its collection (made where it does not exist), and return it.
    StoreError above a limit."""
    kept = replace(finding, time=db.now(), author=_author(finding.author), id=uuid.uuid4().hex)
    with db.writing(notes) as connection:
        _room(connection, db.findings, sa.true(), MOST_FINDINGS, "findings")
        return insert_finding(connection, kept)


def findings(
    notes: Path,
    *,
    collection: str | None = None,
    search: str = "",
    tag: str = "",
    author: str = "",
    hidden: bool = False,
) -> list[Finding]:
    """Findings without their figures: those of a collection in its order, else all of them, oldest first.

    search: words that must all occur in title, sentence, caption, note, tags, author or command, whatever their case; then
    findings with the words in title or sentence come first. hidden: those that were put away instead.
    """
    with db.reading(notes) as connection:
        if connection is None:
            return []
        table = db.findings
        rows = _cards().where(table.c.hidden == hidden)
        for word in plain_text(search).casefold().split():
            rows = rows.where(table.c.words.contains(word, autoescape=True))
        if collection is not None:
            rows = rows.where(db.collections.c.name == collection).order_by(table.c.place, table.c.id)
        found = [_finding(row) for row in connection.execute(rows.order_by(table.c.id))]
    found = [item for item in found if (not tag or tag in item.tags) and (not author or item.author == author)]
    wanted = search.casefold().split()
    if wanted and collection is None:
        found.sort(key=lambda item: not all(word in f"{item.title} {item.sentence}".casefold() for word in wanted))
    return found


def finding(notes: Path, uid: str) -> Finding:
    """One finding with everything. StoreError when there is none of this id."""
    with db.reading(notes) as connection:
        if connection is not None:
            row = connection.execute(_cards().where(db.findings.c.uid == uid)).one_or_none()
            if row is not None:
                inside = connection.execute(sa.select(db.contents).where(db.contents.c.finding == row.id)).one()
                return replace(_finding(row), parts=parts_from_json(inside.parts), picture=bytes(inside.picture))
    raise StoreError(
        f"There is no finding {uid!r} in these notes; `.venv/bin/python -m analysis notes list` shows what there is."
    )


def edit_finding(notes: Path, uid: str, **changes: Any) -> Finding:
    """Change title, sentence, note, tags or collection of a finding; what was measured stays as it was."""
    wrong = sorted(set(changes) - {"title", "sentence", "note", "tags", "collection"})
    if wrong:
        raise StoreError(f"{', '.join(wrong)} of a finding cannot be changed; pin the view again instead.")
    with db.writing(notes) as connection:
        row = _row(connection, uid)
        old = _finding(row)
        new = _checked(replace(old, **changes))
        values: dict[str, Any] = {"card": _card(new), "words": _words(new)}
        if new.collection != old.collection:
            values |= _at_the_end(connection, new.collection)
        connection.execute(db.findings.update().where(db.findings.c.id == row.id).values(**values))
        return _finding(_row(connection, uid))


def hide_finding(notes: Path, uid: str, hidden: bool = True) -> None:
    """Put a finding away, or back. Nothing is deleted."""
    with db.writing(notes) as connection:
        row = _row(connection, uid)
        connection.execute(db.findings.update().where(db.findings.c.id == row.id).values(hidden=hidden))


def move_finding(notes: Path, uid: str, by: int) -> None:
    """Move a finding within its collection, -1 one place up, 1 one down; it stops at the ends."""
    with db.writing(notes) as connection:
        row = _row(connection, uid)
        order = _order(connection, row.collection_id)
        at = order.index(uid)
        order.insert(min(max(at + by, 0), len(order) - 1), order.pop(at))
        _place(connection, order)


def order_findings(notes: Path, collection: str, uids: Sequence[str]) -> list[str]:
    """Put the findings of a collection into an order and return it. Two people who order at once: the last one wins, and
    what is not named (somebody else just added it) stands behind, as it stood."""
    with db.writing(notes) as connection:
        order = _order(connection, _collection_id(connection, collection, make=False))
        wanted = [uid for uid in dict.fromkeys(uids) if uid in set(order)]
        order = [*wanted, *(uid for uid in order if uid not in set(wanted))]
        _place(connection, order)
        return order


def insert_finding(connection: sa.Connection, finding: Finding) -> Finding:
    """A finding with id and time as they are; one whose id is here already stays as it is here."""
    kept = _checked(finding)
    known = connection.execute(_cards().where(db.findings.c.uid == kept.id)).one_or_none()
    if known is not None:
        return _finding(known)
    content = plain_text(parts_to_json(kept.parts))
    if len(content) > MAX_CONTENT:
        raise StoreError(
            f"The finding holds {len(content):,} characters of figures and lists; at most {MAX_CONTENT:,} are kept: pin a "
            "single figure, or fewer rows."
        )
    values = {"uid": kept.id, "hidden": False, "words": _words(kept), "card": _card(kept)}
    done = connection.execute(db.findings.insert().values(**values, **_at_the_end(connection, kept.collection)))
    key = done.inserted_primary_key
    assert key is not None
    connection.execute(db.contents.insert().values(finding=key[0], parts=content, picture=kept.picture))
    return replace(_finding(_row(connection, kept.id)), parts=kept.parts, picture=kept.picture)


# --- collections --------------------------------------------------------------------------------------------------
def collections(notes: Path) -> list[Collection]:
    """Every collection with how many findings it holds, newest first."""
    with db.reading(notes) as connection:
        if connection is None:
            return []
        inside = sa.and_(db.findings.c.collection == db.collections.c.id, sa.not_(db.findings.c.hidden))
        counted = (
            sa.select(db.collections.c.name, sa.func.count(db.findings.c.id))
            .select_from(db.collections.outerjoin(db.findings, inside))
            .group_by(db.collections.c.id, db.collections.c.name)
            .order_by(db.collections.c.id.desc())
        )
        return [Collection(name, count) for name, count in connection.execute(counted)]


def rename_collection(notes: Path, old: str, new: str) -> None:
    new = _collection_name(new)
    with db.writing(notes) as connection:
        number = _collection_id(connection, old, make=False)
        taken = connection.scalar(sa.select(db.collections.c.id).where(db.collections.c.name == new))
        if not new or (taken is not None and taken != number):
            raise StoreError(f"There is a collection {new!r} already; choose another name." if new else "A collection "
                             "needs a name; write one.")  # fmt: skip
        connection.execute(db.collections.update().where(db.collections.c.id == number).values(name=new))


def remove_collection(notes: Path, name: str) -> None:
    """Take a collection apart; its findings stay, in none."""
    with db.writing(notes) as connection:
        number = _collection_id(connection, name, make=False)
        loose = db.findings.update().where(db.findings.c.collection == number).values(collection=None, place=0)
        connection.execute(loose)
        connection.execute(db.collections.delete().where(db.collections.c.id == number))


# --- kept results -------------------------------------------------------------------------------------------------
def keep_result(notes: Path, digest: str, what: str, value: Any) -> None:
    """Keep numbers (JSON) that belong to one state of a store under a name; the last one stands."""
    text = json.dumps(value, allow_nan=False)
    if len(text) > MAX_CONTENT or len(what) > 1000:
        raise StoreError(f"The result has {len(text):,} characters; at most {MAX_CONTENT:,} are kept: keep a summary.")
    table = db.results
    with db.writing(notes) as connection:
        connection.execute(table.delete().where(table.c.digest == digest, table.c.what == what))
        connection.execute(table.insert().values(digest=digest, what=what, value=text, time=db.now()))


def kept_result(notes: Path, digest: str, what: str) -> Any | None:
    """What was kept, None where nothing was."""
    table = db.results
    with db.reading(notes) as connection:
        if connection is None:
            return None
        found = connection.scalar(sa.select(table.c.value).where(table.c.digest == digest, table.c.what == what))
        return None if found is None else json.loads(found)


def _room(connection: sa.Connection, table: sa.Table, which: Any, most: int, what: str) -> None:
    """StoreError where a table is full."""
    if int(connection.scalar(sa.select(sa.func.count()).select_from(table).where(which)) or 0) >= most:
        raise StoreError(
            f"{most:,} {what} are kept at most; export what is no longer needed and start another database."
        )


def _label(row: Any) -> Label:
    return Label(row.concept, row.text, row.author, row.time)


def _author(name: str) -> str:
    return " ".join(plain_text(name).split())[:MAX_AUTHOR] or "anonymous"


def _checked(finding: Finding) -> Finding:
    """The finding in the form that is kept. StoreError for what is too long."""
    if len(finding.note) > MAX_NOTE:
        raise StoreError(f"The note has {len(finding.note)} characters; at most {MAX_NOTE} are kept: shorten it.")
    for name, most in _MOST.items():
        if len(getattr(finding, name)) > most:
            raise StoreError(
                f"The {name} has {len(getattr(finding, name)):,} characters; at most {most:,} are kept: shorten it."
            )
    tags = tuple(dict.fromkeys(" ".join(plain_text(tag).split())[:50] for tag in finding.tags if tag.strip()))
    if len(tags) > MAX_TAGS:
        raise StoreError(f"The finding has {len(tags)} tags; at most {MAX_TAGS} are kept: leave some out.")
    texts: dict[str, Any] = {name: plain_text(getattr(finding, name)) for name in (*_MOST, "note")}
    return replace(
        finding, **texts, author=_author(finding.author), tags=tags, collection=_collection_name(finding.collection)
    )


def _collection_name(name: str) -> str:
    name = " ".join(plain_text(name).split())
    if len(name) > 120:
        raise StoreError(f"The name of the collection has {len(name)} characters; at most 120 are kept: shorten it.")
    return name


def _card(finding: Finding) -> str:
    whole = to_json(replace(finding, parts=(), picture=b"", collection="", order=0, id=""))
    try:
        card = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"The facts of the finding are no plain numbers and words ({error}); pin it without them."
        ) from error
    if len(card) > _CARD_LIMIT:
        raise StoreError(f"The finding carries {len(card):,} characters of parameters and facts; at most {_CARD_LIMIT:,} are "
                         "kept: choose fewer.")  # fmt: skip
    return plain_text(card.replace("\\u0000", ""))


def _words(finding: Finding) -> str:
    parts = (
        finding.title,
        finding.sentence,
        finding.caption,
        finding.note,
        *finding.tags,
        finding.author,
        finding.command,
    )
    return "\n".join(parts).casefold()


def _cards() -> sa.Select:
    table = db.findings
    return sa.select(
        table.c.id, table.c.uid, table.c.place, table.c.card, table.c.collection.label("collection_id"),
        db.collections.c.name.label("collection_name"),
    ).select_from(table.outerjoin(db.collections, table.c.collection == db.collections.c.id))  # fmt: skip


def _finding(row: Any) -> Finding:
    place = {"collection": row.collection_name or "", "order": row.place, "id": row.uid}
    return replace(from_json(json.loads(row.card)), **place)


def _row(connection: sa.Connection, uid: str) -> Any:
    row = connection.execute(_cards().where(db.findings.c.uid == uid)).one_or_none()
    if row is None:
        raise StoreError(f"There is no finding {uid!r} in these notes; somebody may have moved it to another database.")
    return row


def _at_the_end(connection: sa.Connection, collection: str) -> dict[str, Any]:
    if not collection:
        return {"collection": None, "place": 0}
    number = _collection_id(connection, collection, make=True)
    last = connection.scalar(sa.select(sa.func.max(db.findings.c.place)).where(db.findings.c.collection == number))
    return {"collection": number, "place": int(last or 0) + 1}


def _collection_id(connection: sa.Connection, name: str, *, make: bool) -> int:
    table = db.collections
    found = connection.scalar(sa.select(table.c.id).where(table.c.name == name))
    if found is not None:
        return int(found)
    if not make:
        raise StoreError(
            f"There is no collection {name!r}; `.venv/bin/python -m analysis notes list` shows what there is."
        )
    done = connection.execute(table.insert().values(name=name, time=db.now()))
    key = done.inserted_primary_key
    assert key is not None
    return int(key[0])


def _order(connection: sa.Connection, collection: int | None) -> list[str]:
    table = db.findings
    rows = sa.select(table.c.uid).where(table.c.collection == collection).order_by(table.c.place, table.c.id)
    return list(connection.scalars(rows))


def _place(connection: sa.Connection, order: Sequence[str]) -> None:
    table = db.findings
    for place, uid in enumerate(order, start=1):
        connection.execute(table.update().where(table.c.uid == uid).values(place=place))
