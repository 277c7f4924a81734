"""`python -m analysis demo`: everything the embedded demo consists of, from its seeds, through the ordinary commands.

The stores are made by the same `build` that a user calls; this file only names the configurations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.build.build import build
from analysis.build.plan import BuildPlan, DataPlan, ModelPlan, SaePlan
from analysis.errors import AnalysisError

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "demo"
STEPS = ("data", "clip", "qwen", "stores")
DATASET = "emoji-scenes"
TRAIN_GROUPS = 8000  # image-caption groups of the train split that the pooled SAEs are trained on
TOKEN_GROUPS = 1500
TOKEN_STORE_GROUPS = 80


def run_demo(
    *,
    only: Sequence[str],
    seed: int,
    smoke: bool,
    cache: Path,
    say: Callable[[str], None],
    progress: Callable[[str, int, int], None],
) -> list[Path]:
    """Run the steps (all by default) for one seed and return the stores that were built.

    Seed 0 is what ships: its models go to assets/demo, its stores to `cache`. Another seed stays wholly under
    `cache/demo-runs/seed<k>`, so that effects can be compared between trainings.
    """
    unknown = sorted(set(only) - set(STEPS))
    if unknown:
        raise AnalysisError(f"The demo has no step {unknown}; choose among {', '.join(STEPS)}.")
    steps = tuple(only) or STEPS
    training = [step for step in steps if step != "stores"]
    assets = cache / "demo-runs" / "smoke-assets" if smoke else ASSETS
    if training:
        from analysis.demo.build import build_demo

        build_demo(cache_dir=cache, assets_dir=assets, seed=seed, steps=training, smoke=smoke)
    if "stores" not in steps:
        return []
    data = write_demo_dataset(cache, smoke=smoke)
    home = cache if seed == 0 and not smoke else cache / "demo-runs" / f"{'smoke-' if smoke else ''}seed{seed}"
    stores = []
    for plan in store_plans(data, seed=seed, models=home, cache=home, smoke=smoke):
        say(f"Store of {plan.model.backbone}, {plan.sae.unit} SAE")
        stores.append(build(plan, say=say, progress=progress))
    return stores


def write_demo_dataset(cache: Path, *, smoke: bool = False) -> Path:
    """EmojiScenes on disk in the layouts that the ordinary loaders read; written once."""
    from analysis.data.emoji_dataset import write_dataset

    root = cache / "datasets" / (f"{DATASET}-smoke" if smoke else DATASET)
    if smoke:
        return write_dataset(root, n_train=64, n_test=16, seed=0)
    return write_dataset(root, seed=0)


def store_plans(data: Path, *, seed: int, models: Path, cache: Path, smoke: bool = False) -> list[BuildPlan]:
    """The three stores: clip-mini, qwen2-vl-mini with the SAE of its pooled embeddings, and a small one with a
    token-level SAE for token views. float16 embeddings and small thumbnails keep the repository below 50 MB."""
    shipped = seed == 0 and not smoke

    def backbone(name: str) -> str:
        return name if shipped else str(models / name / "model")

    test = DataPlan(str(data), split="test", limit_queries=200)
    base = BuildPlan(
        test,
        ModelPlan(backbone("clip-mini"), device="cpu", dtype="float32", fusion="sum_of_unit_vectors"),
        SaePlan(data=DataPlan(str(data), split="train", limit=TRAIN_GROUPS), n_concepts=1024, top_k=16, seed=seed),
        cache=cache,
        embedding_dtype="float16",
        token_views=80,
        thumb_side=112,
        thumb_quality=60,
    )
    qwen = ModelPlan(backbone("qwen2-vl-mini"), device="cpu", dtype="float32")
    pooled = replace(base, model=qwen, sae=replace(base.sae, n_concepts=2048))
    token = replace(
        pooled,
        model=replace(qwen, variants=("mean",)),
        data=replace(test, limit=TOKEN_STORE_GROUPS, tasks=("i2t", "t2i")),
        sae=SaePlan(
            unit="token",
            data=DataPlan(str(data), split="train", limit=TOKEN_GROUPS),
            n_concepts=1024,
            top_k=16,
            seed=seed,
        ),
    )
    plans = [base, pooled, token]
    return [replace(plan, token_views=8) for plan in plans] if smoke else plans
