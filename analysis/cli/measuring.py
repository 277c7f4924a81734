"""retrieve, effects, reproduce: the numbers of the pages, and the published ones beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from analysis.cli.options import FiniteRange, UserPath, cache_option, engine_options, plugin_option


@click.command()
@click.argument("store", type=UserPath())
@click.option("--task", required=True, metavar="i2t|t2i|...", help="One of the store's retrieval tasks.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="SPEC",
    help="An intervention, e.g. 'removal:attribution,share=0.01,r=20'; repeat for several. Base is always first.",
)
@click.option("--k", "ks", default="1,5,10", show_default=True, help="Cut-offs of recall.")
@click.option("--definition", type=click.Choice(["hit", "fraction"]), default="hit", show_default=True)
@click.option(
    "--query", type=click.IntRange(min=0), default=None, help="Print the ranked candidates of one query instead."
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Length of that list.")
@click.option(
    "--partner",
    type=UserPath(),
    default=None,
    help="A second store of the same data and task, for hybrid methods.",
)
@click.option(
    "--pool",
    type=click.Choice(["local", "global"]),
    default="local",
    show_default=True,
    help="Candidates: the task's own, or those of all tasks of the store.",
)
@click.option(
    "--curve",
    metavar="SETTING",
    default=None,
    help="Print recall against a numeric setting of the method (r, share, alpha, n, weight, beta ...), with its control.",
)
@click.option("--diagnose", is_flag=True, help="Print hubs, spectrum, gap, cosines and margins of base and methods.")
@click.option(
    "--changed",
    type=click.Choice(["rescued", "lost", "near", "moved", "all"]),
    default=None,
    help="Print the queries that the method changes in this way, at the last cut-off.",
)
@click.option(
    "--why",
    type=click.Choice(["change", "before", "after"]),
    default=None,
    help="With --query: split into concepts what changed, or the similarities of its target and its winner in a list.",
)
@click.option("--plan", is_flag=True, help="Say what would be read, the memory and the time, and stop.")
@click.option(
    "--memory",
    type=FiniteRange(min=0, max=1e6),
    default=None,
    metavar="GB",
    help="A task that needs more is measured in blocks; half of what is free by default.",
)
@click.option("--work", type=UserPath(file_okay=False), default=None, help="Where a task in blocks keeps what it has.")
@engine_options("blocks")
@click.option("--run-file", type=UserPath(), help="Write the ranking of the (one) method as a TREC run.")
@click.option("--qrels-file", type=UserPath(), help="Write the relevant pairs as TREC qrels.")
@click.option("--mteb-file", type=UserPath(), help="Write recall as JSON of the shape that mteb has.")
@click.option("--import-run", type=UserPath(), help="Somebody else's TREC run as one more row.")
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")  # fmt: skip
def retrieve(
    store: Path, task: str, methods: tuple[str, ...], ks: str, definition: str, query: int | None, top: int,
    partner: Path | None, pool: str, curve: str | None, diagnose: bool, changed: str | None, why: str | None, as_json: bool,
    plan: bool, memory: float | None, work: Path | None, engine: str, ray_address: str | None, workers: int | None,
    run_file: Path | None, qrels_file: Path | None, mteb_file: Path | None, import_run: Path | None,
) -> None:  # fmt: skip
    """Recall of interventions on STORE, a curve, diagnostics or single queries: what the Retrieval lab shows."""
    try:
        cuts = tuple(sorted({int(part) for part in ks.split(",")}))
    except ValueError as error:
        raise click.BadParameter(f"{ks!r} is not a list of numbers such as 1,5,10", param_hint="--k") from error
    from analysis.cli.task_lab import Asked

    of = Asked(store, task, pool, partner, memory, engine, ray_address, workers, work)
    if plan:
        from analysis.retrieval.evaluation.forecast import forecast
        from analysis.retrieval.interventions import parse
        from analysis.retrieval.task import space_from_store
        from analysis.store import open_store

        space = space_from_store(open_store(store), task, pool)
        found = forecast(space, [parse(method) for method in methods], memory=of.may_hold)
        click.echo("\n".join(found.lines()))
        return
    asked = [
        name
        for name, given in (
            ("--curve", curve),
            ("--diagnose", diagnose),
            ("--changed", changed),
            ("--query", query is not None),
        )
        if given
    ]
    if len(asked) > 1 or (why and query is None):
        wrong = f"{' and '.join(asked)} exclude each other" if len(asked) > 1 else "--why needs --query"
        raise click.UsageError(f"{wrong}; ask for one view at a time, a query's reasons with --query N --why before.")
    files = {"run_file": run_file, "qrels_file": qrels_file, "mteb_file": mteb_file, "import_run": import_run}
    if any(files.values()):
        if asked:
            raise click.UsageError(f"{asked[0]} prints a view; give --run-file and the like without it.")
        from analysis.cli.reporting import run_exchange

        click.echo(run_exchange(of, methods, cuts, definition, as_json, **files))
        return
    common: dict[str, Any] = {"ks": cuts, "definition": definition, "query": query, "as_json": as_json}
    if curve or diagnose or changed or why:
        from analysis.cli.lab_text import run_lab

        click.echo(run_lab(of, methods, curve=curve, diagnose=diagnose, change=changed, why=why or "", **common))
        return
    from analysis.cli.recall_text import run_retrieve

    click.echo(run_retrieve(of, methods, top=top, **common))


@click.command()
@cache_option
@click.option("--store", "chosen", multiple=True, type=UserPath(), help="These stores only; repeat.")
@click.option("--tasks", default="", metavar="i2t,t2i,...", help="These tasks only.")
@click.option("--k", "ks", default="1,10", show_default=True, help="Cut-offs of recall, one table each.")
@plugin_option
def effects(cache: Path, chosen: tuple[Path, ...], tasks: str, ks: str) -> None:
    """What every kind of intervention does to recall, with intervals, as Markdown: the tables of docs/log.md."""
    from analysis.report.effects import effects_markdown, pooled_stores
    from analysis.store import open_store

    try:
        cuts = tuple(sorted({int(part) for part in ks.split(",")}))
    except ValueError as error:
        raise click.BadParameter(f"{ks!r} is not a list of numbers such as 1,10", param_hint="--k") from error
    every = pooled_stores(cache)
    stores = [open_store(path) for path in chosen] or every
    wanted = tuple(part.strip() for part in tasks.split(",") if part.strip())
    known = sorted({task for store in stores for task in store.tasks})
    if unknown := [task for task in wanted if task not in known]:
        raise click.BadParameter(f"{', '.join(unknown)}: expected {', '.join(known)}", param_hint="--tasks")
    click.echo(
        effects_markdown(stores, tasks=wanted, ks=cuts, partners=every, say=lambda text: click.echo(text, err=True))
    )


@click.command()
@cache_option
@click.option("--store", default=None, type=UserPath(), help="Measure everything on this one store.")
@click.option(
    "--format", "kind", type=click.Choice(["text", "md", "csv", "tex", "json"]), default="text", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def reproduce(cache: Path, store: Path | None, kind: str, as_json: bool) -> None:
    """Every published number beside the measured one, with the difference, its interval, state, store and command."""
    from analysis.report.reproduce import formatted, reproduction_table
    from analysis.store import open_store

    table = reproduction_table(cache, store=open_store(store) if store else None)
    click.echo(formatted(table, "json" if as_json else kind))
