"""deck, report, notes: findings leave the app as slides and files."""

from __future__ import annotations

from datetime import date as Date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.cli.options import UserPath, cache_option

if TYPE_CHECKING:
    from analysis.cli.task_lab import Asked

_FORMATS = (".html", ".pptx", ".pdf")


@click.command()
@cache_option
@click.option("--collection", default=None, metavar="NAME", help="The findings of this collection, in its order.")
@click.option("--standard", is_flag=True, help="The paper on these models: its findings as measured on the stores.")
@click.option("--store", "chosen", multiple=True, type=UserPath(), help="With --standard: these; repeat.")
@click.option("--out", required=True, type=UserPath(dir_okay=False), help="FILE.html, .pptx or .pdf.")
@click.option("--title", default="", help="On the first slide; the collection's name by default.")
@click.option("--server", default=None, help="Where the app runs, for links to live views.")
@click.option("--notes", is_flag=True, help="HTML: notes and commands too, readable by anyone who gets the file.")
@click.option("--dark", is_flag=True, help="HTML and PDF: light on dark.")
def deck(
    cache: Path, collection: str | None, standard: bool, chosen: tuple[Path, ...], out: Path, title: str,
    server: str | None, notes: bool, dark: bool,
) -> None:  # fmt: skip
    """Findings as slides: one offline HTML file, PowerPoint, or PDF."""
    from analysis.report.deck import write_deck
    from analysis.report.slides import SERVER, deck_of

    if standard == (collection is not None):
        raise click.UsageError("Give either --collection NAME or --standard.")
    if chosen and not standard:
        raise click.UsageError("--store chooses stores of --standard; a collection has its own.")
    if out.suffix.lower() not in _FORMATS:
        raise click.BadParameter(f"{out.name!r} ends in none of {', '.join(_FORMATS)}", param_hint="--out")
    if standard:
        from analysis.report.effects import pooled_stores
        from analysis.report.standard_deck import CITATION, TITLE, standard_findings
        from analysis.store import open_store

        stores = [open_store(path) for path in chosen] or pooled_stores(cache)
        found = standard_findings(stores, say=lambda words: click.echo(words, err=True))
        subtitle, title = f"The paper on these models. {CITATION}", title or TITLE
    else:
        from analysis.store import notebook

        listed = notebook.findings(cache / "notes", collection=collection)
        found = [notebook.finding(cache / "notes", item.id) for item in listed]
        subtitle, title = "", title or str(collection)
    made = deck_of(title, found, subtitle=subtitle, date=Date.today().isoformat(), server=server or SERVER)
    write_deck(made, out, notes=notes, mode="dark" if dark else "light")
    click.echo(f"{out}: {len(made.slides) + 1} slides, {out.stat().st_size / 1e6:.2f} MB")


@click.group()
def report() -> None:
    """One HTML file about a concept, a query, or two methods."""


_out = click.option("--out", required=True, type=UserPath(dir_okay=False), help="FILE.html")
_store = click.argument("store", type=UserPath())


@report.command("concept")
@_store
@click.argument("concept", type=int)
@_out
def report_concept(store: Path, concept: int, out: Path) -> None:
    """Pictures, captions, scores, neighbours and effect on recall of one concept."""
    from analysis.report.one_file import concept_report
    from analysis.store import open_store

    _write(out, concept_report(open_store(store), concept))


@report.command("query")
@_store
@click.argument("query", type=int)
@click.option("--task", required=True)
@click.option("--method", required=True, metavar="SPEC")
@_out
def report_query(store: Path, query: int, task: str, method: str, out: Path) -> None:
    """Lists of one query before and after a method, and why."""
    from analysis.report.one_file import query_report
    from analysis.store import open_store

    _write(out, query_report(open_store(store), task, query, method))


@report.command("comparison")
@_store
@click.argument("first", metavar="SPEC")
@click.argument("second", metavar="SPEC")
@click.option("--task", required=True)
@_out
def report_comparison(store: Path, first: str, second: str, task: str, out: Path) -> None:
    """Recall of two methods, their difference, and the queries that move."""
    from analysis.report.one_file import comparison_report
    from analysis.store import open_store

    _write(out, comparison_report(open_store(store), task, first, second))


def _write(out: Path, html: str) -> None:
    from analysis.report.files import write_whole

    write_whole(out, html.encode())
    click.echo(f"{out}: {len(html) / 1e6:.2f} MB")


@click.group()
def notes() -> None:
    """Labels and findings: list, back up, export, import."""


@notes.command("list")
@cache_option
@click.option("--search", default="", help="Words that must occur.")
def list_notes(cache: Path, search: str) -> None:
    """Collections, then findings, newest first."""
    from analysis.store import notebook

    known = notebook.collections(cache / "notes")
    if not known:
        click.echo(f"There are no findings in {cache / 'notes'}; pin one in the app.")
    for one in known:
        click.echo(f"collection {one.name!r}: {one.count} findings")
    for item in reversed(notebook.findings(cache / "notes", search=search)):
        click.echo(f"{item.id[:12]}  {item.time[:16]}  {item.author}  {item.headline}  {item.address()}")


@notes.command()
@cache_option
@click.argument("target", type=UserPath(dir_okay=False))
def backup(cache: Path, target: Path) -> None:
    """Copy the database to TARGET, whole, also while others write."""
    from analysis.store.notes_exchange import backup as run

    click.echo(f"{run(cache / 'notes', target)} holds the notes of {cache}.")


@notes.command("export")
@cache_option
@click.argument("target", type=UserPath(dir_okay=False))
@click.option("--what", type=click.Choice(["labels", "findings"]), default="labels", show_default=True, help="For CSV.")
def export_notes(cache: Path, target: Path, what: str) -> None:
    """Write everything as TARGET.json, or a table as TARGET.csv."""
    from analysis.report.files import write_whole
    from analysis.store.notes_exchange import export_csv, export_json

    text = export_csv(cache / "notes", what) if target.suffix.lower() == ".csv" else export_json(cache / "notes")
    write_whole(target, text.encode())
    click.echo(f"{target} written.")


@notes.command("import")
@cache_option
@click.argument("source", type=UserPath(exists=True, dir_okay=False))
def import_notes(cache: Path, source: Path) -> None:
    """Take in SOURCE.json, or labels from SOURCE.csv; what is here already stays."""
    from analysis.store.notes_exchange import import_json, import_labels_csv

    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.ClickException(
            f"{source.name} is not in UTF-8 ({error.reason}); save it as UTF-8 and try again."
        ) from error
    if source.suffix.lower() == ".csv":
        new: dict[str, Any] = {"labels": import_labels_csv(cache / "notes", text)}
    else:
        new = import_json(cache / "notes", text)
    click.echo(", ".join(f"{count} new {what}" for what, count in new.items()))


def run_exchange(
    asked: Asked, methods: tuple[str, ...], ks: tuple[int, ...], definition: str, as_json: bool, *,
    run_file: Path | None, qrels_file: Path | None, mteb_file: Path | None, import_run: Path | None,
) -> str:  # fmt: skip
    """What `retrieve` says when it writes or reads files of other tools: the recall table, then the files."""
    import json

    from analysis.cli.task_lab import task_lab
    from analysis.errors import RetrievalError
    from analysis.report import exchange
    from analysis.report.files import write_whole
    from analysis.retrieval.evaluation.evaluate import evaluate
    from analysis.retrieval.interventions.intervention import BASE, parse

    chosen = [parse(method) for method in methods]
    if run_file and len(chosen) > 1:
        raise RetrievalError(f"A run holds one ranking, {len(chosen)} methods were given; choose one --method.")
    said = []
    with task_lab(asked) as (opened, lab):
        space = lab.space
        table = evaluate(space, [BASE, *chosen], ks=ks, definition=definition, lab=lab)
        rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
        if import_run:
            base = lab.measure(BASE).hits(ks, definition)[0]
            text = exchange.read_run(import_run)
            found = exchange.imported_recall(space, text, ks=ks, definition=definition, base=base)
            rows += [part | {"method": f"imported: {import_run.name}"} for part in found]
        for path, make in (
            (run_file, lambda: exchange.run_text(lab, chosen[0] if chosen else BASE)),
            (qrels_file, lambda: exchange.qrels_text(space)),
            (mteb_file, lambda: json.dumps(exchange.mteb_json(
                space, table, task=f"{opened.dataset} {asked.task}", model=opened.backbone,
                split=str(opened.config["data"].get("split") or "test"), ks=ks), indent=1)),
        ):  # fmt: skip
            if path:
                write_whole(path, make().encode())
                said.append(f"{path} written.")
    if as_json:
        return json.dumps(rows, indent=1)
    words: dict[str, list[str]] = {}
    for row in rows:
        shown = f"R@{row['k']} {100 * row['recall']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        words.setdefault(row["method"], []).append(shown)
    lines = ["  ".join([method, *shown]) for method, shown in words.items()]
    return "\n".join([*lines, *said])
