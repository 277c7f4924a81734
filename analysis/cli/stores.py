"""list, verify, rescore, concept-effects, name: what lies in the cache, whether it is intact, its tables brought up to date,
and names by a model."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.cli.options import Bars, FiniteRange, UserPath, cache_option


@click.command("list")
@cache_option
def list_stores(cache: Path) -> None:
    """The stores under CACHE, one a line."""
    from analysis.store import find_stores, open_store

    stores = find_stores(cache)
    if not stores:
        click.echo(f"No stores under {cache}. `.venv/bin/python -m analysis build --help` shows how to make one.")
    for ref in stores:
        if ref.problem:
            click.echo(f"{ref.path}  NOT READABLE: {ref.problem}")
            continue
        store = open_store(ref.path)
        counts, sae = store.facts.get("counts", {}), store.config["sae"]
        click.echo(
            f"{ref.path}  {store.label}  {counts.get('images', 0)} images, {counts.get('captions', 0)} captions, "
            f"K={sae['n_concepts']} top_k={sae['top_k']} {sae['unit']}, tasks {' '.join(store.tasks) or '-'}"
            f"{'  [demo]' if store.is_demo else ''}"
        )
        if store.older:
            click.echo(f"  {store.older_note}")


@click.command()
@click.argument("store", type=UserPath())
def verify(store: Path) -> None:
    """Check hashes, shapes and invariants of STORE; exit code 1 when something is wrong."""
    from analysis.store import verify as run

    report = run(store)
    for name, problem in report.checks:
        click.echo(f"{'ok  ' if not problem else 'BAD '} {name}{': ' + problem if problem else ''}")
    if not report.ok:
        raise click.ClickException(f"{store} failed {len(report.problems)} check(s); see what to do above.")
    click.echo(f"{store} is what its manifest says.")


@click.command()
@click.argument("store", type=UserPath())
@click.option("--all", "everything", is_flag=True, help="Compute every table again, also those that are current.")
def rescore(store: Path, everything: bool) -> None:
    """Compute the scores, bridges, names, neighbours and results of STORE again where their code is newer, without the
    backbone. Its samples, embeddings and codes stay as they are."""
    from analysis.build.rescore import rescore as run

    run(store, everything=everything, say=click.echo, progress=Bars())


@click.command("concept-effects")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--tasks", default="", metavar="i2t,t2i,...", help="These tasks only (default: all of the store).")
@click.option(
    "--top", default=10, show_default=True, type=click.IntRange(min=0), help="Concepts that are printed a side."
)
def concept_effects(store: Path, tasks: str, top: int) -> None:
    """Measure what the removal of each live concept of STORE alone does to recall, keep it with the store's tables, and
    print the concepts that hurt and that help most (change in points of the mean of R@1, R@5 and R@10, 95 % paired)."""
    from analysis.build.concept_effects import measure_concept_effects
    from analysis.retrieval.evaluation.single_effects import leaderboard
    from analysis.store import open_store

    wanted = [part.strip() for part in tasks.split(",") if part.strip()]
    effects = measure_concept_effects(store, tasks=wanted, say=click.echo, progress=Bars())
    names = open_store(store).concepts["name"].to_numpy()
    for task in dict.fromkeys(effects["task"]):
        for words, hurts in (("hurt", True), ("help", False)):
            click.echo(f"{task}: concepts that {words} most")
            for row in leaderboard(effects, task, hurts=hurts).head(top).itertuples():
                change, low, high = (100 * value for value in (row.difference, row.low, row.high))
                name = names[row.concept] or "no shared meaning found"
                click.echo(f"  {row.concept:>6}  {change:+.2f} [{low:+.2f}, {high:+.2f}]  {name}")


@click.command()
@click.argument("store", type=UserPath())
@click.option(
    "--model",
    required=True,
    metavar="PATH|URL",
    help="A local chat model that reads pictures, or an OpenAI-compatible server such as http://127.0.0.1:8000/v1; its "
    "key is read from $OPENAI_API_KEY.",
)
@click.option("--served", default="", metavar="NAME", help="The model's name on a server that has several.")
@click.option("--concepts", default="", metavar="3,7,...", help="These concepts; the loudest by default.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="So many of the loudest.")
@click.option("--unnamed", is_flag=True, help="Only those for which no shared meaning was found.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:0|mps", help="Of a local model.")
@click.option(
    "--timeout",
    type=FiniteRange(min=0.1, max=3600),
    default=60,
    show_default=True,
    help="Seconds to wait for an answer of a server.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be sent, to whom, and stop.")  # fmt: skip
def name(
    store: Path, model: str, served: str, concepts: str, limit: int, unnamed: bool, device: str, timeout: float,
    only_plan: bool,
) -> None:  # fmt: skip
    """Let a vision-language model name concepts of STORE from pictures and captions they fire on. Its names are labels of one
    more author, tested on samples that it did not see; what people named stays. Goes on where it stopped."""
    from analysis.build import naming
    from analysis.store import open_store

    try:
        asked = [int(part) for part in concepts.split(",") if part.strip()]
    except ValueError as error:
        raise click.BadParameter(
            f"{concepts!r} is not a list of numbers such as 3,7", param_hint="--concepts"
        ) from error
    opened = open_store(store)
    chosen = naming.chosen(opened, asked, limit=limit, unnamed=unnamed)
    click.echo(naming.plan(opened, chosen, model))
    if only_plan:
        return
    from analysis.models.chat import open_chat

    chat = open_chat(model, served=served, device=device, timeout=timeout)
    found = naming.name_concepts(opened, chosen, chat, say=click.echo, progress=Bars())
    click.echo("\n".join(naming.lines(found, opened)))
