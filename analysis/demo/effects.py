"""The demo's effects as a Markdown table: what docs/log.md reports for every seed, read from the stores' own results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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


def _lines(store: Store, task: str) -> list[str]:
    results = store.results(task)
    lines = []
    for method in dict.fromkeys(results["method"]):
        rows = results[results["method"] == method].set_index("k")
        cells = [
            f"{100 * row['recall']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
            for _, row in rows.sort_index().iterrows()
        ]
        last = rows.sort_index().iloc[-1]
        change = f"{100 * last['delta']:+.1f} [{100 * last['delta_low']:+.1f}, {100 * last['delta_high']:+.1f}]"
        lines.append(f"| {store.label} | {task} | {method} | {' | '.join(cells)} | {change} |")
    return lines
