"""What `python -m analysis retrieve` prints beside recall: a curve, diagnostics, the queries that changed, why a candidate
wins. All of it is computed by the functions that the Retrieval lab calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.cli.task_lab import Asked, task_lab
from analysis.errors import RetrievalError
from analysis.retrieval.evaluation.change import Change, contenders, explain_change
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.evaluation.controls import reference
from analysis.retrieval.evaluation.curves import RankChoice, behind, control_band, curves, levels
from analysis.retrieval.evaluation.diagnostics import HUB_DEPTH, hubs
from analysis.retrieval.evaluation.evaluate import recall_change, recall_frame
from analysis.retrieval.evaluation.explanation import explanation_of
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.movement import changed, movement
from analysis.retrieval.evaluation.why import Explanation, explain
from analysis.retrieval.interventions import BASE, Intervention, parse
from analysis.retrieval.task import RetrievalSpace, task_in_pool
from analysis.store.read import Store

DIAGNOSTICS = (
    "modality_gap", "matched_cosine", "random_cosine", "random_spread", "distance_in_spreads", "effective_rank", "hubness",
    "worst_hub_share", "margin", "margin_in_spreads",
)  # fmt: skip
WORST = 6
LEVELS = "level lines, whatever the setting"


def run_lab(
    asked: Asked,
    methods: Sequence[str],
    *,
    ks: Sequence[int] = (1, 5, 10),
    definition: str = "hit",
    curve: str | None = None,
    diagnose: bool = False,
    change: str | None = None,
    query: int | None = None,
    why: str = "before",
    as_json: bool = False,
) -> str:
    """Text or JSON of one view of the lab: `curve` against a setting, `diagnose`, the queries that a `change` names at the
    last k, or else why the winner of one query's list (`why`: "before" or "after") wins."""
    interventions = [parse(method) for method in methods]
    if len(interventions) > 1 and not diagnose:
        raise RetrievalError(f"{len(interventions)} methods were given; expected one, to stand beside the base.")
    after = interventions[0] if interventions else BASE
    with task_lab(asked) as (opened, lab):
        if curve is not None:
            found = curve_tables(lab, curve, after, ks=ks, definition=definition)
        elif diagnose:
            texts = opened.samples["text"].to_numpy()[task_in_pool(opened, asked.task, asked.pool).candidate_rows]
            found = diagnosis_tables(lab, texts, interventions, k=ks[-1], definition=definition)
        elif change is not None:
            before, now = (lab.measure(step).ranks[0] for step in (BASE, after))
            moved = movement(before, now, ks[-1])
            found = {f"{change} at k = {ks[-1]}: {after.label}": changed(moved, change)}
        elif query is not None:
            found = why_tables(lab, opened, query, after, why)
        else:
            raise RetrievalError("Nothing was asked of the lab; expected a curve, diagnostics, a change or a query.")
    return printed(found, as_json)


def curve_tables(
    lab: Lab, kind: str, after: Intervention, *, ks: Sequence[int], definition: str
) -> dict[str, pd.DataFrame]:
    """Name -> table (x, k, recall, low, high ...) of every line in the lab's picture, the control's band, the level lines
    and, over "r", what one half of the queries chose and what the other half has."""
    flat = [lab.measure(level) for level in levels(kind, after)]
    after = behind(kind, after, lab.space)
    found = curves(lab, kind, after, ks=ks, definition=definition)
    tables = dict(found.curves)
    band = control_band(lab, kind, after, ks=ks, definition=definition)
    if band is not None:
        tables[f"random concepts, {band.attrs['seeds']} seeds"] = band
    tables[LEVELS] = recall_frame(flat[0], flat, ks=ks, definition=definition)[["method", "k", "recall", "low", "high"]]
    if found.choice:
        tables["r chosen on one half of the queries, reported on the other"] = pd.DataFrame(
            [_choice(choice) for choice in found.choice.values()]
        )
    return tables


def diagnosis_tables(
    lab: Lab, texts: np.ndarray, methods: Sequence[Intervention], *, k: int = 10, definition: str = "hit"
) -> dict[str, pd.DataFrame]:
    """Diagnostics of the base and of every method, one row each, what of it explains the change of recall at k, and the
    worst hubs of each. texts (C,): the candidates'. What a hybrid has not, having no embeddings of its own, is NaN."""
    rows, said, worst = [], [], {}
    base = lab.diagnose(BASE)

    def change(method: Intervention, beside: Intervention) -> pd.Series:
        return recall_change(lab.measure(beside), lab.measure(method), k, definition)

    names = np.asarray(lab.space.candidate_names)
    for method in dict.fromkeys((BASE, *methods)):
        shape = lab.diagnose(method) if method.steps else base
        rows.append({"method": method.label, **{name: getattr(shape, name) for name in DIAGNOSTICS}})
        if method.steps:
            beside = reference(method, lambda other: change(other, BASE)["recall"])
            before = lab.diagnose(beside) if beside.steps else base
            sentence = explanation_of(method, beside, before, shape, change(method, beside), k)
            said.append({"method": method.label, "sentence": sentence})
        table = hubs(shape.occurrences, lab.space.n_queries, n=WORST)
        ids = table["candidate"].to_numpy()
        worst[f"worst hubs, {method.label}: share of queries with it in the top {HUB_DEPTH}"] = table.assign(
            sample_id=names[ids], text=texts[ids]
        )
    tables = {"diagnostics": pd.DataFrame(rows), **worst}
    return tables | {"what explains the change": pd.DataFrame(said)} if said else tables


def why_tables(lab: Lab, store: Store, query: int, after: Intervention, side: str) -> dict[str, pd.DataFrame]:
    """Contributions of concepts to the similarity with the best target and with the best wrong candidate."""
    if not 0 <= query < lab.space.n_queries:
        raise RetrievalError(f"There is no query {query}; expected 0 to {lab.space.n_queries - 1}.")
    comparison = Comparison(lab.lists(BASE), lab.lists(after), lab.space.qrels, query)
    if side == "change":
        return change_tables(lambda pair: explain_change(lab, comparison, after, pair), comparison, store, lab.space)
    found = explain(lab, comparison, side, BASE if side == "before" else after)
    words = ("target", "wrong winner" if found.rival_wins else "runner-up")
    return explanation_tables(found, store, lab.space, f"query {query}, list {side}", words)


def explanation_tables(
    found: Explanation, store: Store, space: RetrievalSpace, title: str, words: tuple[str, str]
) -> dict[str, pd.DataFrame]:
    """The two candidates of an explanation, called by `words`, and what each part of both similarities gives."""
    table = found.table()
    names = store.concepts["name"].to_numpy()
    table["name"] = [found.words.get(i) or str(names[i] or "") for i in table["concept"]]
    ids = np.asarray(space.candidate_names)
    pairs = pd.DataFrame(
        {
            "candidate": words,
            "sample_id": [ids[found.target_candidate], ids[found.rival_candidate]],
            "similarity": [found.target.similarity, found.rival.similarity],
        }
    )
    return {title: pairs, "contributions; each column adds up to its similarity": table}


def change_tables(
    explained: Callable[[str], Change], comparison: Comparison, store: Store, space: RetrievalSpace
) -> dict[str, pd.DataFrame]:
    """Every pair of candidates that the change of a query is told by: what happened in words, then part by part."""
    names, ids, tables = store.concepts["name"].to_numpy(), np.asarray(space.candidate_names), {}

    def title(concept: int) -> str:
        return f"{concept} · {names[concept]}" if names[concept] else str(concept)

    for pair, candidates in contenders(comparison).items():
        found = explained(pair)
        words = " against ".join(f"{word} {ids[c]}" for word, c in zip(found.words, candidates, strict=True))
        tables[words] = pd.DataFrame({"what changed": found.sentences(title)})
        parts = found.table()
        parts["name"] = [found.names.get(i) or str(names[i] or "") for i in map(int, parts["concept"])]
        tables[f"{words}: lead before, change, after; each column adds up to its lead"] = parts
    return tables


def _choice(choice: RankChoice) -> dict[str, Any]:
    row: dict[str, Any] = {
        "k": choice.k, "r": choice.r, "queries_chose": choice.n_chosen_on, "queries_reported": choice.n_reported,
    }  # fmt: skip
    for name, interval in (
        ("where_chosen", choice.where_chosen),
        ("base_where_chosen", choice.base_where_chosen),
        ("reported", choice.reported),
        ("base", choice.base),
        ("difference", choice.difference),
    ):
        row |= {name: float(interval.value), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
    return row


def printed(tables: dict[str, pd.DataFrame], as_json: bool) -> str:
    """Tables under their names, or JSON."""
    return _json(tables) if as_json else _text(tables)


def _text(tables: dict[str, pd.DataFrame]) -> str:
    with pd.option_context("display.float_format", "{:.4f}".format):
        return "\n\n".join(
            f"{name}\n{table.to_string(index=False, na_rep='not defined')}" for name, table in tables.items()
        )


def _json(tables: dict[str, pd.DataFrame]) -> str:
    return json.dumps(
        {name: json.loads(table.to_json(orient="records", double_precision=15)) for name, table in tables.items()},
        indent=1,
    )
