"""The numbers the paper prints, each with its source. They stand beside measured ones, never among them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import DataError

_FILE = Path(__file__).with_name("published.json")
COLUMNS = [
    "table",
    "model",
    "backbone",
    "kind",
    "setting",
    "dataset",
    "split",
    "task",
    "column",
    "value",
    "unit",
    "source",
]


def published(table: str | None = None) -> pd.DataFrame:
    """Published numbers in long form, one row per number; `table` is "table1", "table2", "table3" or None for all.

    Columns: table, model (as printed), backbone (our key), kind ("contrastive" | "mllm"), setting ("Base", "Removal",
    "Last token", "Mean pooling" or ""), dataset, split, task, column ("J(E, A)", "R@1", ...), value (as printed), unit
    ("share" | "percent"), source (paper, table, row, column, dataset, split). DataError for an unknown table.
    """
    tables = _load()["tables"]
    if table is not None and table not in tables:
        raise DataError(f"No published table {table!r}; the paper's tables here are {', '.join(tables)}.")
    rows = [row for name in ([table] if table else tables) for row in _rows(name, tables[name])]
    return pd.DataFrame(rows, columns=COLUMNS)


def published_note(table: str) -> str:
    """What a reader must know about a table: choices the paper does not state, entries that look misprinted."""
    return str(_load()["tables"][table]["note"])


def published_title(table: str) -> str:
    """What the table shows, in one line."""
    return str(_load()["tables"][table]["title"])


def statements() -> list[dict[str, str]]:
    """What the paper says without printing a number (figures, ReAlign): table, what, source."""
    return [dict(entry) for entry in _load()["statements"]]


def paper() -> dict[str, str]:
    """Title, authors, version and note of the paper that the numbers come from."""
    return dict(_load()["paper"])


def _rows(name: str, table: dict[str, Any]) -> list[dict[str, Any]]:
    datasets = table.get("datasets") or [{"dataset": table["dataset"], "task": table["task"]}]
    places = [(part, column) for part in datasets for column in table["columns"]]
    version = _load()["paper"]["version"]
    found = []
    for row in table["rows"]:
        for (part, column), value in zip(places, row["values"], strict=True):
            label = f"{row['model']} / {row['setting']}" if row["setting"] else row["model"]
            data = " ".join(word for word in (part["dataset"], part["task"]) if word)
            found.append(
                {name_: row[name_] for name_ in ("model", "backbone", "kind", "setting")}
                | {
                    "table": name,
                    "dataset": part["dataset"],
                    "split": table["split"],
                    "task": part["task"],
                    "column": column,
                    "value": float(value),
                    "unit": table["unit"],
                    "source": f"{version}, Table {name[-1]}, row {label}, column {column}; {data}, split: {table['split']}",
                }
            )
    return found


@lru_cache(maxsize=1)
def _load() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))
