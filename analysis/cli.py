"""The command line: `python -m analysis COMMAND`. Commands choose and print; the work is in the packages.

Exit codes: 0 fine, 1 failed (one sentence on standard error), 2 wrong usage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from analysis import __version__
from analysis.bench import BENCHES
from analysis.errors import AnalysisError
from analysis.live.command import query


class Commands(click.Group):
    """A group that turns the errors a user can cause into one sentence and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except AnalysisError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
            sys.exit(0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """RetrievalLens: build stores of SAE concepts and retrieval results, and compute any number of the app headless."""


def cache_option(function: Callable) -> Callable:
    return click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("cache"),
        show_default=True,
        help="Folder of stores and SAEs.",
    )(function)


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
        click.option("--seed", type=int, default=0, show_default=True),
        click.option("--sae", default="train", show_default=True, metavar="train|PATH", help="Train an SAE or use one."),
        click.option("--sae-unit", type=click.Choice(["pooled", "token"]), default="pooled", show_default=True,
                     help="Train on the analysed embeddings or on token states."),
        click.option("--sae-data", default=None, metavar="NAME|PATH", help="Training data; default: the train split."),
        click.option("--sae-split", default=None, help="Split of the training data."),
        click.option("--sae-limit", type=click.IntRange(min=1), default=None, help="Image-caption groups to train on."),
        click.option("--concepts", type=click.IntRange(min=2), default=None, help="K of a trained SAE."),
        click.option("--top-k", type=click.IntRange(min=1), default=None, help="Active concepts per vector."),
        click.option("--sae-steps", type=click.IntRange(min=1), default=None, help="Training steps."),
        click.option("--prompts", type=click.Choice(["uniform", "paper"]), default="uniform", show_default=True),
        click.option("--variants", default=None, metavar="mean,last,...", help="Pooling variants; all by default."),
        click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:0|mps"),
        click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default=None,
                     help="Arithmetic of the backbone; its own by default."),
        click.option("--revision", default=None, help="Revision of a hub model."),
        click.option("--weights", default=None, metavar="FOLDER",
                     help="Where the weights of a known backbone lie; from the hub by default."),
        click.option("--tap", type=click.Choice(["post_norm", "pre_norm"]), default=None,
                     help="MLLMs: hidden states after or before the final norm; the backbone's own by default."),
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
        click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
                     help="Where shards are computed; ray needs `make cluster`."),
        click.option("--ray-address", default=None, help="A running Ray cluster; a local one by default."),
        click.option("--workers", type=click.IntRange(min=1), default=None, help="Ray workers, one backbone each."),
        click.option("--batch-tokens", type=click.IntRange(min=1), default=None, help="Tokens in one batch."),
        cache_option,
    ]  # fmt: skip
    return reduce(lambda decorated, option: option(decorated), reversed(options), function)


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
            for name in ("backbone", "revision", "device", "dtype", "prompts", "fusion", "dummy_image", "weights")
        },
        **{name: options[name] for name in ("batch_tokens", "tap")},
        variants=listed(options["variants"]),
    )
    sae = SaePlan(
        options["sae"], options["sae_unit"], sae_data, options["concepts"], options["top_k"],
        options["sae_steps"], options["seed"],
    )  # fmt: skip
    own = (
        "cache", "weighting", "embedding_dtype", "token_views", "thumb_side", "thumb_quality", "shard_size", "engine",
        "ray_address", "workers",
    )  # fmt: skip
    return BuildPlan(data, model, sae, **{name: options[name] for name in own})


class Bars:
    """One progress bar a step, with rate and time left."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        from tqdm import tqdm

        bar = self._bars.get(step)
        if bar is None or bar.total != total:
            if bar is not None:
                bar.close()
            bar = self._bars[step] = tqdm(total=total, desc=step, initial=done, dynamic_ncols=True)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()


def _run_build(options: dict[str, Any], until: str) -> None:
    from analysis.build.build import build

    path = build(_plan(options), until=until, say=click.echo, progress=Bars())
    click.echo(str(path))


@main.command()
@build_options
def build(**options: Any) -> None:
    """Build a store: extract, train or import an SAE, encode, score, retrieve, publish. Resumes what was begun."""
    _run_build(options, "publish")


@main.command()
@build_options
def extract(**options: Any) -> None:
    """Embed the data in shards and stop there. Prints the work folder."""
    _run_build(options, "extract")


@main.command("train-sae")
@build_options
def train_sae(**options: Any) -> None:
    """Extract, then train the SAE and stop there. Prints the SAE's folder."""
    _run_build(options, "train-sae")


@main.command()
@build_options
def encode(**options: Any) -> None:
    """Everything up to the sparse codes. Prints the work folder that holds codes.npz."""
    _run_build(options, "encode")


@main.command()
@build_options
def score(**options: Any) -> None:
    """Everything up to the concept scores. Prints the work folder that holds concepts.parquet and bridges.parquet."""
    _run_build(options, "score")


@main.command("import-sae")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--backbone", required=True, metavar="KEY", help="The backbone it was trained on.")
@click.option("--name", default=None, help="Folder name; default: the file's stem.")
@click.option("--top-k", type=click.IntRange(min=1), default=None, help="Sparsity; not stored in the authors' files.")
@cache_option
def import_sae(file: Path, backbone: str, name: str | None, top_k: int | None, cache: Path) -> None:
    """Read a released SAE checkpoint (.pt) safely and write it as safetensors under CACHE/sae/BACKBONE/NAME/."""
    from analysis.build.imports import import_sae as run

    click.echo(str(run(file, backbone=backbone, name=name, top_k=top_k, cache=cache)))


@main.command("export-sae")
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


@main.command("list")
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


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
def verify(store: Path) -> None:
    """Check hashes, shapes and invariants of STORE; exit code 1 when something is wrong."""
    from analysis.store import verify as run

    report = run(store)
    for name, problem in report.checks:
        click.echo(f"{'ok  ' if not problem else 'BAD '} {name}{': ' + problem if problem else ''}")
    if not report.ok:
        raise click.ClickException(f"{store} failed {len(report.problems)} check(s); rebuild it or copy it again.")
    click.echo(f"{store} is what its manifest says.")


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
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
    type=click.Path(path_type=Path),
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
    type=click.Choice(["r", "share", "alpha", "n", "weight"]),
    default=None,
    help="Print recall against this setting of the method, with its control.",
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
    type=click.Choice(["before", "after"]),
    default=None,
    help="With --query: split the similarities of its target and its winner, in that list, into concepts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")  # fmt: skip
def retrieve(
    store: Path, task: str, methods: tuple[str, ...], ks: str, definition: str, query: int | None, top: int,
    partner: Path | None, pool: str, curve: str | None, diagnose: bool, changed: str | None, why: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Recall of interventions on STORE, a curve, diagnostics or single queries: what the Retrieval lab shows."""
    try:
        cuts = tuple(sorted({int(part) for part in ks.split(",")}))
    except ValueError as error:
        raise click.BadParameter(f"{ks!r} is not a list of numbers such as 1,5,10", param_hint="--k") from error
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
    common: dict[str, Any] = {
        "pool": pool,
        "ks": cuts,
        "definition": definition,
        "query": query,
        "partner": partner,
        "as_json": as_json,
    }
    if curve or diagnose or changed or why:
        from analysis.live.lab_command import run_lab

        click.echo(
            run_lab(store, task, methods, curve=curve, diagnose=diagnose, change=changed, why=why or "", **common)
        )
        return
    from analysis.retrieval.command import run_retrieve

    click.echo(run_retrieve(store, task, methods, top=top, **common))


@main.command()
@cache_option
@click.option("--store", "chosen", multiple=True, type=click.Path(path_type=Path), help="These stores only; repeat.")
@click.option("--tasks", default="", metavar="i2t,t2i,...", help="These tasks only.")
@click.option("--k", "ks", default="1,10", show_default=True, help="Cut-offs of recall, one table each.")
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
    click.echo(
        effects_markdown(stores, tasks=wanted, ks=cuts, partners=every, say=lambda text: click.echo(text, err=True))
    )


@main.command()
@cache_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reproduce(cache: Path, as_json: bool) -> None:
    """Every published number beside the measured one, with its state, store and command."""
    from analysis.report.reproduce import reproduction_table

    table = reproduction_table(cache)
    click.echo(table.to_json(orient="records", indent=1) if as_json else table.to_string(index=False))


@main.command()
@click.option("--only", multiple=True, metavar="STEP", help="data, clip, qwen, stores; all by default.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the models; the shipped ones are seed 0.")
@click.option("--smoke", is_flag=True, help="A few training steps only, to try the path.")
@cache_option
def demo(only: tuple[str, ...], seed: int, smoke: bool, cache: Path) -> None:
    """Rebuild the embedded demo from its seeds: EmojiScenes, both models, their SAEs and stores. Resumes."""
    from analysis.demo.pipeline import run_demo

    run_demo(only=only, seed=seed, smoke=smoke, cache=cache, say=click.echo, progress=Bars())


@main.command()
@click.argument("name", type=click.Choice([*BENCHES, "all"]))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the rows here.")
@click.option("--quick", is_flag=True, help="Small sizes, to see that everything runs; its figures mean nothing.")
def bench(name: str, json_file: Path | None, quick: bool) -> None:
    """Speed and memory against the peers and the plain form of each computation, measured now, on this machine."""
    from analysis.bench.command import print_rows, run_bench, write_json

    rows = print_rows(run_bench(name, quick=quick), click.echo)
    if json_file is not None:
        write_json(rows, json_file, quick=quick)


main.add_command(query)
