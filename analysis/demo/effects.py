"""What a build measured, as a Markdown table: recall of the standard methods from the own results of stores, e.g. of several
seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.store.read import Store, open_store


def effects_table(stores: Sequence[Path], tasks: Sequence[str] | None = None) -> str:
    """One line per store, task and method: recall@1/5/10 in percent with intervals, and the paired difference at 10."""
    lines = [
        "| store | task | method | R@1 | R@5 | R@10 | difference at 10 |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in stores:
        store = open_store(path)
        for task in tasks or store.tasks:
            lines += _lines(store, task)
    return "\n".join(lines)


def seeds_table(runs: Mapping[int, Mapping[str, Path]], tasks: Sequence[str], k: int = 10) -> str:
    """The same effects of several training seeds beside each other: one line per model, task and method, one column a
    seed, holding recall@k of the base and for every other method its paired difference to the base, with interval.

    runs: seed -> model -> its store; every seed has the same models.
    """
    lines = [
        f"| model | task | R@{k} | {' | '.join(f'seed {seed}' for seed in runs)} |",
        "|---|---|---|" + "---|" * len(runs),
    ]
    for name in next(iter(runs.values())):
        stores = [open_store(run[name]) for run in runs.values()]
        for task in tasks:
            tables = [_at(store.results(task), k) for store in stores]
            for method in tables[0].index:
                cells = [_cell(table, method) for table in tables]
                lines.append(f"| {name} | {task} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _at(results: pd.DataFrame, k: int) -> pd.DataFrame:
    return results[results["k"] == k].set_index("method")


def _cell(table: pd.DataFrame, method: str) -> str:
    if method not in table.index:
        return "none"  # the method has no answer on this seed's store
    row = table.loc[method]
    if method == "base":
        return f"{100 * row['recall']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return _difference(row)


def _difference(row: pd.Series) -> str:
    return f"{100 * row['delta']:+.1f} [{100 * row['delta_low']:+.1f}, {100 * row['delta_high']:+.1f}]"


def _lines(store: Store, task: str) -> list[str]:
    results = store.results(task)
    lines = []
    for method in dict.fromkeys(results["method"]):
        rows = results[results["method"] == method].set_index("k")
        cells = [
            f"{100 * row['recall']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
            for _, row in rows.sort_index().iterrows()
        ]
        change = _difference(rows.sort_index().iloc[-1])
        lines.append(f"| {store.label} | {task} | {method} | {' | '.join(cells)} | {change} |")
    return lines
