"""`python -m analysis demo`: everything the embedded demo consists of, from its seeds, through the ordinary commands.

The stores are made by the same `build` that a user calls; this file only names the configurations."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.build.build import build
from analysis.build.plan import BuildPlan, DataPlan, ModelPlan, SaePlan
from analysis.errors import AnalysisError
from analysis.models.specs import find_spec
from analysis.store.read import DEMO_DATA, find_stores, open_store

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "demo"
MODELS = (  # what ships and what is rebuilt by default; who begins with another's weights stands behind it
    "clip-mini", "siglip2-mini", "qwen2-vl-mini", "qwen2-vl-contrastive-mini", "qwen3-vl-mini", "paligemma2-mini",
    "chameleon-mini",
)  # fmt: skip
STEPS = ("data", "train", "stores")
TRAIN_GROUPS = 8000  # image-caption groups of the train split that the pooled SAEs are trained on
TOP_K = 4  # of pooled SAEs: about as many as a scene has objects and a ground
LARGER_TOP_K = {"qwen2-vl-mini": 8, "qwen3-vl-mini": 8, "chameleon-mini": 8}  # where TOP_K leaves a side below R² .8
TOKEN_GROUPS = 1500
TOKEN_STORE_GROUPS = 80
PHOTOGRAPHS = 1000  # most pictures of a store of photographs: the models are small, and out of their world there


def run_demo(
    *,
    only: Sequence[str],
    models: Sequence[str],
    seed: int,
    smoke: bool,
    cache: Path,
    say: Callable[[str], None],
    progress: Callable[[str, int, int], None],
) -> list[Path]:
    """Run the steps (all by default) of the models (all by default) for one seed and return the stores that were built.

    Seed 0 is what ships: its models go to assets/demo, its stores to `cache`. Another seed stays wholly under
    `cache/demo-runs/seed<k>`, so that effects can be compared between trainings.
    """
    steps, names = _chosen("step", only, STEPS), _chosen("model", models or MODELS, MODELS)
    run = cache / "demo-runs" / f"{'smoke-' if smoke else ''}seed{seed}"
    shipped = seed == 0 and not smoke
    data = write_demo_dataset(cache, smoke=smoke)
    if "train" in steps:
        from analysis.demo.build import DemoSize, build_backbone

        size = DemoSize.smoke() if smoke else DemoSize()
        splits = size.splits(data)
        for name in names:
            log = build_backbone(name, splits, run / name, seed=seed, size=size)
            if log is not None and shipped:
                shutil.copytree(run / name / "model", ASSETS / name, dirs_exist_ok=True)
    if "stores" not in steps:
        return []
    home = cache if shipped else run
    stores = []
    for name in names:
        backbone = name if shipped else str(home / name / "model")
        for plan in store_plans(name, data, backbone=backbone, seed=seed, cache=home, smoke=smoke):
            say(f"Store of {plan.model.backbone}, {plan.sae.unit} SAE")
            stores.append(build(plan, say=say, progress=progress))
    return stores


def run_photographs(
    folder: Path,
    *,
    models: Sequence[str],
    split: str | None,
    cache: Path,
    say: Callable[[str], None],
    progress: Callable[[str, int, int], None],
) -> list[Path]:
    """Stores of real photographs with captions, such as a COCO folder, made by the demo models and the SAEs of their stores
    in `cache`. Neither ever saw a photograph: they show the way of real data, no finding, and pages say so."""
    saes = {
        ref.backbone: open_store(ref.path).config["sae"]
        for ref in find_stores(cache)
        if ref.ok and ref.dataset == DEMO_DATA and open_store(ref.path).config["sae"]["unit"] == "pooled"
    }
    names = _chosen("model", models or [name for name in MODELS if name in saes], MODELS)
    without = [name for name in names if name not in saes]
    if without or not names:
        raise AnalysisError(
            f"{cache} holds no demo store of {', '.join(without) or 'any model'}, whose SAE a store of photographs takes; make "
            f"it with `.venv/bin/python -m analysis demo{''.join(f' --model {name}' for name in without)}`."
        )
    stores = []
    for name in names:
        plan = store_plans(name, folder, backbone=name, seed=0, cache=cache)[0]
        plan = replace(
            plan,
            data=DataPlan(str(folder), split=split, limit=PHOTOGRAPHS),
            sae=SaePlan(str(cache / saes[name]["path"])),
            thumb_side=256,
            thumb_quality=80,
        )
        say(f"Store of {name} on {folder.name}: photographs are out of this model's world")
        stores.append(build(plan, say=say, progress=progress))
    return stores


def write_demo_dataset(cache: Path, *, smoke: bool = False) -> Path:
    """EmojiScenes on disk in the layouts that the ordinary loaders read; written once."""
    from analysis.data.emoji_dataset import write_dataset

    root = cache / "datasets" / (f"{DEMO_DATA}-smoke" if smoke else DEMO_DATA)
    if smoke:
        return write_dataset(root, n_train=64, n_val=16, n_test=16, seed=0)
    return write_dataset(root, seed=0)


def store_plans(
    name: str, data: Path, *, backbone: str, seed: int, cache: Path, smoke: bool = False
) -> list[BuildPlan]:
    """The stores of a model: one with the SAE of its pooled embeddings, and for a language model a small one with a
    token-level SAE for token views. float16 embeddings and small thumbnails keep the repository small."""
    test = DataPlan(str(data), split="test", limit_queries=200)
    spec = find_spec(name)
    fusion = "sum_of_unit_vectors" if spec.contrastive else None
    pooled = BuildPlan(
        test,
        ModelPlan(backbone, device="cpu", dtype="float32", fusion=fusion),
        SaePlan(
            data=DataPlan(str(data), split="train", limit=TRAIN_GROUPS),
            n_concepts=256,
            top_k=LARGER_TOP_K.get(name, TOP_K),
            steps=4000,
            seed=seed,
        ),
        cache=cache,
        embedding_dtype="float16",
        token_views=8 if smoke else 80,
        thumb_side=96,
        thumb_quality=60,
    )
    if spec.one_vector:  # there is nothing to see in single tokens
        return [pooled]
    token = replace(
        pooled,
        model=replace(pooled.model, variants=("mean",)),
        data=replace(test, limit=TOKEN_STORE_GROUPS, tasks=("i2t", "t2i")),
        sae=SaePlan(
            unit="token",
            data=DataPlan(str(data), split="train", limit=TOKEN_GROUPS),
            n_concepts=384,  # what a repository of 100 MB has room for
            top_k=16,
            seed=seed,
        ),
    )
    return [pooled, token]


def _chosen(kind: str, asked: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """What was asked for in the order of `known`, which is also the default."""
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise AnalysisError(f"The demo has no {kind} {', '.join(unknown)}; choose among {', '.join(known)}.")
    return tuple(name for name in known if not asked or name in asked)
