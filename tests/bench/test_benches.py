"""Every bench keeps its case names, which figures of different days are compared by; the cheap ones run here."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.bench import BENCHES
from analysis.bench.child import MARK, in_child, main
from analysis.bench.measuring import Row
from analysis.cli import main as cli
from analysis.errors import AnalysisError

CASES = {
    "scores": [
        "attribution_k7168_n25k_vs_literal", "attribution_k32768_n100k", "bridge_k7168_n100k_vs_dense",
        "growth_attribution", "growth_energy",
    ],
    "retrieval": [
        "qrels_vs_published_loop", "evaluate_vs_matmul", "rank_slider_3k_25k_3584", "percentage_slider_3k_25k_3584",
        "new_method_3k_25k_3584",
    ],
    "extract": ["qwen2_tiny_vs_published_loop", "paligemma_tiny_vs_published_loop"],
}  # fmt: skip


@pytest.mark.parametrize("name", ["scores", "retrieval"])
def test_quick_run_yields_the_fixed_cases(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["bench", name, "--quick", "--json", str(tmp_path / "rows.json")])
    assert result.exit_code == 0, result.output
    rows = [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())["rows"]]
    assert [row.case for row in rows] == CASES[name]
    for row in rows:
        assert row.bench == name
        assert row.case in result.output
        assert row.note.startswith("quick: ")
        assert row.ours_s is not None
        assert row.ours_s > 0
        assert row.peak_mb is not None
        assert row.peak_mb >= 0
        if row.baseline_s is not None and row.case != "evaluate_vs_matmul":
            assert row.ratio == pytest.approx(row.baseline_s / row.ours_s, rel=1e-2, abs=6e-4)  # printed to 3 places
        assert (row.baseline is None) == (row.baseline_s is None)


def test_quick_extraction_gives_the_vectors_of_the_published_loop() -> None:
    rows = list(importlib.import_module("analysis.bench.extract").run(True))  # raises where they differ
    assert [row.case for row in rows] == CASES["extract"]
    assert all(row.ratio is not None for row in rows)


def test_every_bench_has_its_module() -> None:
    for name in BENCHES:
        assert callable(importlib.import_module(f"analysis.bench.{name}").run)


def test_unknown_bench_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["bench", "speed"])
    assert result.exit_code == 2
    assert "retrieval" in result.output


def test_child_prints_the_row_behind_its_mark(capsys: pytest.CaptureFixture[str]) -> None:
    main(["tests.bench.test_benches", "row_of", json.dumps({"case": "here"})])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(MARK)]
    assert Row(**json.loads(line.removeprefix(MARK))) == row_of("here")


def test_child_runs_with_the_environment_it_is_given() -> None:
    row = in_child(
        "tests.bench.test_benches", "row_of_environment", environment={"BENCH_PROBE": "seen"}, name="BENCH_PROBE"
    )
    assert row.note == "seen"


def test_child_that_fails_is_one_sentence() -> None:
    with pytest.raises(AnalysisError, match="ended with code 1"):
        in_child("tests.bench.test_benches", "no_such_function")


def row_of(case: str) -> Row:
    print("a library says something")
    return Row("x", case, 1.0)


def row_of_environment(name: str) -> Row:
    import os

    return Row("x", "environment", 1.0, note=os.environ[name])
