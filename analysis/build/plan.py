"""What a build is asked to do. Every field that changes a number ends up in the store's config, and with it in its key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.data.tasks import CANDIDATE_POOLS
from analysis.errors import AnalysisError
from analysis.models.specs import slug as slug  # kept here for those who import it from the plan

ALL_VARIANTS = ("mean", "last", "mean_no_instruction", "mean_no_image", "mean_no_prompt")
EMBEDDING_DTYPES = ("float32", "float16")
SAMPLE_CODES = ("pool_then_encode",)
UNITS = ("pooled", "token")
WEIGHTINGS = ("samples", "balanced")
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class DataPlan:
    """Which pictures and captions, and which retrieval tasks on them."""

    dataset: str  # a known name or a path
    split: str | None = None
    limit: int | None = None  # image-caption groups; None = all
    seed: int = 0
    tasks: tuple[str, ...] | None = None  # codes or folder names; None = every task the data holds, () = none
    limit_queries: int | None = None  # per task read from M-BEIR folders
    pool: str = "local"  # candidates of M-BEIR as published: the task's own, or "global", the union of all tasks


@dataclass(frozen=True)
class ModelPlan:
    """Which backbone, how it is run and what is pooled."""

    backbone: str  # key of BACKBONES, hub id or local path
    revision: str | None = None
    device: str = "auto"
    dtype: str | None = None  # None = the backbone's own
    prompts: str = "uniform"
    variants: tuple[str, ...] | None = None  # None = every variant the backbone has
    fusion: str | None = None  # dual encoders: what image + text means
    dummy_image: str = "exclude"  # PaliGemma: the black picture of a text-only sample
    batch_tokens: int | None = None
    tap: str | None = None  # MLLMs: one of models.families.TAPS; None = the backbone's own
    weights: str | None = None  # the folder of a known backbone's weights, where they are not fetched from the hub


@dataclass(frozen=True)
class SaePlan:
    """Which SAE: "train", or the path or name of one that exists; rule, threshold and l0 say of a checkpoint what its file
    leaves open (`checkpoint.import_checkpoint`; l0 is reached on the embeddings of this build). The rest is for training."""

    sae: str = "train"
    unit: str = "pooled"  # "pooled": trained on what is analysed; "token": on token states, as the paper did
    data: DataPlan | None = None  # None = the train split of the analysed data, or that data itself
    n_concepts: int | None = None
    top_k: int | None = None
    steps: int | None = None
    seed: int = 0
    rule: str | None = None
    threshold: float | None = None
    l0: float | None = None


@dataclass(frozen=True)
class BuildPlan:
    data: DataPlan
    model: ModelPlan
    sae: SaePlan = SaePlan()
    cache: Path = Path("cache")
    sample_code: str = "pool_then_encode"
    weighting: str = "samples"
    embedding_dtype: str = "float32"
    token_views: int = 200  # samples whose token codes are kept for heatmaps
    thumb_side: int = 256
    thumb_quality: int = 80
    shard_size: int = 256
    engine: str = "local"
    ray_address: str | None = None  # None = a local cluster
    workers: int | None = None  # None = as many as the cluster has room for

    def __post_init__(self) -> None:
        for name, value, legal in (
            ("sample_code", self.sample_code, SAMPLE_CODES),
            ("weighting", self.weighting, WEIGHTINGS),
            ("embedding_dtype", self.embedding_dtype, EMBEDDING_DTYPES),
            ("unit", self.sae.unit, UNITS),
            ("engine", self.engine, ENGINES),
            ("pool", self.data.pool, CANDIDATE_POOLS),
        ):
            if value not in legal:
                raise AnalysisError(f"{name} is {value!r}; expected one of {', '.join(legal)}.")
        if self.shard_size < 1:
            raise AnalysisError(f"shard_size is {self.shard_size}; expected at least 1.")


Config = dict[str, Any]
