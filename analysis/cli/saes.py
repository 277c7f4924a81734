"""import-sae, export-sae: checkpoints of other tools in and out."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.cli.options import cache_option


@click.command("import-sae")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--backbone", required=True, metavar="KEY", help="The backbone it was trained on.")
@click.option("--name", default=None, help="Folder name; default: the file's stem.")
@click.option("--top-k", type=click.IntRange(min=1), default=None, help="Sparsity; not stored in the authors' files.")
@cache_option
def import_sae(file: Path, backbone: str, name: str | None, top_k: int | None, cache: Path) -> None:
    """Read a released SAE checkpoint (.pt) safely and write it as safetensors under CACHE/sae/BACKBONE/NAME/."""
    from analysis.build.imports import import_sae as run

    click.echo(str(run(file, backbone=backbone, name=name, top_k=top_k, cache=cache)))


@click.command("export-sae")
@click.argument("sae", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export_sae(sae: Path, file: Path) -> None:
    """Write the SAE folder SAE as FILE (.pt), the state dict that overcomplete's TopKSAE loads."""
    from analysis.sae.checkpoint import export_overcomplete, load_sae

    found = load_sae(sae)
    export_overcomplete(found, file)
    click.echo(f"{file}: TopKSAE({found.width}, nb_concepts={found.n_concepts}, top_k={found.top_k})")
    if found.threshold > 0:
        click.echo(
            f"Note: its threshold {found.threshold:.6g} has no place in a state dict; set it as running_threshold."
        )
