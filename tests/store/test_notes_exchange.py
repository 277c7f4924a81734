"""What leaves a database of notes comes back whole, once, and harms no spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest

from analysis.errors import StoreError
from analysis.store import notebook, notes_database
from analysis.store.finding import Finding, Table
from analysis.store.notes_exchange import (
    LABEL_COLUMNS,
    backup,
    export_csv,
    export_json,
    import_json,
    import_labels_csv,
)

SHA = "ab" * 32
FORMULA = '=HYPERLINK("http://x")'


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    notebook.add_label(folder, SHA, 7, "cat", "Ada")
    notebook.add_label(folder, SHA, 7, FORMULA, "Bob")
    content = {"parts": (Table(("a",), ((1.5,),)),), "picture": b"\xff\xd8", "tags": ("x",)}
    notebook.add_finding(folder, Finding("retrieval_lab", FORMULA, {"a": ["b"]}, collection="talk", **content))  # type: ignore[arg-type]
    hidden = notebook.add_finding(folder, Finding("retrieval_lab", "hidden", {}))
    notebook.hide_finding(folder, hidden.id)
    return folder


def test_json_carries_everything_to_another_database_once(notes: Path, tmp_path: Path) -> None:
    other, text = tmp_path / "other", export_json(notes)
    assert import_json(other, text) == {"labels": 2, "findings": 2}
    assert import_json(other, text) == {"labels": 0, "findings": 0}
    (there,) = notebook.findings(other, collection="talk")
    assert notebook.finding(other, there.id) == notebook.finding(notes, there.id)
    assert notebook.history(other, SHA, 7) == notebook.history(notes, SHA, 7)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "retrievallens-notes", "schema": 9, "labels": [], "findings": []}']
)
def test_what_is_no_export_of_this_version_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(StoreError, match=r"expected|update"):
        import_json(tmp_path, text)


@pytest.mark.parametrize(
    "changes",
    [
        {"params": [1]}, {"time": 5}, {"stores": [1]}, {"title": None}, {"note": None}, {"order": "last"},
        {"parts": [{"kind": "lists", "lists": [{"title": "t", "entries": [{"rank": "x", "text": "y"}]}]}]},
    ],
)  # fmt: skip
def test_an_entry_of_other_types_is_refused_before_a_page_meets_it(notes: Path, tmp_path: Path, changes: dict) -> None:
    whole = json.loads(export_json(notes))
    whole["findings"][0] |= changes
    with pytest.raises(StoreError, match=f"no finding .*{'rank' if 'parts' in changes else next(iter(changes))}"):
        import_json(tmp_path / "other", json.dumps(whole))


@pytest.mark.parametrize("concept", [-1, 2**63, float("inf"), None, "seven"])
def test_a_label_of_no_concept_is_refused(notes: Path, tmp_path: Path, concept: object) -> None:
    whole = json.loads(export_json(notes))
    whole["labels"][0]["concept"] = concept
    with pytest.raises(StoreError, match="a whole number as concept"):
        import_json(tmp_path / "other", json.dumps(whole))


@pytest.mark.parametrize(
    "text",
    [
        '{"format": "retrievallens-notes", "schema": 1, "labels": null, "findings": []}', "[" * 50_000,
        '{"format": "retrievallens-notes", "schema": 1, "labels": [], "findings": [], "x": "\\ud800"}',
    ],
)  # fmt: skip
def test_what_no_export_holds_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(StoreError, match="no export of notes"):
        import_json(tmp_path, text)


HEAD = ",".join(LABEL_COLUMNS)


def test_a_csv_with_the_line_ends_of_old_macs_is_read(tmp_path: Path) -> None:
    assert import_labels_csv(tmp_path, f"{HEAD}\rx,1,t,a,2026\r") == 1


def test_a_csv_with_a_cell_beyond_what_is_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        import_labels_csv(tmp_path, f"{HEAD}\n{'x' * 200_000},1,t,a,2026")


def test_half_an_import_is_none(notes: Path, tmp_path: Path) -> None:
    whole = json.loads(export_json(notes))
    whole["findings"][1] = {"title": "no page"}
    with pytest.raises(StoreError):
        import_json(tmp_path / "other", json.dumps(whole))
    assert notebook.findings(tmp_path / "other") == []


def test_csv_comes_back_and_runs_no_formula(notes: Path, tmp_path: Path) -> None:
    text = export_csv(notes, "labels")
    assert all(not cell.startswith("=") for row in csv.reader(io.StringIO(text)) for cell in row)
    assert import_labels_csv(tmp_path / "other", text) == 2
    assert import_labels_csv(tmp_path / "other", text) == 0
    assert notebook.labels(tmp_path / "other", SHA)[7].text == FORMULA
    head, *rows = text.splitlines()
    assert import_labels_csv(tmp_path / "wider", "\n".join([head, *(f"{row},one cell more" for row in rows)])) == 2
    (card,) = csv.DictReader(io.StringIO(export_csv(notes, "findings")))
    assert card["title"] == f"'{FORMULA}"
    for wrong in ("", "a,b\n1,2\n", "sae,concept,text,author,time\nx,one,t,a,2026\n"):
        with pytest.raises(StoreError, match="expected the columns"):
            import_labels_csv(tmp_path / "other", wrong)


def test_a_backup_is_a_whole_database_of_one_moment(notes: Path, tmp_path: Path) -> None:
    copy = backup(notes, tmp_path / "safe" / notes_database.FILE)
    notebook.add_label(notes, SHA, 1, "later")
    assert sqlite3.connect(copy).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(notebook.findings(copy.parent)) == 1
    assert notebook.history(copy.parent, SHA, 1) == []
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_nothing_to_back_up_and_a_servers_database_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="no notes"):
        backup(tmp_path, tmp_path / "b.sqlite")
    monkeypatch.setenv(notes_database.NOTES_VARIABLE, "postgresql+psycopg://u:secret@h/x")
    with pytest.raises(StoreError, match="pg_dump") as problem:
        backup(tmp_path, tmp_path / "b.sqlite")
    assert "secret" not in str(problem.value)
