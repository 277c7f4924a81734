"""Rows: medians, ratio, memory, and what is printed and written."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from analysis.bench.measuring import Row, compare, peak_memory_mb
from analysis.bench.run import print_rows, write_json


def test_ratio_is_the_time_of_the_baseline_over_ours() -> None:
    row = compare("b", "c", lambda: time.sleep(0.01), lambda: time.sleep(0.05), name="slow")
    assert row.ours_s is not None
    assert row.baseline_s is not None
    assert row.ours_s >= 0.01
    assert row.baseline_s >= 0.05
    assert row.ratio == pytest.approx(row.baseline_s / row.ours_s, rel=1e-3)


def test_ours_and_baseline_alternate_after_one_warm_up_each() -> None:
    calls: list[str] = []
    compare("b", "c", lambda: calls.append("o"), lambda: calls.append("b"), repeats=3)
    assert "".join(calls) == "ob" + "ob" * 3
    calls.clear()
    compare("b", "c", lambda: calls.append("o"), lambda: calls.append("b"), repeats=2, warm=False, peak_mb=1.0)
    assert "".join(calls) == "o" + "ob" * 2


def test_without_a_baseline_there_is_no_ratio() -> None:
    row = compare("b", "c", lambda: None, None)
    assert (row.baseline, row.baseline_s, row.ratio) == (None, None, None)
    assert row.ours_s is not None


def test_peak_memory_sees_what_is_freed_before_the_end() -> None:
    def work() -> None:
        np.ones(8_000_000).sum()  # 64 MB that are gone when it returns

    # Whatever another thread frees meanwhile, of tests before this one, hides as much.
    assert 50 < max(peak_memory_mb(work) for _ in range(3)) < 120
    assert peak_memory_mb(lambda: None) < 20


def test_printed_table_has_a_line_a_row_and_a_dash_for_what_does_not_apply(tmp_path: Path) -> None:
    lines: list[str] = []
    rows = print_rows(
        iter([Row("x", "case_a", 0.5, "loop", 1.0, 2.0, 3.5, "small"), Row("x", "case_b", None)]), lines.append
    )
    assert [line.split()[:2] for line in lines[1:]] == [["x", "case_a"], ["x", "case_b"]]
    assert lines[1].split()[2:6] == ["0.5", "1", "2", "3.5"]
    assert lines[1].endswith("loop; small")
    assert lines[2].split()[2:] == ["-"] * 4
    write_json(rows, tmp_path / "rows.json", quick=True)
    read = json.loads((tmp_path / "rows.json").read_text())
    assert read["quick"] is True
    assert read["rows"][0] == {
        "bench": "x", "case": "case_a", "ours_s": 0.5, "baseline": "loop", "baseline_s": 1.0, "ratio": 2.0,
        "peak_mb": 3.5, "note": "small",
    }  # fmt: skip
    assert read["rows"][1]["ours_s"] is None
