"""The effects of several training seeds beside each other, from the results that each seed's stores hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.report.effects import in_percent
from analysis.store.read import open_store


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
        return in_percent(row["recall"], row["low"], row["high"])
    return in_percent(row["difference"], row["difference_low"], row["difference_high"], sign="+")
