"""The SAE of a build: one that exists (ours by folder or name, the authors' `.pt`), or one trained here on the pooled
embeddings or the token states of a training corpus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from analysis.build.corpus import load_corpus
from analysis.build.extraction import Extraction, OpenBackbone, Progress, Say, extract
from analysis.build.imports import find_sae, spread
from analysis.build.plan import BuildPlan, Config, DataPlan, SaePlan
from analysis.data.registry import load_pairs
from analysis.errors import AnalysisError, CheckpointError, DataError
from analysis.models.devices import cuda_or_cpu
from analysis.models.specs import BackboneSpec, find_spec
from analysis.sae.checkpoint import UNTRAINED, Sae, load_sae, save_sae
from analysis.store.schema import IMPORTED, store_key

TOKEN_ROWS = 400_000  # token states kept in memory for training; more are sampled evenly
DEFAULT_TOP_K = 16  # where no SAE of this backbone was released
DEFAULT_EXPANSION = 8  # concepts a dimension, likewise


def existing_sae(
    plan: BuildPlan,
    key: str,
    *,
    say: Say,
    width: int | None = None,
    rows: Callable[[], np.ndarray] | None = None,
) -> tuple[Sae, Path] | None:
    """(SAE, its folder in the cache) that the plan names, None where one is to be trained, or where its threshold is to be
    found on embeddings (`rows`) that are not there yet. key, width: of the backbone."""
    asked = plan.sae
    if asked.sae == "train":
        if asked.rule is not None or asked.threshold is not None or asked.l0 is not None:
            raise CheckpointError(
                "--rule, --threshold and --l0 say how an existing SAE is read, and one is to be trained: name it with --sae."
            )
        return None
    sae, folder = find_sae(
        asked.sae, key, cache=plan.cache, top_k=asked.top_k, rule=asked.rule, threshold=asked.threshold, l0=asked.l0,
        rows=rows,
    )  # fmt: skip
    if width is not None:
        check_width(sae, folder, width, plan.model.backbone)
    if asked.l0 is not None and rows is None:
        return None
    for note in sae.meta.get("notes", ()):
        say(f"Note: {note}")
    trained_on = sae.meta.get("backbone")
    if trained_on not in (None, "", key):
        say(f"Note: this SAE says that it was trained on {trained_on}.")
    return sae, folder


def check_width(sae: Sae, folder: Path, width: int, backbone: str) -> None:
    if sae.width != width:
        raise CheckpointError(
            f"The SAE at {folder} reads {sae.width}-dimensional vectors, {backbone} gives {width}: choose an SAE that was "
            "trained on this backbone."
        )


def obtain_sae(
    plan: BuildPlan,
    extraction: Extraction,
    opened: OpenBackbone,
    *,
    given: tuple[Sae, Path] | None,
    say: Say,
    progress: Progress,
) -> tuple[Sae, Path, Config]:
    """(SAE, its folder, what the store's config says of it): the one given, or one trained on the plan's data."""
    sae, folder = (
        given
        or existing_sae(
            plan,
            extraction.config["backbone"]["key"],
            say=say,
            rows=lambda: spread(extraction.vectors("mean", plan.embedding_dtype)[0]),
        )
        or _train(plan, extraction, opened, say=say, progress=progress)
    )
    check_width(sae, folder, extraction.width, extraction.config["backbone"]["key"])
    config: Config = {
        "path": folder.relative_to(plan.cache).as_posix(),
        "sha256": sae.sha256,
        "unit": str(sae.meta.get("unit", "token")),
        "n_concepts": sae.n_concepts,
        "top_k": sae.top_k,
    }
    return sae, folder, config


def sae_size(plan: SaePlan, row: BackboneSpec | None, width: int) -> tuple[int, int]:
    """(concepts K, active concepts top_k) of an SAE that is to be trained: as the plan says, else the size of the one that
    the authors released for this backbone (its row; None for imported vectors), else DEFAULT_EXPANSION concepts a
    dimension."""
    released = row is not None and row.sae_width is not None
    n_concepts = plan.n_concepts or (row.sae_width if row else None) or DEFAULT_EXPANSION * width
    return n_concepts, plan.top_k or min(row.sae_top_k if row and released else DEFAULT_TOP_K, n_concepts)


def _train(
    plan: BuildPlan, extraction: Extraction, opened: OpenBackbone, *, say: Say, progress: Progress
) -> tuple[Sae, Path]:
    from analysis.sae import train
    from analysis.sae.train import TrainConfig, train_sae

    spec = extraction.config["backbone"]
    data = plan.sae.data or _default_data(plan.data, plan.cache)
    source = extraction
    if data != plan.data:
        corpus = load_corpus(data, plan.model.prompts, cache=plan.cache, with_tasks=False)
        if corpus.config(data)["revision"] != extraction.corpus.revision or data.split != plan.data.split:
            say(f"SAE training data: {corpus.name} {corpus.split}, {len(corpus.samples)} samples")
            model = replace(plan.model, variants=("mean",))
            source = extract(
                replace(plan, data=data), model, corpus, opened, with_tasks=False, say=say, progress=progress
            )
    width = int(spec["width"])
    row = find_spec(plan.model.backbone) if spec["model_type"] != IMPORTED else None
    n_concepts, top_k = sae_size(plan.sae, row, width)
    config = TrainConfig.for_size(n_concepts=n_concepts, top_k=top_k, steps=plan.sae.steps, seed=plan.sae.seed)
    identity = {
        "embeddings": {**source.config, "variants": ["mean"]},
        "unit": plan.sae.unit,
        "train": asdict(config),
        "embedding_dtype": plan.embedding_dtype,
    }
    name = f"{source.corpus.name}-{plan.sae.unit}-{n_concepts}-k{top_k}-{store_key(identity)[:8]}"
    folder = plan.cache / "sae" / spec["key"] / name
    if (folder / "sae.json").is_file() and (folder / UNTRAINED / "sae.json").is_file():
        say(f"SAE already trained: {folder}")
        return load_sae(folder), folder
    if plan.sae.unit == "pooled":
        states = source.vectors("mean", plan.embedding_dtype)[0].astype(np.float32)
    else:
        states = _token_states(source, opened, plan.sae.seed, progress)
    if len(states) < 2:
        raise AnalysisError(f"An SAE cannot be trained on {len(states)} vectors; give more data with --sae-data.")
    sae = train_sae(
        states,
        config,
        device=cuda_or_cpu(plan.model.device),
        progress=lambda done, total: progress("train-sae", done, total),
        checkpoint_dir=plan.cache / "work" / f"sae-{name}",
    )
    facts = {
        "unit": plan.sae.unit,
        "backbone": spec["key"],
        "model": spec["model"],
        "tap": spec["tap"],
        "data": source.config["data"],
        "n_vectors": len(states),
    }
    sae = replace(sae, meta={**sae.meta, **facts})
    dtype = "float16" if plan.embedding_dtype == "float16" else "float32"
    save_sae(sae, folder, dtype=dtype)
    start = train.untrained_sae(states, config)
    save_sae(replace(start, meta={**start.meta, **facts}), folder / UNTRAINED, dtype=dtype)
    return load_sae(folder), folder


def _default_data(analysed: DataPlan, cache: Path) -> DataPlan:
    """The train split of the analysed data where there is one: concepts are then read on data the SAE never saw."""
    if analysed.split == "train":
        return analysed
    try:
        load_pairs(analysed.dataset, split="train", limit=1, cache=cache)
    except DataError:  # there is no train split to prefer
        return analysed
    return DataPlan(analysed.dataset, split="train", seed=analysed.seed)


def _token_states(source: Extraction, opened: OpenBackbone, seed: int, progress: Progress) -> np.ndarray:
    """(n, D) states of single tokens, of samples in a seeded order."""
    backbone = opened.get()
    chosen = [source.corpus.samples[row] for row in np.random.default_rng(seed).permutation(source.kept)]
    rows: list[np.ndarray] = []
    total = 0
    for _, states in backbone.stream_tokens(chosen, on_error="skip"):
        rows.append(states.states[states.roles > 0])
        total += len(rows[-1])
        progress("token states", min(total, TOKEN_ROWS), TOKEN_ROWS)
        if total >= TOKEN_ROWS:
            break
    return np.concatenate(rows)[:TOKEN_ROWS]
