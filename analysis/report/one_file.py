"""Reports: a concept, a query, or two methods as a single HTML file that a colleague opens with nothing installed.

The same parts as on slides, one below the other, with the sentence, the caption and the command of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.concepts.metrics import cumulative_energy
from analysis.concepts.scores import at
from analysis.figures.recall import recall_bars
from analysis.figures.style import percent, points
from analysis.report.deck_html import ON_PAGE, colours, environment, part_html, vendored
from analysis.report.slides import ReportError, natural_height, shortened
from analysis.report.standard_deck import (
    concept_gallery,
    data_sentence,
    describe,
    lists_part,
    query_finding_parts,
    retrieve_command,
    store_id,
)
from analysis.retrieval.evaluation.evaluate import recall_frame
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.evaluation.movement import movement
from analysis.retrieval.interventions.intervention import BASE, parse
from analysis.retrieval.task import space_from_store
from analysis.store.finding import Figure, Finding, Part, figure_part, store_digest, table_part
from analysis.store.read import Store

WIDTH = 1000


def report_html(title: str, found: Sequence[Finding], *, mode: str = "light") -> str:
    """Findings as one file: everything inside, nothing loaded."""
    sections = [
        {
            "heading": shortened(item.headline, 2000), "caption": shortened(item.caption, 2000), "command": item.command,
            "note": item.note, "parts": [part_html(part, WIDTH, _height(part), mode, page=True) for part in item.parts],
        }
        for item in found
    ]  # fmt: skip
    figures = any(isinstance(part, Figure) for item in found for part in item.parts)
    script = vendored("plotly/plotly-cartesian.min.js") if figures else ""
    template = environment().get_template("report.html.j2")
    return template.render(title=shortened(title, 300), sections=sections, plotly_js=script, **colours(mode))


def concept_report(store: Store, concept: int, *, n: int = 12) -> str:
    """One concept: strongest pictures and captions, scores with ranks, neighbours, and recall without it."""
    if not 0 <= concept < store.n_concepts:
        raise ReportError(f"There is no concept {concept} in {store.name}; expected 0 to {store.n_concepts - 1}.")
    table = store.concepts
    row = table.loc[concept]
    name = str(row["name"] or "")
    rows = [
        (score.label, float(row[score.name]), int((table[score.name] > row[score.name]).sum()) + 1, score.sentence)
        for score in at("concept")
        if pd.notna(row[score.name])
    ]
    near = [int(i) for i in store.neighbours[concept][:10]]
    share = float(row["energy"] / max(table["energy"].sum(), 1e-300))
    order = cumulative_energy(table["energy"].to_numpy())
    found = [
        _made(
            store, f"Fires on {percent(float(row['frequency']))} of the samples and holds {percent(share)} of the energy "
            f"(the loudest concept: {percent(float(order[0]))})", [concept_gallery(store, concept, n)],
            command=f".venv/bin/python -m analysis report concept {store.path} {concept} --out concept.html",
        ),
        _made(store, "Scores, with the rank among all concepts",
              [table_part(pd.DataFrame(rows, columns=["score", "value", "rank", "what it says"]))]),
        _made(store, "Nearest directions in the dictionary",
              [table_part(pd.DataFrame({"concept": near, "name": [str(table["name"].iat[i] or "") for i in near],
                                        "modality score": [float(table["modality_score"].iat[i]) for i in near]}))]),
    ]  # fmt: skip
    for task in [task for task in ("i2t", "t2i") if task in store.tasks]:
        spec = f"removal:concepts={concept}"
        found.append(_recall(store, task, [spec]))
    return report_html(f"Concept {concept}{f': {name}' if name else ''} of {store.label}", found)


def query_report(store: Store, task: str, query: int, method: str) -> str:
    """One query: its lists before and after a method, and the reasons in both."""
    space = space_from_store(store, task)
    if not 0 <= query < space.n_queries:
        raise ReportError(f"There is no query {query} in task {task}; expected 0 to {space.n_queries - 1}.")
    lab, after = Lab(space), parse(method)
    words, lists, charts = query_finding_parts(store, lab, after, query, ("before", "after"), depth=10)
    command = f"{retrieve_command(store, task, [after.spec])} --query {query}"
    found = [_made(store, words, [lists_part(store, task, lists, depth=10)], command=command)]
    for side, chart in charts.items():
        found.append(_made(store, f"Why, in the list {side}", [figure_part(chart)], command=f"{command} --why {side}"))
    row = int(store.task(task).query_rows[query])
    return report_html(f"Query {query} of {task}: {describe(store, row) or 'a picture'}", found)


def comparison_report(store: Store, task: str, first: str, second: str) -> str:
    """Two methods on one task: recall with intervals, what the second changes beside the first, and the queries that move
    most."""
    lab = Lab(space_from_store(store, task))
    a, b = parse(first), parse(second)
    before, after = lab.measure(a), lab.measure(b)
    row = recall_frame(before, [after], ks=[10]).iloc[0]
    sure = "" if row["difference_low"] > 0 or row["difference_high"] < 0 else ", an interval that includes no change"
    words = (
        f"R@10 changes by {points(row['difference'])} points [{points(row['difference_low'])}, "
        f"{points(row['difference_high'])}]{sure} from {a.label} to {b.label}"
    )
    found = [_recall(store, task, [first, second], lab=lab, words=words)]
    moved = movement(before.ranks[0], after.ranks[0], 10)
    rows = store.task(task).query_rows
    for status in ("rescued", "lost"):
        part = moved[moved["status"] == status].sort_values("moved", ascending=status == "lost", kind="stable").head(20)
        table = pd.DataFrame({
            "query": part["query"], "what": [describe(store, int(rows[q])) for q in part["query"]],
            "rank before": part["before"], "rank after": part["after"],
        })  # fmt: skip
        count = int((moved["status"] == status).sum())
        command = f"{retrieve_command(store, task, [second])} --changed {status}" if not a.steps else ""
        found.append(_made(store, f"{count:,} queries are {status} at 10", [table_part(table)], command=command))
    return report_html(f"{b.label} beside {a.label}: {task} of {store.label}", found)


def _recall(store: Store, task: str, specs: Sequence[str], *, lab: Lab | None = None, words: str = "") -> Finding:
    lab = lab or Lab(space_from_store(store, task))
    methods = [parse(spec) for spec in specs]
    wanted = list({method.spec: method for method in (BASE, *methods)}.values())
    frame = recall_frame(lab.measure(BASE), [lab.measure(method) for method in wanted])
    change = frame[(frame["spec"] == methods[-1].spec) & (frame["k"] == 10)].iloc[0]
    words = words or (
        f"Without it R@10 of {task} changes by {points(change['difference'])} points "
        f"[{points(change['difference_low'])}, {points(change['difference_high'])}]"
    )
    command = retrieve_command(store, task, [method.spec for method in wanted if method.steps])
    return _made(store, words, [figure_part(recall_bars(frame))], command=command)


def _made(store: Store, words: str, parts: Sequence[Part], *, command: str = "") -> Finding:
    return Finding("", words, {}, sentence=words, parts=tuple(parts), command=command, caption=data_sentence([store]),
                   stores={store_id(store): store_digest(store)})  # fmt: skip


def _height(part: Part) -> int:
    return int(ON_PAGE * natural_height(part)) if isinstance(part, Figure) else 0
