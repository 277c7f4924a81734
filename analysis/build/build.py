"""The builder: data -> embeddings -> SAE -> codes -> scores -> retrieval -> one published store.

Every step leaves its result under `cache/work/`, finds it there when it is run again, and can be the last one
(`until`): the commands extract, train-sae, encode and score are this same path, stopped early."""

from __future__ import annotations

import fcntl
import json
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from analysis.build.corpus import Corpus, load_corpus
from analysis.build.plan import ALL_VARIANTS, BuildPlan, Config, ModelPlan, slug
from analysis.build.shards import ShardJob, open_backbone, read_shards, run_local, write_atomically
from analysis.errors import AnalysisError, DataError
from analysis.models.backbones import Backbone
from analysis.store.schema import MANIFEST, store_key

STEPS = ("extract", "train-sae", "encode", "score", "retrieve", "publish")
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]  # step, done, total


@dataclass
class Extraction:
    """Embeddings of one corpus, as they lie in the work folder. `kept` are the corpus rows that could be embedded."""

    corpus: Corpus
    job: ShardJob
    config: Config
    kept: np.ndarray
    skipped: dict[str, str] = field(default_factory=dict)  # sample id -> reason
    truncated: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def vectors(self, variant: str, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
        """((n, D) vectors of the kept rows as a store would hold them, (n,) where the variant is defined)."""
        parts, defined = [], []
        for shard in read_shards(self.job, thumbs=False):
            parts.append(_storable(shard.vectors[variant][shard.ok], dtype))
            defined.append(shard.defined[variant][shard.ok])
        return np.concatenate(parts), np.concatenate(defined)


def build(plan: BuildPlan, *, until: str = "publish", say: Say = print, progress: Progress | None = None) -> Path:
    """Run the steps up to `until` and return what the last one made: a work folder, an SAE folder or the store.

    Refuses wrong input before the model is loaded where that can be known. Two builds of one configuration at the same
    time are refused: the second is told that the first is running.
    """
    progress = progress or (lambda step, done, total: None)
    corpus = load_corpus(plan.data, plan.model.prompts, cache=plan.cache)
    _report_defects(corpus, say)
    with _Backbone(plan.model) as opened:
        extraction = extract(plan, plan.model, corpus, opened, say=say, progress=progress)
        if until == "extract":
            return extraction.job.folder
        from analysis.build.dictionary import obtain_sae

        sae, sae_path, sae_config = obtain_sae(plan, extraction, opened, say=say, progress=progress)
        if until == "train-sae":
            return sae_path
        config = store_config(plan, extraction, sae_config)
        target = plan.cache / extraction.config["backbone"]["key"] / f"{corpus.name}-{store_key(config)}"
        if until == "publish" and (target / MANIFEST).is_file():
            say(f"This configuration is already built: {target}")
            return target
        from analysis.build.assemble import assemble_store

        return assemble_store(
            plan, config, extraction, sae, opened, until=until, say=say, progress=progress, target=target
        )


class _Backbone:
    """Opens the backbone when it is first needed: a resumed build whose shards are complete never loads it."""

    def __init__(self, plan: ModelPlan) -> None:
        self.plan = plan
        self._backbone: Backbone | None = None

    def __enter__(self) -> _Backbone:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._backbone is not None:
            self._backbone.unload()

    def get(self) -> Backbone:
        if self._backbone is None:
            self._backbone = open_backbone(self.plan)
        return self._backbone


def extract(
    plan: BuildPlan,
    model: ModelPlan,
    corpus: Corpus,
    opened: _Backbone,
    *,
    with_tasks: bool = True,
    say: Say,
    progress: Progress,
) -> Extraction:
    """Embed a corpus in shards under `cache/work/embeddings-<key>`, resuming what is there."""
    backbone = opened.get()
    variants = model.variants or tuple(v for v in ALL_VARIANTS if v in backbone.available_variants)
    unknown = sorted(set(variants) - set(backbone.available_variants))
    if unknown or "mean" not in variants:
        raise AnalysisError(
            f"Variants {', '.join(variants)} were asked for; {backbone.key} has {', '.join(backbone.available_variants)} "
            "and 'mean' is always needed: choose among those."
        )
    config: Config = {
        "backbone": backbone_config(backbone),
        "prompts": model.prompts,
        "data": corpus.config(plan.data),
        "variants": sorted(variants),
    }
    folder = (
        plan.cache / "work" / f"embeddings-{store_key({**config, 'shard': plan.shard_size, 'thumb': plan.thumb_side})}"
    )
    job = ShardJob(folder, len(corpus.samples), plan.shard_size, tuple(variants), plan.thumb_side, plan.thumb_quality)
    with _only_one(folder):
        write_atomically(folder / "config.json", json.dumps(config, indent=1, sort_keys=True).encode())
        _run(job, corpus, opened, replace(plan, model=model), with_tasks, progress)
    return _extraction(corpus, job, config, say)


def backbone_config(backbone: Backbone) -> Config:
    """What identifies a backbone and the way it is run: the live page compares it before it mixes vectors."""
    spec = backbone.spec
    return {
        "key": slug(spec.key),
        "model": spec.hub_id,
        "model_type": spec.model_type,
        "revision": backbone.revision,
        "tap": spec.tap,
        "dtype": backbone.dtype,
        "width": backbone.width,
        "contrastive": backbone.contrastive,
        "fusion": backbone.options.fusion,
        "dummy_image": backbone.options.dummy_image,
        "demo": spec.demo,
    }


def store_config(plan: BuildPlan, extraction: Extraction, sae_config: Config) -> Config:
    """Everything that changes a number of the store, and nothing else."""
    return {
        **extraction.config,
        "sae": sae_config,
        "sample_code": plan.sample_code,
        "weighting": plan.weighting,
        "embedding_dtype": plan.embedding_dtype,
    }


def versions() -> dict[str, str]:
    """What a number may depend on beside the config: recorded as a fact."""
    names = ("torch", "transformers", "numpy", "scipy", "pillow", "numba")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def git_commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except OSError:  # git is not installed: the fact stays empty
        return ""
    return done.stdout.strip()


def _run(
    job: ShardJob, corpus: Corpus, opened: _Backbone, plan: BuildPlan, with_tasks: bool, progress: Progress
) -> None:
    if not job.missing():
        return

    def told(done: int, total: int) -> None:
        progress("extract", done, total)

    if plan.engine == "ray":
        from analysis.build.cluster import ClusterJob, run_ray

        work = ClusterJob(
            replace(job, folder=job.folder.resolve()), plan.data, plan.model, plan.cache, with_tasks, Path.cwd()
        )
        run_ray(work, address=plan.ray_address, workers=plan.workers, progress=told)
    else:
        run_local(job, corpus, opened.get(), batch_tokens=plan.model.batch_tokens, progress=told)


def _extraction(corpus: Corpus, job: ShardJob, config: Config, say: Say) -> Extraction:
    kept: list[np.ndarray] = []
    skipped: dict[str, str] = {}
    truncated: list[str] = []
    seconds = 0.0
    for shard in read_shards(job, thumbs=False):
        start = shard.span.start
        kept.append(start + np.flatnonzero(shard.ok))
        skipped |= {corpus.samples[start + row].sample_id: reason for row, reason in shard.skipped.items()}
        truncated += [corpus.samples[start + row].sample_id for row in shard.truncated]
        seconds += shard.seconds
    rows = np.concatenate(kept) if kept else np.empty(0, np.int64)
    if not len(rows):
        raise DataError(
            f"None of the {len(corpus.samples)} samples of {corpus.name} could be embedded; "
            f"the first reason: {next(iter(skipped.values()), 'no samples')}"
        )
    if skipped:
        say(f"{len(skipped)} samples left out, first {next(iter(skipped))}: {next(iter(skipped.values()))}")
    if truncated:
        say(f"{len(truncated)} texts were longer than the model reads and were cut, first {truncated[0]}")
    return Extraction(corpus, job, config, rows, skipped, truncated, seconds)


def _storable(vectors: np.ndarray, dtype: str) -> np.ndarray:
    """Vectors as a store holds them. float16 is refused where a value would overflow it."""
    if dtype == "float16" and vectors.size and np.abs(vectors).max() > np.finfo(np.float16).max:
        raise AnalysisError(
            f"An embedding has the value {np.abs(vectors).max():.3g}, beyond float16; build with --embedding-dtype float32."
        )
    return vectors.astype(dtype)


def _report_defects(corpus: Corpus, say: Say) -> None:
    for line in corpus.defects:
        say(f"Data: {line}")


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold a lock on a work folder: the second build of the same configuration is refused, not mixed in."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AnalysisError(
                f"Another build of this configuration is running in {folder.name}; wait for it, or change a setting."
            ) from error
        yield


__all__ = ["STEPS", "Extraction", "build", "extract", "git_commit", "store_config", "versions"]
