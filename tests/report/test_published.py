"""The published numbers are the paper's: every one of them stands in its text, in the right row."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from analysis.errors import DataError
from analysis.report.published import COLUMNS, paper, published, published_note, published_title

ROOT = Path(__file__).parents[2]
PAPER = Path(os.environ.get("RETRIEVALLENS_PAPER", ROOT.parent / "shared/paper/arxiv-2512.19115v1-full-text.md"))
needs_paper = pytest.mark.skipif(
    not PAPER.is_file(), reason="the paper's text is not at hand (RETRIEVALLENS_PAPER=file)"
)


def printed_rows(number: int) -> list[tuple[str, list[str]]]:
    """Rows of a table as the text has them: (words before the numbers, the numbers as printed)."""
    lines = PAPER.read_text(encoding="utf-8").splitlines()
    start = next(i for i, text in enumerate(lines) if text.startswith(f"Table {number}:"))
    rows, model = [], ""
    for text in lines[start + 1 :]:
        numbers = re.findall(r"(?<=\t)\d+\.\d+", text)
        if not numbers and rows:
            break
        if numbers:
            words = [word for word in text.split("\t") if word and not re.fullmatch(r"\d+\.\d+", word)]
            if number == 1:
                model = words[-1]
            elif len(words) == 2:
                model = words[0]
            rows.append((model if number == 1 else f"{model} / {words[-1]}", numbers))
    return rows


@needs_paper
@pytest.mark.parametrize(("number", "rows", "columns"), [(1, 6, 4), (2, 8, 3), (3, 6, 9)])
def test_the_file_agrees_with_the_paper_row_by_row(number, rows, columns):
    printed = printed_rows(number)
    assert [len(values) for _, values in printed] == [columns] * rows
    table = published(f"table{number}")
    names = table["model"] + table["setting"].where(table["setting"] == "", " / " + table["setting"])
    ours = [(name, table.loc[names == name, "value"].tolist()) for name in dict.fromkeys(names)]
    assert ours == [(name, [float(value) for value in values]) for name, values in printed]


def test_every_number_names_its_source():
    everything = published()
    assert list(everything.columns) == COLUMNS
    assert len(everything) == 24 + 24 + 54
    for row in everything.itertuples():
        for part in ("arXiv 2512.19115v1", f"Table {row.table[-1]}", row.model, row.column, row.dataset, row.split):
            assert part in row.source


def test_units_are_shares_in_table_1_and_percent_elsewhere():
    everything = published()
    first = everything["table"] == "table1"
    assert set(everything.loc[first, "unit"]) == {"share"}
    assert everything.loc[first, "value"].between(0, 1).all()
    assert set(everything.loc[~first, "unit"]) == {"percent"}


def test_recall_grows_with_k_in_every_published_row():
    recall = published()
    recall = recall[recall["unit"] == "percent"]
    for _, row in recall.groupby(["table", "model", "setting", "dataset"]):
        assert row["value"].is_monotonic_increasing


def test_backbones_carry_one_key_each_that_the_models_know():
    everything = published()
    assert set(everything["backbone"]) <= set(pytest.importorskip("analysis.models.specs").BACKBONES)
    assert everything["backbone"].nunique() == 6
    assert (everything.groupby("backbone")["kind"].nunique() == 1).all()


def test_an_unknown_table_says_which_exist():
    with pytest.raises(DataError, match="table1, table2, table3"):
        published("table9")


def test_tables_have_titles_and_notes_for_the_reader():
    assert "17.03" in published_note("table3")
    assert "Removal" in published_title("table2")
    assert "2512.19115" in paper()["version"]
