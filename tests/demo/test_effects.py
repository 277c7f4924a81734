"""The table of seeds in docs/log.md holds what the stores' own results say."""

from __future__ import annotations

from pathlib import Path

from analysis.demo.effects import seeds_table
from analysis.store.read import open_store

ROOT = Path(__file__).resolve().parents[2]


def pooled(model: str) -> Path:
    """The model's store with every pooling; its token-level store has the mean only."""
    return max((ROOT / "cache" / model).glob("emoji-scenes-*"), key=lambda path: len(open_store(path).variants))


STORES = {model: pooled(model) for model in ("clip-mini", "qwen2-vl-mini")}


def number(store: Path, task: str, method: str, column: str, k: int = 10) -> float:
    table = open_store(store).results(task)
    return float(table[(table["method"] == method) & (table["k"] == k)][column].iloc[0])


def test_seeds_stand_beside_each_other() -> None:
    """Two models in the place of two seeds: every column must hold its own store's numbers."""
    runs = {0: {"any": STORES["clip-mini"]}, 1: {"any": STORES["qwen2-vl-mini"]}}
    lines = seeds_table(runs, ["i2t"]).splitlines()
    assert lines[0] == "| model | task | R@10 | seed 0 | seed 1 |"
    rows = {line.strip("| ").split(" | ")[2]: line.strip("| ").split(" | ")[3:] for line in lines[2:]}
    for column, run in enumerate(runs.values()):
        assert rows["base"][column].startswith(f"{100 * number(run['any'], 'i2t', 'base', 'recall'):.1f} [")
        assert rows["ReAlign"][column].startswith(f"{100 * number(run['any'], 'i2t', 'ReAlign', 'difference'):+.1f} [")


def test_a_method_without_an_answer_is_said() -> None:
    runs = {0: {"any": STORES["qwen2-vl-mini"]}, 1: {"any": STORES["clip-mini"]}}
    (line,) = [line for line in seeds_table(runs, ["i2t"]).splitlines() if "| w/o image |" in line]
    assert line.endswith("| none |")
