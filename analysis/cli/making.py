"""demo, bench: rebuild the embedded demo; speed against the peers."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.bench import BENCHES
from analysis.cli.options import Bars, UserPath, cache_option


@click.command()
@click.option("--only", multiple=True, metavar="STEP", help="data, train or stores; all by default.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="clip-mini ...; all that ship by default.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the models; the shipped ones are seed 0.")
@click.option("--smoke", is_flag=True, help="A few training steps only, to try the path.")
@click.option(
    "--photographs",
    type=UserPath(),
    metavar="FOLDER",
    help="Instead: stores of these photographs with captions, e.g. a COCO folder, out of the models' world.",
)
@click.option("--split", default=None, help="Of the photographs, where they have several; all by default.")
@cache_option
def demo(
    only: tuple[str, ...],
    models: tuple[str, ...],
    seed: int,
    smoke: bool,
    photographs: Path | None,
    split: str | None,
    cache: Path,
) -> None:
    """Rebuild the embedded demo from its seeds: EmojiScenes, models, their SAEs and stores. Resumes."""
    from analysis.demo.pipeline import run_demo, run_photographs

    if photographs is not None:
        run_photographs(photographs, models=models, split=split, cache=cache, say=click.echo, progress=Bars())
        return
    run_demo(only=only, models=models, seed=seed, smoke=smoke, cache=cache, say=click.echo, progress=Bars())


@click.command()
@click.argument("name", type=click.Choice([*BENCHES, "all"]))
@click.option("--json", "json_file", type=UserPath(dir_okay=False), help="Also write the rows here.")
@click.option("--quick", is_flag=True, help="Small sizes, to see that everything runs; its figures mean nothing.")
def bench(name: str, json_file: Path | None, quick: bool) -> None:
    """Speed and memory against the peers and the plain form of each computation, measured now, on this machine."""
    from analysis.bench.run import print_rows, run_bench, write_json

    rows = print_rows(run_bench(name, quick=quick), click.echo)
    if json_file is not None:
        write_json(rows, json_file, quick=quick)
