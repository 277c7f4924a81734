"""What every intervention does to a store's tasks, as one table: the effects that docs/log.md reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.retrieval.evaluation.catalogue import catalogue
from analysis.retrieval.evaluation.evaluate import recall_frame
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.standard import chosen_rank
from analysis.retrieval.interventions import BASE
from analysis.retrieval.task import space_from_store
from analysis.store.read import Store, find_stores, open_store

CHOSEN = "removal by attribution, top 1 %, r chosen on one half of the queries, reported on the other"


def effects(store: Store, task: str, *, ks: Sequence[int] = (1, 10), partner: Store | None = None) -> pd.DataFrame:
    """Recall of the whole catalogue of interventions on one task, one row a method and k.

    Columns: those of `evaluate.recall_frame`, group, and problem: why a method has no answer here (its numbers are NaN then).
    partner: the store of another backbone with the same task, for hybrids.
    """
    space = space_from_store(store, task)
    first = space_from_store(partner, task) if partner is not None and task in partner.tasks else None
    lab = Lab(space, None if first is None else lambda _: first)
    base = lab.measure(BASE)
    groups = {"Base": (BASE,), **catalogue(space, partner=partner.backbone if partner and first is not None else "")}
    parts = []
    for group, methods in groups.items():
        for method in methods:
            try:
                rows = recall_frame(base, [lab.measure(method)], ks=ks).assign(problem="")
            except AnalysisError as error:
                rows = pd.DataFrame({"method": method.label, "spec": method.spec, "k": ks, "problem": str(error)})
            parts.append(rows.assign(group=group, task=task))
    chosen = chosen_rank(lab, ks=ks)
    if len(chosen):
        parts.append(chosen.assign(method=CHOSEN, spec="", group="Removal by every score", problem="", task=task))
    return pd.concat(parts, ignore_index=True)


def effects_markdown(
    stores: Sequence[Store],
    *,
    tasks: Sequence[str] = (),
    ks: Sequence[int] = (1, 10),
    partners: Sequence[Store] | None = None,
    say: Callable[[str], None] = print,
) -> str:
    """One table a store and k: a line per method, a column per task. A cell has recall in percent with its 95 % bootstrap
    interval and, after a comma, the paired difference to the base with its own; a difference whose interval leaves out 0
    is bold, and a random control has the range of its seeds in round brackets. partners: stores to take a hybrid's other
    backbone from (default: the same stores). say: progress."""
    lines = []
    for store in stores:
        partner = _partner(store, stores if partners is None else partners)
        wanted = [task for task in store.tasks if not tasks or task in tasks]
        parts = []
        for task in wanted:
            say(f"{store.label}, {task}")
            parts.append(effects(store, task, ks=ks, partner=partner))
        table = pd.concat(parts, ignore_index=True)
        for k in ks:
            lines += ["", f"**{store.label}, R@{k}**", "", *_table(table[table["k"] == k], wanted)]
        problems = table[table["problem"] != ""].drop_duplicates(["spec", "task"])
        lines += [f"\n`{row.spec}` on {row.task}: {row.problem}" for row in problems.itertuples()]
    return "\n".join(lines[1:])


def in_percent(value: float, low: float, high: float, *, sign: str = "") -> str:
    """A share and its interval as a table has them: 12.3 [11.0, 13.6]; sign "+" writes the sign of a difference."""
    words = [f"{100 * number:{sign}.1f}" for number in (value, low, high)]
    return f"{words[0]} [{words[1]}, {words[2]}]"


def pooled_stores(cache: Path) -> list[Store]:
    """The stores of pooled embeddings under `cache`, one a backbone and data set."""
    found: dict[tuple[str, str], Store] = {}
    for ref in find_stores(cache):
        if ref.ok:
            store = open_store(ref.path)
            if store.config["sae"]["unit"] == "pooled" and store.tasks:
                found.setdefault((store.backbone, store.dataset), store)
    return list(found.values())


def _partner(store: Store, others: Sequence[Store]) -> Store | None:
    """A store of another backbone on the same data."""
    return next((o for o in others if o.backbone != store.backbone and o.dataset == store.dataset), None)


def _table(rows: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    lines = [f"| method | {' | '.join(tasks)} |", "|---" * (len(tasks) + 1) + "|"]
    cells = {(row.spec, row.task): _cell(row) for row in rows.itertuples()}
    for spec, method in rows.drop_duplicates("spec").set_index("spec")["method"].items():
        lines.append(f"| {method} | {' | '.join(cells.get((spec, task), '') for task in tasks)} |")
    return lines


def _cell(row: object) -> str:
    value = {name: getattr(row, name) for name in ("recall", "low", "high", "band_low", "band_high")}
    if pd.isna(value["recall"]):
        return "no answer"
    band = "" if pd.isna(value["band_low"]) else f" ({100 * value['band_low']:.1f} to {100 * value['band_high']:.1f})"
    text = in_percent(value["recall"], value["low"], value["high"]) + band
    if row.spec == "base":  # type: ignore[attr-defined]
        return text
    change, low, high = (getattr(row, f"difference{end}") for end in ("", "_low", "_high"))
    words, bounds = in_percent(change, low, high, sign="+").split(" ", 1)
    return f"{text}, {f'**{words}**' if low > 0 or high < 0 else words} {bounds}"
