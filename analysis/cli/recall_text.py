"""What `python -m analysis retrieve` prints: the numbers of the Retrieval lab, computed by the same functions."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.cli.task_lab import Asked, task_lab
from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.controls import with_first_stages
from analysis.retrieval.evaluation.evaluate import evaluate
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.movement import side_by_side
from analysis.retrieval.interventions import BASE, Intervention, parse
from analysis.retrieval.task import task_in_pool
from analysis.store.read import Store

_INTERVALS = {  # what the numbers of a row in JSON mean
    "low, high": "95 % bootstrap interval over queries",
    "difference_low, difference_high": "95 % bootstrap interval over queries of the paired difference to the base",
    "band_low, band_high": "least and largest of the random seeds, no bootstrap interval",
}


def run_retrieve(
    asked: Asked,
    methods: Sequence[str],
    *,
    ks: Sequence[int],
    definition: str,
    query: int | None,
    top: int,
    as_json: bool,
) -> str:
    """Text (or JSON) of the recall table of `methods`, base first and the other model of a hybrid last, or of one query's
    candidates before and after."""
    interventions = [parse(method) for method in methods]
    with task_lab(asked) as (opened, lab):
        if query is not None:
            return _one_query(opened, asked.pool, lab, interventions, query, top, as_json)
        table = evaluate(lab.space, with_first_stages((BASE, *interventions)), ks=ks, definition=definition, lab=lab)
    if as_json:
        rows = json.loads(table.to_json(orient="records"))
        return json.dumps({**table.attrs, "intervals": _INTERVALS, "rows": rows}, indent=1)
    return _table_text(table, ks, asked.task)


def _table_text(table: pd.DataFrame, ks: Sequence[int], task: str) -> str:
    facts = table.attrs
    lines = [
        f"{task}: {facts['queries']:,} queries, {facts['candidates']:,} candidates, {facts['missing_targets']:,} missing "
        f"targets, {facts['unanswerable']:,} queries without a target (misses); recall by {facts['definition']}, percent "
        "with 95 % bootstrap interval; difference to base paired."
    ]
    seeds = table["band_low"].notna().any()
    lines += (
        ["Random controls: mean of their seeds with the range of the seeds, no bootstrap interval."] if seeds else []
    )
    methods = table.drop_duplicates("spec")
    shown = pd.DataFrame({"method": methods["method"].to_numpy()})
    for k in ks:
        rows = list(table[table["k"] == k].itertuples())
        shown[f"R@{k}"] = [
            f"{100 * row.recall:.1f} "
            + (
                f"[{100 * row.low:.1f}, {100 * row.high:.1f}]"
                if np.isnan(row.band_low)
                else f"(seeds {100 * row.band_low:.1f} to {100 * row.band_high:.1f})"
            )
            for row in rows
        ]
        shown[f"difference@{k}"] = [
            f"{100 * row.difference:+.1f} [{100 * row.difference_low:+.1f}, {100 * row.difference_high:+.1f}]"
            for row in rows
        ]
    shown["spec"] = methods["spec"].to_numpy()
    return "\n".join([*lines, shown.to_string(index=False)])


def _one_query(
    store: Store,
    pool: str,
    lab: Lab,
    interventions: Sequence[Intervention],
    query: int,
    top: int,
    as_json: bool,
) -> str:
    space = lab.space
    if not 0 <= query < space.n_queries:
        raise RetrievalError(f"There is no query {query}; expected 0 to {space.n_queries - 1}.")
    if len(interventions) > 1:
        raise RetrievalError(f"{len(interventions)} methods for one query; expected one, to stand beside the base.")
    after = interventions[0] if interventions else BASE
    lists = side_by_side(lab.lists(BASE), lab.lists(after), query, min(top, space.n_candidates), space.qrels)
    rank_before, rank_after = (lab.measure(method.seeds()[0]).ranks[0].best[query] for method in (BASE, after))
    task = task_in_pool(store, space.task, pool)
    text = store.samples["text"].to_numpy()[task.candidate_rows]
    names = np.asarray(space.candidate_names)
    parts = {}
    for name, frame in (("before", lists.before), ("after", lists.after), ("targets", lists.targets)):
        parts[name] = frame.assign(
            sample_id=names[frame["candidate"].to_numpy()], text=text[frame["candidate"].to_numpy()]
        )
    row = int(task.query_rows[query])
    asked = {
        "query": query,
        "sample_id": str(store.samples["sample_id"].iat[row]),
        "text": store.samples["text"].iat[row],
    }
    facts = {**asked, "method": after.spec, "rank_before": int(rank_before), "rank_after": int(rank_after)}
    if as_json:
        return json.dumps(
            {**facts, **{name: json.loads(part.to_json(orient="records")) for name, part in parts.items()}}, indent=1
        )
    head = ", ".join(f"{key} {value}" for key, value in facts.items() if value != "")
    return "\n\n".join([head, *(f"{name}\n{part.to_string(index=False)}" for name, part in parts.items())])
