"""The first half of a build: a corpus embedded in shards under `cache/work/`, and read back block by block."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from analysis.build.corpus import Corpus
from analysis.build.files import only_one, write_atomically
from analysis.build.plan import ALL_VARIANTS, BuildPlan, Config, ModelPlan
from analysis.build.shards import Shard, ShardJob, open_backbone, read_shards, run_local
from analysis.data.pictures import GUARD_PIXELS
from analysis.errors import AnalysisError, DataError, UnsupportedModality
from analysis.models.backbones import Backbone, backbone_config
from analysis.store.schema import store_key

_NAMED = 3  # samples left out that are named with their reason; the store's facts hold all of them
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]  # step, done, total


@dataclass
class Extraction:
    """Embeddings of one corpus, as they lie in the work folder. `kept` are the corpus rows that a store takes.

    One rule for pictures that cannot be embedded: of image-caption pairs the whole pair is left out, captions too (`lost`:
    their rows), as if its picture were not on the disk; of a task with qrels of its own the query or candidate is left
    out, and qrels that name it count as missing, which is a miss.
    """

    corpus: Corpus
    job: ShardJob
    config: Config
    kept: np.ndarray
    skipped: dict[str, str] = field(default_factory=dict)  # sample id -> reason
    truncated: list[str] = field(default_factory=list)
    seconds: float = 0.0
    lost: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def width(self) -> int:
        return int(self.config["backbone"]["width"])

    def blocks(self, variant: str, dtype: str = "float32") -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """((b, D) vectors of kept rows as a store would hold them, (b,) where the variant is defined), shard by shard."""
        for shard in self.shards(variants=[variant], thumbs=False):
            yield _storable(shard.vectors[variant][shard.ok], dtype), shard.defined[variant][shard.ok]

    def vectors(self, variant: str, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
        """((n, D) vectors, (n,) where defined) of all kept rows in memory; training an SAE reads them in any order."""
        vectors = np.empty((len(self.kept), self.width), dtype)
        defined = np.empty(len(self.kept), bool)
        start = 0
        for block, is_defined in self.blocks(variant, dtype):
            vectors[start : start + len(block)], defined[start : start + len(block)] = block, is_defined
            start += len(block)
        return vectors, defined

    def shards(self, *, variants: Sequence[str] | None = None, thumbs: bool = True) -> Iterator[Shard]:
        """Every shard in order; `ok` says which of its samples are kept."""
        kept = np.zeros(len(self.corpus.samples), bool)
        kept[self.kept] = True
        for shard in read_shards(self.job, variants=variants, thumbs=thumbs):
            yield replace(shard, ok=kept[shard.span])

    def samples(self, rows: Sequence[int] | np.ndarray) -> list:
        """Samples by their row in the store."""
        return [self.corpus.samples[int(self.kept[row])] for row in rows]


class OpenBackbone:
    """The backbone of a build: opened when first needed, closed at the end."""

    def __init__(self, plan: ModelPlan) -> None:
        self.plan = plan
        self._backbone: Backbone | None = None

    def __enter__(self) -> OpenBackbone:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def get(self) -> Backbone:
        if self._backbone is None:
            self._backbone = open_backbone(self.plan)
        return self._backbone

    def release(self) -> None:
        if self._backbone is not None:
            self._backbone.unload()
            self._backbone = None


def extract(
    plan: BuildPlan,
    model: ModelPlan,
    corpus: Corpus,
    opened: OpenBackbone,
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
    if backbone.contrastive and backbone.options.fusion is None and (both := corpus.tasks_with_both()):
        others = ",".join(name for name in corpus.tasks if name not in both)
        raise UnsupportedModality(
            f"{backbone.key} embeds an image or a text, and both together occur in {', '.join(both)}; build with --fusion "
            f"sum_of_unit_vectors to add the two unit vectors, or with --tasks {others or 'none'}."
        )
    config: Config = {
        "backbone": backbone_config(backbone),
        "prompts": model.prompts,
        "data": corpus.config(plan.data),
        "variants": sorted(variants),
        "guard_pixels": GUARD_PIXELS,
    }
    cut = {"shard": plan.shard_size, "thumb": [plan.thumb_side, plan.thumb_quality]}
    folder = plan.cache / "work" / f"embeddings-{store_key({**config, **cut})}"
    job = ShardJob(folder, len(corpus.samples), plan.shard_size, tuple(variants), plan.thumb_side, plan.thumb_quality)
    with only_one(folder, "embedding"):
        write_atomically(folder / "config.json", json.dumps(config, indent=1, sort_keys=True).encode())
        _run(job, config, corpus, opened, replace(plan, model=model), with_tasks, progress)
    return read_back(corpus, job, config, say)


def _run(
    job: ShardJob,
    config: Config,
    corpus: Corpus,
    opened: OpenBackbone,
    plan: BuildPlan,
    with_tasks: bool,
    progress: Progress,
) -> None:
    if not job.missing():
        return

    def told(done: int, total: int) -> None:
        progress("extract", done, total)

    if plan.engine == "ray":
        from analysis.build.cluster import ClusterJob, run_ray

        opened.release()  # the workers' models want the room; token views open it again
        work = ClusterJob(
            replace(job, folder=job.folder.resolve()),
            plan.data,
            plan.model,
            plan.cache,
            with_tasks,
            Path.cwd(),
            config["data"],
            config["backbone"],
        )
        run_ray(work, address=plan.ray_address, workers=plan.workers, progress=told)
    else:
        run_local(job, corpus, opened.get(), batch_tokens=plan.model.batch_tokens, progress=told)


def read_back(corpus: Corpus, job: ShardJob, config: Config, say: Say) -> Extraction:
    ok = np.zeros(len(corpus.samples), bool)
    skipped: dict[str, str] = {}
    truncated: list[str] = []
    scaled: list[str] = []
    seconds = 0.0
    for shard in read_shards(job, variants=(), thumbs=False):
        start = shard.span.start
        ok[shard.span] = shard.ok
        skipped |= {corpus.samples[start + row].sample_id: reason for row, reason in shard.skipped.items()}
        truncated += [corpus.samples[start + row].sample_id for row in shard.truncated]
        scaled += [corpus.samples[start + row].sample_id for row in shard.scaled]
        seconds += shard.seconds
    lost = corpus.rows_without_picture(ok) if skipped and corpus.has_pairs else np.empty(0, np.int64)
    alone = np.setdiff1d(lost, corpus.rows_of_other_tasks())
    ok[alone] = False
    if not ok.any():
        raise DataError(
            f"None of the {len(corpus.samples)} samples of {corpus.name} could be embedded; "
            f"the first reason: {next(iter(skipped.values()), 'no samples')}"
        )
    if skipped:
        captions = f", and with them {len(lost)} captions" if len(lost) else ""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:_NAMED])
        say(f"{len(skipped)} samples left out{captions}, first {reasons}")
    if scaled:
        say(
            f"{len(scaled)} pictures have more than {GUARD_PIXELS / 1e6:.1f} megapixels and were scaled down to that before "
            f"the model saw them, first {scaled[0]}"
        )
    if truncated:
        say(f"{len(truncated)} texts were longer than the model reads and were cut, first {truncated[0]}")
    return Extraction(corpus, job, config, np.flatnonzero(ok), skipped, truncated, seconds, lost)


def _storable(vectors: np.ndarray, dtype: str) -> np.ndarray:
    """Vectors as a store holds them. float16 is refused where a value would overflow it."""
    if dtype == "float16" and vectors.size and np.abs(vectors).max() > np.finfo(np.float16).max:
        raise AnalysisError(
            f"An embedding has the value {np.abs(vectors).max():.3g}, beyond float16; build with --embedding-dtype float32."
        )
    return vectors.astype(dtype, copy=False)
