"""import-sae, export-sae, import-embeddings: what other tools made, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from analysis.cli.options import Bars, UserPath, cache_option


@click.command("import-sae")
@click.argument("file", type=UserPath(exists=True))
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
    type=UserPath(exists=True),
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
@click.argument("sae", type=UserPath())
@click.argument("file", type=UserPath())
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


@click.command("import-embeddings")
@click.argument("files", nargs=-1, required=True, type=UserPath(exists=True, dir_okay=False))
@click.option("--name", required=True, help="What made the vectors, in your words: the store's backbone.")
@click.option("--dataset", required=True, help="What the vectors are of: a name for the store.")
@click.option(
    "--modality",
    multiple=True,
    type=click.Choice(["image", "text"]),
    help="Of each matrix, in their order; where the names of files and arrays do not say.",
)
@click.option("--ids", type=UserPath(exists=True, dir_okay=False), help="An id a vector, one a line.")
@click.option("--captions", type=UserPath(exists=True, dir_okay=False), help="A caption a text vector.")
@click.option(
    "--files",
    "names",
    type=UserPath(exists=True, dir_okay=False),
    help="A picture's file name an image vector.",
)
@click.option("--pictures", type=UserPath(exists=True, file_okay=False), help="The folder of those files.")
@click.option(
    "--pairs",
    type=UserPath(exists=True, dir_okay=False),
    help="Lines of image id, text id; by order where it is left out and the numbers allow.",
)
@click.option("--contrastive", is_flag=True, help="The model is a dual encoder; drawn so in figures.")
@click.option("--sae", default="train", show_default=True, metavar="train|PATH", help="Train an SAE or use one.")
@click.option(
    "--rule",
    type=click.Choice(["top-k", "batch-topk", "relu"]),
    default=None,
    help="--sae FILE: what limits its codes, where the file does not say.",
)
@click.option("--threshold", type=float, default=None, help="--sae FILE: of a BatchTopK encoder whose file holds none.")
@click.option("--l0", type=float, default=None, help="--sae FILE: find that threshold on these vectors.")
@click.option("--concepts", type=click.IntRange(min=2), default=None, help="K of a trained SAE.")
@click.option("--top-k", type=click.IntRange(min=1), default=None, help="Active concepts per vector.")
@click.option("--sae-steps", type=click.IntRange(min=1), default=None, help="Training steps.")
@click.option("--seed", type=int, default=0, show_default=True)
@cache_option
def import_embeddings(files: tuple[Path, ...], **options: Any) -> None:
    """Build a store from vectors that exist: FILES are .npy, .npz, .parquet or .safetensors, a matrix (N, D) or several.

    An .npz may hold ids, captions and files beside its matrices, a parquet in columns of those names."""  # fmt: skip
    from analysis.build.embeddings import EmbeddingFiles, import_embeddings
    from analysis.build.plan import SaePlan

    found = EmbeddingFiles(
        files, options["modality"], options["ids"], options["captions"], options["names"], options["pictures"],
        options["pairs"],
    )  # fmt: skip
    plan = SaePlan(
        options["sae"], n_concepts=options["concepts"], top_k=options["top_k"], steps=options["sae_steps"],
        seed=options["seed"], rule=options["rule"], threshold=options["threshold"], l0=options["l0"],
    )  # fmt: skip
    path = import_embeddings(
        found, name=options["name"], dataset=options["dataset"], sae=plan, cache=options["cache"],
        contrastive=options["contrastive"], say=click.echo, progress=Bars(),
    )  # fmt: skip
    click.echo(str(path))
