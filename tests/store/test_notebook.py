"""Labels and findings are only ever added, survive a crash in mid-write, and belong to an SAE."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from analysis.errors import StoreError
from analysis.store import notebook
from analysis.store.notebook import Finding

SHA = "ab" * 32


def file_of(notes: Path) -> Path:
    return next(notes.glob("labels-*.jsonl"))


def test_last_label_stands_and_history_keeps_the_others(tmp_path: Path) -> None:
    notebook.add_label(tmp_path, SHA, 7, "cat", "Ada")
    notebook.add_label(tmp_path, SHA, 7, "  tabby \n cat ", "Bob")
    notebook.add_label(tmp_path, SHA, 9, "boat", "Ada")
    assert {concept: label.text for concept, label in notebook.labels(tmp_path, SHA).items()} == {
        7: "tabby cat",
        9: "boat",
    }
    assert [(label.text, label.author) for label in notebook.history(tmp_path, SHA, 7)] == [
        ("tabby cat", "Bob"),
        ("cat", "Ada"),
    ]


def test_empty_label_takes_it_back_but_not_its_history(tmp_path: Path) -> None:
    notebook.add_label(tmp_path, SHA, 7, "cat")
    notebook.add_label(tmp_path, SHA, 7, "")
    assert notebook.labels(tmp_path, SHA) == {}
    assert [label.text for label in notebook.history(tmp_path, SHA, 7)] == ["", "cat"]


def test_labels_of_another_sae_stay_away(tmp_path: Path) -> None:
    notebook.add_label(tmp_path, SHA, 7, "cat")
    assert notebook.labels(tmp_path, "cd" * 32) == {}


def test_no_notes_yet_is_nothing(tmp_path: Path) -> None:
    assert notebook.labels(tmp_path / "missing", SHA) == {}
    assert notebook.findings(tmp_path / "missing") == []
    assert notebook.label_stamp(tmp_path / "missing", SHA) == 0


def test_stamp_changes_with_every_label(tmp_path: Path) -> None:
    notebook.add_label(tmp_path, SHA, 7, "cat")
    before = notebook.label_stamp(tmp_path, SHA)
    notebook.add_label(tmp_path, SHA, 7, "cat")
    assert notebook.label_stamp(tmp_path, SHA) > before


def test_earlier_lines_are_never_rewritten(tmp_path: Path) -> None:
    notebook.add_label(tmp_path, SHA, 1, "one")
    before = file_of(tmp_path).read_bytes()
    notebook.add_label(tmp_path, SHA, 1, "two")
    assert file_of(tmp_path).read_bytes().startswith(before)


def test_torn_last_line_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notebook.add_label(tmp_path, SHA, 1, "one")
    with file_of(tmp_path).open("ab") as handle:
        handle.write(b'{"schema": 1, "conc')
    notebook.add_label(tmp_path, SHA, 2, "two")
    assert {c: label.text for c, label in notebook.labels(tmp_path, SHA).items()} == {1: "one", 2: "two"}
    assert "1 lines are no notes" in caplog.text


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[]", b"null", b'{"schema": 2}', b'{"schema": 1, "concept": 3}'])
def test_lines_that_are_no_notes_are_left_out(tmp_path: Path, line: bytes) -> None:
    notebook.add_label(tmp_path, SHA, 1, "one")
    with file_of(tmp_path).open("ab") as handle:
        handle.write(line + b"\n")
    assert list(notebook.labels(tmp_path, SHA)) == [1]


def test_line_separators_inside_a_label_stay_inside(tmp_path: Path) -> None:
    notebook.add_label(tmp_path, SHA, 1, "a\u2028b \u00e9 \U0001f600")
    assert len(notebook.history(tmp_path, SHA, 1)) == 1


def test_too_long_label_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="201 characters; at most 200"):
        notebook.add_label(tmp_path, SHA, 1, "x" * 201)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "notes"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="could not be kept"):
        notebook.add_label(blocked, SHA, 1, "cat")


def test_findings_come_back_in_order_with_time(tmp_path: Path) -> None:
    for title in ("first", "second"):
        notebook.add_finding(
            tmp_path, Finding("concept", title, {"concept": ["7"]}, "seen", " Ada ", facts={"energy": 1.5})
        )
    found = notebook.findings(tmp_path)
    assert [finding.title for finding in found] == ["first", "second"]
    assert found[0].params == {"concept": ["7"]}
    assert found[0].author == "Ada"
    assert found[0].time
    assert json.loads((tmp_path / "findings.jsonl").read_text().splitlines()[0])["schema"] == 1


def _many(notes: str, who: int) -> None:
    for i in range(50):
        notebook.add_label(Path(notes), SHA, i, f"{who}" * 50)


def test_writers_at_the_same_time_never_mix(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_many, args=(str(tmp_path), who)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = file_of(tmp_path).read_bytes().splitlines()
    assert len(lines) == 150
    assert all(set(json.loads(line)["text"]) <= {"0", "1", "2"} for line in lines)
