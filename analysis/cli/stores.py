"""list, verify, rescore: what lies in the cache, whether it is intact, and its tables brought up to date."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.cli.options import Bars, UserPath, cache_option


@click.command("list")
@cache_option
def list_stores(cache: Path) -> None:
    """The stores under CACHE, one a line."""
    from analysis.store import find_stores, open_store

    stores = find_stores(cache)
    if not stores:
        click.echo(f"No stores under {cache}. `python -m analysis build --help` shows how to make one.")
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
