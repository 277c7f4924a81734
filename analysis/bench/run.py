"""What `python -m analysis bench` prints and writes."""

from __future__ import annotations

import importlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from analysis.bench import BENCHES
from analysis.bench.measuring import Row

_COLUMNS = f"{'bench':<10}{'case':<44}{'ours s':>10}{'base s':>10}{'ratio':>9}{'peak MB':>9}  "


def run_bench(name: str, *, quick: bool = False) -> Iterator[Row]:
    """Rows of one bench, or of "all", as they are measured."""
    for bench in BENCHES if name == "all" else (name,):
        yield from importlib.import_module(f"analysis.bench.{bench}").run(quick)


def print_rows(rows: Iterable[Row], say: Callable[[str], Any]) -> list[Row]:
    """A table line for each row, followed by what it was measured against and on."""
    say(_COLUMNS + "against / note")
    done = []
    for row in rows:
        numbers = "".join(
            f"{_short(value):>{width}}"
            for value, width in ((row.ours_s, 10), (row.baseline_s, 10), (row.ratio, 9), (row.peak_mb, 9))
        )
        words = "; ".join(part for part in (row.baseline, row.note) if part)
        say(f"{row.bench:<10}{row.case:<44}{numbers}  {words}")
        done.append(row)
    return done


def write_json(rows: Iterable[Row], path: Path, *, quick: bool) -> None:
    """{machine, quick, rows}: what is needed to compare with the same file of another day."""
    machine = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }
    facts = {"machine": machine, "quick": quick, "rows": [row.as_dict() for row in rows]}
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
