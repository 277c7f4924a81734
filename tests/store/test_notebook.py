"""Labels are only ever added, findings keep everything that is pinned, collections keep their order, and a crash, a second
writer or an old file costs nothing. The same promises on SQLite and, where Debian's server is there, on PostgreSQL."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.errors import StoreError
from analysis.store import notebook, notes_database
from analysis.store.finding import Entry, Finding, Gallery, Lists, RankedList, Table, figure_part
from tests.store.postgres import postgres_server

SHA = "ab" * 32
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_server(tmp_path_factory) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def notes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notes folder of an empty cache, with its database at the default place or on a server."""
    monkeypatch.delenv(notes_database.NOTES_VARIABLE, raising=False)
    if request.param == "postgresql":
        admin = request.getfixturevalue("server")
        import psycopg

        name = f"notes_{time.time_ns()}"
        with psycopg.connect(admin.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        monkeypatch.setenv(notes_database.NOTES_VARIABLE, admin.replace("/postgres?", f"/{name}?"))
    return tmp_path / "notes"


def pin(notes: Path, title: str, **settings: object) -> Finding:
    return notebook.add_finding(notes, Finding("concept", title, {"concept": ["7"]}, **settings))  # type: ignore[arg-type]


def test_last_label_stands_and_history_keeps_the_others(notes: Path) -> None:
    notebook.add_label(notes, SHA, 7, "cat", "Ada")
    notebook.add_label(notes, SHA, 7, "  tabby \n cat ", "Bob")
    notebook.add_label(notes, SHA, 9, "boat", "Ada")
    assert {concept: label.text for concept, label in notebook.labels(notes, SHA).items()} == {
        7: "tabby cat",
        9: "boat",
    }
    assert [(label.text, label.author) for label in notebook.history(notes, SHA, 7)] == [
        ("tabby cat", "Bob"),
        ("cat", "Ada"),
    ]


def test_my_labels_stand_beside_everybodys(notes: Path) -> None:
    notebook.add_label(notes, SHA, 7, "cat", "Ada")
    notebook.add_label(notes, SHA, 7, "dog", "Bob")
    assert notebook.labels(notes, SHA)[7].text == "dog"
    assert {c: label.text for c, label in notebook.labels(notes, SHA, author="Ada").items()} == {7: "cat"}


def test_empty_label_takes_it_back_but_not_its_history(notes: Path) -> None:
    notebook.add_label(notes, SHA, 7, "cat")
    notebook.add_label(notes, SHA, 7, "")
    assert notebook.labels(notes, SHA) == {}
    assert [label.text for label in notebook.history(notes, SHA, 7)] == ["", "cat"]


def test_labels_of_another_sae_stay_away(notes: Path) -> None:
    notebook.add_label(notes, SHA, 7, "cat")
    assert notebook.labels(notes, "cd" * 32) == {}
    assert notebook.label_stamp(notes, "cd" * 32) == 0


def test_looking_where_no_notes_are_creates_nothing(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert notebook.labels(missing, SHA) == {}
    assert notebook.findings(missing) == []
    assert notebook.collections(missing) == []
    assert notebook.label_stamp(missing, SHA) == 0
    assert notebook.kept_result(missing, SHA, "recall") is None
    assert not missing.exists()


def test_stamp_changes_with_every_label(notes: Path) -> None:
    notebook.add_label(notes, SHA, 7, "cat")
    before = notebook.label_stamp(notes, SHA)
    notebook.add_label(notes, SHA, 7, "cat")
    assert notebook.label_stamp(notes, SHA) > before


@pytest.mark.parametrize(
    "text", ["a\u2028b \u00e9 \U0001f600", "half \ud83d a pair", "nul \x00 inside", "'; DROP TABLE labels; --"]
)
def test_any_text_is_kept_and_comes_back(notes: Path, text: str) -> None:
    kept = notebook.add_label(notes, SHA, 1, text)
    pin(notes, text, note=text, tags=(text,), facts={text: 1})
    assert [label.text for label in notebook.history(notes, SHA, 1)] == [kept.text]
    assert len(notebook.findings(notes)) == 1


def test_too_long_is_refused_in_one_sentence_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="201 characters; at most 200"):
        notebook.add_label(tmp_path / "n", SHA, 1, "x" * 201)
    assert not (tmp_path / "n").exists()
    for settings in (
        {"note": "x" * 4001},
        {"sentence": "x" * 2001},
        {"collection": "x" * 121},
        {"facts": {"a": "x" * 300_000}},
    ):
        with pytest.raises(StoreError, match="at most"):
            pin(tmp_path / "n", "title", **settings)
    with pytest.raises(StoreError, match="at most"):
        pin(tmp_path / "n", "title", parts=(Table(("a",), (("x" * 9_000_000,),)),))
    assert notebook.findings(tmp_path / "n") == []


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "notes"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="could not be kept"):
        notebook.add_label(blocked, SHA, 1, "cat")


def test_a_damaged_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / notes_database.FILE).write_bytes(b"no database at all" * 300)
    with pytest.raises(StoreError, match="restore a backup"):
        notebook.labels(tmp_path, SHA)


def test_a_full_disk_is_one_sentence_and_costs_nothing_that_was_kept(tmp_path: Path) -> None:
    notebook.add_label(tmp_path, SHA, 1, "kept")
    engine = notes_database._opened(tmp_path, notes_database.address(tmp_path))

    import sqlalchemy as sa

    def small(connection, _record):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite reports is SQLITE_FULL, as on a full disk

    sa.event.listen(engine, "connect", small)
    with pytest.raises(StoreError, match="has room"):
        pin(tmp_path, "big", parts=(Table(("a",), (("x" * 500_000,),)),))
    sa.event.remove(engine, "connect", small)
    assert notebook.labels(tmp_path, SHA)[1].text == "kept"
    assert notebook.findings(tmp_path) == []


def test_a_database_of_a_newer_version_is_refused_with_the_remedy(notes: Path) -> None:
    notebook.add_label(notes, SHA, 1, "cat")
    with notes_database.writing(notes) as connection:
        connection.execute(notes_database.meta.update().values(value="99"))
    notes_database._ready.clear()
    for act in (lambda: notebook.labels(notes, SHA), lambda: notebook.add_label(notes, SHA, 1, "dog")):
        with pytest.raises(StoreError, match=r"version 99.*update RetrievalLens"):
            act()


def test_an_address_that_is_none_says_what_one_looks_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in (
        ("nonsense", "SQLAlchemy URL"),
        ("oracle://u:secret@h/x", "driver"),
        ("nodb://h/x", "driver"),
    ):
        monkeypatch.setenv(notes_database.NOTES_VARIABLE, given)
        with pytest.raises(StoreError, match=expected) as problem:
            notebook.labels(tmp_path, SHA)
        assert "secret" not in str(problem.value)


# --- findings -----------------------------------------------------------------------------------------------------
def test_a_finding_comes_back_whole(notes: Path) -> None:
    import plotly.graph_objects as go

    parts = (
        figure_part(go.Figure(go.Bar(x=[1, 2], y=["a", "b"]))),
        Table(("model", "R@10"), (("clip", 15.8), ("qwen", None)), "recall"),
        Lists((RankedList("before", (Entry(1, "a cat", 0.3, True, -2, "data:image/webp;base64,AA=="),)),), "query 3"),
        Gallery(("data:image/webp;base64,AA==",), ("a cat",)),
    )
    kept = pin(
        notes, "t", note="n", author=" Ada ", command="c", facts={"R@10": 15.8}, sentence="s", caption="k", python="p",
        stores={"clip/x": "00"}, tags=("b", " a "), collection="group meeting 2 December", parts=parts, picture=b"\xff\xd8",
    )  # fmt: skip
    assert notebook.finding(notes, kept.id) == kept
    assert kept.parts == parts
    assert (kept.author, kept.tags, kept.order, bool(kept.time)) == ("Ada", ("b", "a"), 1, True)
    (listed,) = notebook.findings(notes)
    assert (listed.parts, listed.picture, listed.facts) == ((), b"", {"R@10": 15.8})


def test_findings_are_listed_oldest_first_and_found_by_words(notes: Path) -> None:
    pin(notes, "first", note="ÄRGER über Hunde", author="Ada")
    pin(notes, "second 100% dogs", tags=("Hub",))
    assert [item.title for item in notebook.findings(notes)] == ["first", "second 100% dogs"]
    assert [item.title for item in notebook.findings(notes, search="hunde ärger")] == ["first"]
    assert [item.title for item in notebook.findings(notes, search="100%")] == ["second 100% dogs"]
    assert notebook.findings(notes, search="1_0") == []
    assert [item.title for item in notebook.findings(notes, tag="Hub")] == ["second 100% dogs"]
    assert [item.title for item in notebook.findings(notes, author="Ada")] == ["first"]


def test_collections_keep_their_order_and_lose_nothing(notes: Path) -> None:
    ids = [pin(notes, name, collection="talk").id for name in "abc"]
    pin(notes, "elsewhere", collection="other")

    def order() -> str:
        return "".join(item.title for item in notebook.findings(notes, collection="talk"))

    notebook.move_finding(notes, ids[2], -1)
    assert order() == "acb"
    notebook.move_finding(notes, ids[0], -5)
    assert order() == "acb"
    notebook.order_findings(notes, "talk", [ids[1], "unknown", ids[0]])  # somebody who never saw c
    assert order() == "bac"
    notebook.edit_finding(notes, ids[1], collection="other", note="moved")
    assert order() == "ac"
    assert {(one.name, one.count) for one in notebook.collections(notes)} == {("talk", 2), ("other", 2)}
    notebook.rename_collection(notes, "talk", "meeting")
    with pytest.raises(StoreError, match="other"):
        notebook.rename_collection(notes, "meeting", "other")
    notebook.remove_collection(notes, "meeting")
    assert len(notebook.findings(notes)) == 4
    notebook.hide_finding(notes, ids[0])
    assert [item.title for item in notebook.findings(notes, hidden=True)] == ["a"]
    assert len(notebook.findings(notes)) == 3


def test_what_was_measured_cannot_be_edited(notes: Path) -> None:
    kept = pin(notes, "a", facts={"x": 1})
    with pytest.raises(StoreError, match="facts"):
        notebook.edit_finding(notes, kept.id, facts={"x": 2})
    with pytest.raises(StoreError, match="no finding"):
        notebook.edit_finding(notes, "missing", note="x")


def test_results_are_kept_per_state_of_a_store(notes: Path) -> None:
    notebook.keep_result(notes, SHA, "recall i2t", {"R@1": 0.5})
    notebook.keep_result(notes, SHA, "recall i2t", {"R@1": 0.6})
    assert notebook.kept_result(notes, SHA, "recall i2t") == {"R@1": 0.6}
    assert notebook.kept_result(notes, "cd" * 32, "recall i2t") is None


def test_a_thousand_findings_are_listed_fast(tmp_path: Path) -> None:
    big = Table(("a",), (("x" * 20_000,),))
    pin(tmp_path, "0")
    with notes_database.writing(tmp_path) as connection:
        for number in range(1000):
            entry = Finding(
                "retrieval_lab", f"finding {number}", {}, parts=(big,), facts={"R@10": number}, id=f"{number:032x}"
            )
            notebook.insert_finding(connection, entry)
    took = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(notebook.findings(tmp_path)) == 1001
        took.append(time.perf_counter() - start)
    assert min(took) < 0.3


# --- old notes, writers at the same time, crashes -----------------------------------------------------------------
def jsonl(path: Path, *entries: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries]
    path.write_bytes(b"\n".join(lines) + b"\n")


def label_line(concept: int, text: str) -> dict[str, object]:
    return {"schema": 1, "concept": concept, "text": text, "author": "Ada", "time": "2026-11-01T10:00:00+00:00"}


@pytest.mark.parametrize(
    "torn", [b"\xff\xfe", b"[]", b"null", b'{"schema": 2}', b'{"schema": 1, "concept": 3}', b'{"sch']
)
def test_notes_of_the_time_before_are_taken_in_once(notes: Path, torn: bytes, caplog: pytest.LogCaptureFixture) -> None:
    file = notes / f"labels-{SHA[:16]}.jsonl"
    jsonl(file, label_line(1, "one"), torn, label_line(2, "two"))
    old = {
        "page": "concept",
        "title": "old",
        "params": {"concept": ["7"]},
        "note": "n",
        "author": "Ada",
        "command": "c",
    }
    jsonl(notes / "findings.jsonl", {"schema": 1, **old, "facts": {}, "time": "2026-11-01T10:00:00+00:00"})
    before = file.read_bytes()
    for _ in range(2):  # a second start of the program
        notes_database._ready.clear()
        assert {c: label.text for c, label in notebook.labels(notes, SHA).items()} == {1: "one", 2: "two"}
        assert [(item.title, item.time) for item in notebook.findings(notes)] == [("old", "2026-11-01T10:00:00+00:00")]
    assert file.read_bytes() == before
    assert "1 lines are no notes" in caplog.text
    jsonl(file, label_line(1, "one"), label_line(2, "two"), label_line(3, "three"))  # an older program went on writing
    notes_database._ready.clear()
    assert len(notebook.history(notes, SHA, 1)) == 1
    assert notebook.labels(notes, SHA)[3].text == "three"


def _many(notes: str, who: int) -> None:
    for i in range(15):
        notebook.add_label(Path(notes), SHA, i, f"{who}" * 50)
        pin(Path(notes), f"{who}", collection="talk")


def test_writers_at_the_same_time_lose_nothing(notes: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_many, args=(str(notes), who)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert all(len(notebook.history(notes, SHA, i)) == 3 for i in range(15))
    assert [item.order for item in notebook.findings(notes, collection="talk")] == list(range(1, 46))


def _order(notes: str, uids: list[str]) -> None:
    for uid in uids:
        notebook.move_finding(Path(notes), uid, 1)
    notebook.order_findings(Path(notes), "talk", uids)


def test_two_people_who_order_at_once_lose_nothing_and_the_last_one_wins(notes: Path) -> None:
    uids = [pin(notes, f"{i}", collection="talk").id for i in range(8)]
    orders = [uids[::-1], uids[4:] + uids[:4]]
    context = multiprocessing.get_context("fork")
    people = [context.Process(target=_order, args=(str(notes), order)) for order in orders]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert [person.exitcode for person in people] == [0, 0]
    found = notebook.findings(notes, collection="talk")
    assert [item.order for item in found] == list(range(1, 9))
    assert sorted(item.id for item in found) == sorted(uids)
    assert notebook.order_findings(notes, "talk", orders[0]) == orders[0]


_WRITER = """
import sys
from pathlib import Path
from analysis.store import notebook
from analysis.store.finding import Finding, Table
for i in range(10_000):
    part = Table(("a",), (("x" * 50_000,),))
    notebook.add_finding(Path(sys.argv[1]), Finding("retrieval_lab", f"{i}", {}, collection="c", parts=(part,)))
    print(i, flush=True)
"""


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_killed_writer_leaves_whole_findings_and_all_that_it_reported(notes: Path, after: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(notes)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    reported = -1
    while reported < after:
        reported = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    reported += len(writer.stdout.read().splitlines())
    writer.wait()
    kept = notebook.findings(notes)
    assert [item.title for item in kept] == [str(i) for i in range(len(kept))]
    assert len(kept) in (reported + 1, reported + 2)  # one may have been kept and not yet reported
    assert all(len(notebook.finding(notes, item.id).parts) == 1 for item in kept)
    pin(notes, "after the crash")
    if not os.environ.get(notes_database.NOTES_VARIABLE):
        assert sqlite3.connect(notes / notes_database.FILE).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_importable_where_there_are_no_file_locks() -> None:
    code = "import sys; sys.modules['fcntl'] = None; import analysis.store.notebook, analysis.store.notes_exchange"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_server_of_the_tests_is_debians(server: str) -> None:
    assert server.startswith("postgresql+psycopg://")
    assert shutil.which("psql") or Path("/usr/lib/postgresql").is_dir()
