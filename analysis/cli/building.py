"""build, extract, train-sae, encode, score: from data and a backbone to one store, whole or up to a step."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import click

from analysis.cli.options import Bars, cache_option, engine_options
from analysis.models.families import TAPS
from analysis.models.prompts import PROMPTS
from analysis.models.specs import find_spec

# What the file of another tool's SAE leaves open.
sae_reading: list[Callable] = [
    click.option("--rule", type=click.Choice(["top-k", "batch-topk", "relu"]), default=None,
                 help="--sae FILE: what limits its codes, where the file does not say."),
    click.option("--threshold", type=float, default=None, help="--sae FILE: of a BatchTopK encoder whose file holds none."),
    click.option("--l0", type=float, default=None,
                 help="--sae FILE: find that threshold, so many concepts active on average in the embeddings here."),
]  # fmt: skip


def build_options(function: Callable) -> Callable:
    """The options that build, extract, train-sae, encode and score share."""
    options: list[Callable] = [
        click.option("--backbone", required=True, metavar="KEY|PATH", help="A known backbone, a hub id or a local path."),
        click.option("--dataset", required=True, metavar="NAME|PATH", help="A known dataset or a folder, read in place."),
        click.option("--split", default=None, help="Split of the dataset, where it has several."),
        click.option("--limit", type=click.IntRange(min=1), default=None, help="Use n image-caption groups only."),
        click.option("--limit-queries", type=click.IntRange(min=1), default=None,
                     help="Use n queries of each retrieval task that lies in a folder; its pool stays whole."),
        click.option("--tasks", default=None, metavar="i2t,t2i,...",
                     help="Retrieval tasks, by code or folder, or none; all that the data holds."),
        click.option("--pool", type=click.Choice(["local", "global"]), default="local", show_default=True,
                     help="Candidates of M-BEIR as published: the task's own, or the union of all tasks."),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option("--sae", default="train", show_default=True, metavar="train|PATH", help="Train an SAE or use one."),
        *sae_reading,
        click.option("--sae-unit", type=click.Choice(["pooled", "token"]), default="pooled", show_default=True,
                     help="Train on the analysed embeddings or on token states."),
        click.option("--sae-data", default=None, metavar="NAME|PATH", help="Training data; default: the train split."),
        click.option("--sae-split", default=None, help="Split of the training data."),
        click.option("--sae-limit", type=click.IntRange(min=1), default=None, help="Image-caption groups to train on."),
        click.option("--concepts", type=click.IntRange(min=2), default=None, help="K of a trained SAE."),
        click.option("--top-k", type=click.IntRange(min=1), default=None, help="Active concepts per vector."),
        click.option("--sae-steps", type=click.IntRange(min=1), default=None, help="Training steps."),
        click.option("--prompts", type=click.Choice(list(PROMPTS)), default=None,
                     help="Instruction sentences; the backbone's own by default, uniform where it has none."),
        click.option("--variants", default=None, metavar="mean,last,...", help="Pooling variants; all by default."),
        click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:0|mps"),
        click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default=None,
                     help="Arithmetic of the backbone; its own by default."),
        click.option("--revision", default=None, help="Revision of a hub model."),
        click.option("--weights", default=None, metavar="FOLDER",
                     help="Where the weights of a known backbone lie; from the hub by default."),
        click.option("--tap", type=click.Choice(TAPS), default=None,
                     help="MLLMs: hidden states after or before the final norm, or before the last MLP; the backbone's own "
                     "by default."),
        click.option("--fusion", type=click.Choice(["sum_of_unit_vectors"]), default=None,
                     help="What image + text means to a dual encoder; without it such samples are refused."),
        click.option("--dummy-image", type=click.Choice(["exclude", "include"]), default="exclude", show_default=True,
                     help="PaliGemma: pool the tokens of the black picture that a text-only sample needs?"),
        click.option("--embedding-dtype", type=click.Choice(["float32", "float16"]), default="float32",
                     show_default=True, help="How embeddings are stored."),
        click.option("--weighting", type=click.Choice(["samples", "balanced"]), default="samples", show_default=True,
                     help="Energy: plain mean over samples (paper) or mean of the two modality means."),
        click.option("--token-views", type=click.IntRange(min=0), default=200, show_default=True,
                     help="Samples whose token codes are kept."),
        click.option("--thumb-side", type=click.IntRange(min=32), default=256, show_default=True),
        click.option("--thumb-quality", type=click.IntRange(1, 100), default=80, show_default=True),
        click.option("--shard-size", type=click.IntRange(min=1), default=256, show_default=True),
        engine_options("shards"),
        click.option("--batch-tokens", type=click.IntRange(min=1), default=None, help="Tokens in one batch."),
        cache_option,
    ]  # fmt: skip
    return reduce(lambda decorated, option: option(decorated), reversed(options), function)


@click.command()
@build_options
@click.option("--dry-run", is_flag=True, help="Say what would be downloaded, needed and written, and stop.")
def build(dry_run: bool, **options: Any) -> None:
    """Build a store: extract, train or import an SAE, encode, score, retrieve, publish. Resumes what was begun."""
    if dry_run:
        from analysis.build.forecast import forecast

        click.echo("\n".join(forecast(_plan(options)).lines()))
        return
    _run_build(options, "publish")


@click.command()
@build_options
def extract(**options: Any) -> None:
    """Embed the data in shards and stop there. Prints the work folder."""
    _run_build(options, "extract")


@click.command("train-sae")
@build_options
def train_sae(**options: Any) -> None:
    """Extract, then train the SAE and stop there. Prints the SAE's folder."""
    _run_build(options, "train-sae")


@click.command()
@build_options
def encode(**options: Any) -> None:
    """Everything up to the sparse codes. Prints the work folder that holds codes.npz."""
    _run_build(options, "encode")


@click.command()
@build_options
def score(**options: Any) -> None:
    """Everything up to the concept scores. Prints the work folder that holds concepts.parquet and bridges.parquet."""
    _run_build(options, "score")


def _run_build(options: dict[str, Any], until: str) -> None:
    from analysis.build.build import build

    path = build(_plan(options), until=until, say=click.echo, progress=Bars())
    click.echo(str(path))


def _plan(options: dict[str, Any]) -> Any:
    from analysis.build.plan import BuildPlan, DataPlan, ModelPlan, SaePlan

    def listed(text: str | None) -> tuple[str, ...] | None:
        return tuple(part.strip() for part in text.split(",") if part.strip()) if text else None

    data = DataPlan(
        options["dataset"], options["split"], options["limit"], options["seed"],
        () if options["tasks"] == "none" else listed(options["tasks"]), options["limit_queries"], options["pool"],
    )  # fmt: skip
    sae_data = None
    if options["sae_data"] or options["sae_split"] or options["sae_limit"]:
        sae_data = DataPlan(
            options["sae_data"] or options["dataset"],
            options["sae_split"] or ("train" if options["sae_data"] is None else None),
            options["sae_limit"],
            options["seed"],
        )
    model = ModelPlan(
        **{
            name: options[name]
            for name in ("backbone", "revision", "device", "dtype", "fusion", "dummy_image", "weights")
        },
        prompts=options["prompts"] or find_spec(options["backbone"]).prompts,
        **{name: options[name] for name in ("batch_tokens", "tap")},
        variants=listed(options["variants"]),
    )
    sae = SaePlan(
        options["sae"], options["sae_unit"], sae_data, options["concepts"], options["top_k"],
        options["sae_steps"], options["seed"], options["rule"], options["threshold"], options["l0"],
    )  # fmt: skip
    own = (
        "cache", "weighting", "embedding_dtype", "token_views", "thumb_side", "thumb_quality", "shard_size", "engine",
        "ray_address", "workers",
    )  # fmt: skip
    return BuildPlan(data, model, sae, **{name: options[name] for name in own})
