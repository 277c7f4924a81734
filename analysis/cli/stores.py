"""list, verify: what lies in the cache and whether it is intact."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.cli.options import UserPath, cache_option


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


@click.command()
@click.argument("store", type=UserPath())
def verify(store: Path) -> None:
    """Check hashes, shapes and invariants of STORE; exit code 1 when something is wrong."""
    from analysis.store import verify as run

    report = run(store)
    for name, problem in report.checks:
        click.echo(f"{'ok  ' if not problem else 'BAD '} {name}{': ' + problem if problem else ''}")
    if not report.ok:
        raise click.ClickException(f"{store} failed {len(report.problems)} check(s); rebuild it or copy it again.")
    click.echo(f"{store} is what its manifest says.")
