"""import-sae, export-sae: checkpoints of other tools in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from analysis.cli.options import cache_option


@click.command("import-sae")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--backbone", required=True, metavar="KEY", help="The backbone it was trained on.")
@click.option("--name", default=None, help="Folder name; default: the file's stem.")
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    default=None,
    help="Active concepts of a TopK encoder (not stored in the authors' files); of any other the width of codes.",
)
@click.option(
    "--rule",
    type=click.Choice(["top-k", "batch-topk", "relu"]),
    default=None,
    help="What limits the codes, where the file does not say: overcomplete saves TopK and BatchTopK alike.",
)
@click.option("--threshold", type=float, default=None, help="Of a BatchTopK encoder whose file holds none.")
@click.option(
    "--l0", type=float, default=None, help="Find that threshold: so many concepts active on average in --sample."
)
@click.option(
    "--sample",
    type=click.Path(exists=True, path_type=Path),
    default=None,
    help="Embeddings (.npy, .npz, .parquet, .safetensors) or a store, for --l0 and the width of codes.",
)
@click.option("--delta", type=float, default=None, help="Archetypal SAEs of overcomplete: bound on Relax; default 1.")
@cache_option
def import_sae(file: Path, **options: Any) -> None:
    """Read an SAE of overcomplete, SAELens, dictionary_learning, sparsify or saev and keep it under CACHE/sae/BACKBONE/NAME/.

    FILE is a checkpoint or the folder of one. Nothing in it is run; a file that needs that is refused."""  # fmt: skip
    from analysis.build.imports import import_sae as run
    from analysis.sae.checkpoint import load_sae

    folder = run(file, **options)
    sae = load_sae(folder)
    click.echo(f"{sae.meta.get('tool', 'SAE')}: {sae.n_concepts} concepts, {sae.width} wide, rule {sae.rule}", err=True)
    for note in sae.meta.get("notes", ()):
        click.echo(f"Note: {note}", err=True)
    click.echo(str(folder))


@click.command("export-sae")
@click.argument("sae", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format", "layout", type=click.Choice(["overcomplete", "saelens"]), default="overcomplete", show_default=True
)
def export_sae(sae: Path, file: Path, layout: str) -> None:
    """Write the SAE folder SAE as FILE: a state dict (.pt) of overcomplete, or a folder of SAELens."""
    from analysis.sae.checkpoint import load_sae
    from analysis.sae.export import export_overcomplete, export_saelens

    done = (export_overcomplete if layout == "overcomplete" else export_saelens)(load_sae(sae), file)
    click.echo(f"{file}: {done.constructor}")
    if done.note:
        click.echo(f"Note: {done.note}")
