"""The demo from seeds: data set, clip-mini, qwen2-vl-mini. Every step continues where it was stopped and is skipped once
it is done."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from analysis.data.emoji_arrays import N_TEST, N_TRAIN, EmojiSplit, load_splits
from analysis.data.emoji_dataset import write_dataset
from analysis.demo import clip_mini, qwen2_vl_mini
from analysis.demo.architectures import build_clip, build_qwen2_vl
from analysis.demo.evaluate import pooled_recall
from analysis.demo.loop import Stage, StageLog, train_stage

CLIP, QWEN = "clip-mini", "qwen2-vl-mini"
STEPS = ("data", "clip", "qwen-vision", "qwen-text", "qwen")
DATA_SEED = 0  # all training seeds see the same pictures: their spread is the training's, not the data's
SHIPPED_SEED = 0


@dataclass(frozen=True)
class DemoSize:
    """How much data and training; `smoke()` is a few steps for tests."""

    n_train: int = N_TRAIN
    n_test: int = N_TEST
    step_share: float = 1.0
    batch_size: int | None = None
    stop_after: int | None = None  # steps a call, for tests of resuming

    @staticmethod
    def smoke() -> DemoSize:
        return DemoSize(n_train=64, n_test=16, step_share=0.004, batch_size=8)

    def scaled(self, stage: Stage) -> Stage:
        steps = max(2, round(stage.steps * self.step_share))
        return replace(stage, steps=steps, batch_size=self.batch_size or stage.batch_size)


def build_demo(
    *,
    cache_dir: Path,
    assets_dir: Path,
    seed: int = 0,
    steps: Sequence[str] = ("data", "clip", "qwen"),
    smoke: bool = False,
    progress: bool = True,
) -> None:
    """Pictures and trained backbones of one seed.

    Checkpoints and logs go to <cache_dir>/demo-runs/seed<k>/<name>; seed 0 is also written to <assets_dir>/<name>. Steps
    "qwen-vision" and "qwen-text" are parts of "qwen" that do not need each other: two processes may run them side by
    side, and "qwen" then takes over from both.
    Raises ValueError for an unknown step.
    """
    unknown = set(steps) - set(STEPS)
    if unknown:
        raise ValueError(f"steps {sorted(unknown)} do not exist; choose from {STEPS}.")
    size = DemoSize.smoke() if smoke else DemoSize()
    data_dir = cache_dir / "datasets" / ("emoji-scenes-smoke" if smoke else "emoji-scenes")
    train, test = load_splits(data_dir, n_train=size.n_train, n_test=size.n_test, seed=DATA_SEED)
    run_dir = cache_dir / "demo-runs" / f"{'smoke-' if smoke else ''}seed{seed}"
    for step in steps:
        if step == "data":
            write_dataset(data_dir, n_train=size.n_train, n_test=size.n_test, seed=DATA_SEED, progress=progress)
            continue
        name = CLIP if step == "clip" else QWEN
        if step == "clip":
            log = train_clip_mini(train, test, run_dir / name, seed=seed, size=size, progress=progress)
        else:
            only = None if step == "qwen" else step
            log = train_qwen2_vl_mini(train, test, run_dir / name, seed=seed, size=size, only=only, progress=progress)
        if log is not None and seed == SHIPPED_SEED:
            shutil.copytree(run_dir / name / "model", assets_dir / name, dirs_exist_ok=True)


def train_clip_mini(
    train: EmojiSplit, test: EmojiSplit, run_dir: Path, *, seed: int, size: DemoSize, progress: bool = True
) -> dict[str, Any] | None:
    """Train (or finish, or load) clip-mini and save it to <run_dir>/model; its training log, or None if unfinished."""
    if (earlier := _earlier_log(run_dir, [size.scaled(clip_mini.STAGE)])) is not None:
        return earlier
    torch.manual_seed(seed)
    model, processor = build_clip(train.captions_flat())
    training = clip_mini.ClipTraining(model, processor, train)
    held_out = clip_mini.ClipTraining(model, processor, test)
    stage = size.scaled(clip_mini.STAGE)
    log = train_stage(
        stage,
        seed=seed,
        module=model,
        parameters=list(model.parameters()),
        n_samples=len(train),
        batch_loss=training.batch_loss,
        run_dir=run_dir,
        measure=held_out.measure,
        measure_every=300,
        stop_after=size.stop_after,
        progress=progress,
    )
    if not _finished(log, stage):
        return None
    return _save_model(model, processor, run_dir, seed=seed, stages=[(stage, log)], figures=held_out.measure())


def train_qwen2_vl_mini(
    train: EmojiSplit,
    test: EmojiSplit,
    run_dir: Path,
    *,
    seed: int,
    size: DemoSize,
    only: str | None = None,
    progress: bool = True,
) -> dict[str, Any] | None:
    """Train (or finish, or load) the four stages of qwen2-vl-mini and save it to <run_dir>/model.

    only: "qwen-vision" or "qwen-text" runs that stage alone. The training log, or None if it is unfinished.
    """
    if (earlier := _earlier_log(run_dir, [size.scaled(stage) for stage in qwen2_vl_mini.STAGES])) is not None:
        return earlier
    torch.manual_seed(seed)
    model, processor = build_qwen2_vl(train.captions_flat())
    compiled = size == DemoSize()  # compiling costs more than it saves on a few steps
    vision = qwen2_vl_mini.VisionTraining(model, processor, train, test, compiled=compiled)
    language = qwen2_vl_mini.LanguageTraining(model, processor, train, compiled=compiled)
    language_test = qwen2_vl_mini.LanguageTraining(model, processor, test)

    # The vision stage leaves the language model as it was drawn and the text stage the vision tower, so each is saved
    # without the other's half and the two may run in either order or at the same time.
    text_module = torch.nn.ModuleDict({"language": model.model.language_model, "head": model.lm_head})
    plan = [
        (qwen2_vl_mini.VISION, vision.module, list(vision.module.parameters()), vision.batch_loss, vision.measure),
        (
            qwen2_vl_mini.TEXT,
            text_module,
            language.parameters(qwen2_vl_mini.TEXT),
            language.text_loss,
            language_test.held_out,
        ),
        (
            qwen2_vl_mini.ALIGN,
            model,
            language.parameters(qwen2_vl_mini.ALIGN),
            language.align_loss,
            language_test.held_out,
        ),
        (
            qwen2_vl_mini.JOINT,
            model,
            language.parameters(qwen2_vl_mini.JOINT),
            language.joint_loss,
            language_test.held_out,
        ),
    ]
    logs: list[tuple[Stage, StageLog]] = []
    for default, module, parameters, batch_loss, measure in plan:
        if only is not None and default.name != only:
            continue
        stage = size.scaled(default)
        log = train_stage(
            stage,
            seed=seed,
            module=module,
            parameters=parameters,
            n_samples=len(train),
            batch_loss=batch_loss,
            run_dir=run_dir,
            measure=measure,
            stop_after=size.stop_after,
            progress=progress,
        )
        logs.append((stage, log))
        if not _finished(log, stage):
            return None
    if only is not None:
        return None
    figures = {
        "held_out": language_test.held_out(limit=len(test)),
        "mean_pooled": pooled_recall(model, processor, test),
    }
    return _save_model(model, processor, run_dir, seed=seed, stages=logs, figures=figures)


def _earlier_log(run_dir: Path, stages: Sequence[Stage]) -> dict[str, Any] | None:
    """The log of a model that was finished with exactly these stages."""
    path = run_dir / "model" / "training.json"
    if not path.is_file():
        return None
    log = json.loads(path.read_text())
    same = [{key: entry.get(key) for key in asdict(stage)} for entry, stage in zip(log["stages"], stages, strict=True)]
    return log if same == [asdict(stage) for stage in stages] else None


def _finished(log: StageLog, stage: Stage) -> bool:
    return bool(log.losses) and log.losses[-1][0] >= stage.steps


def _save_model(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    run_dir: Path,
    *,
    seed: int,
    stages: Sequence[tuple[Stage, StageLog]],
    figures: dict[str, Any],
) -> dict[str, Any]:
    """<run_dir>/model: weights in bfloat16, tokenizer, processor and training.json; written beside and renamed."""
    log = {
        "model": run_dir.name,
        "seed": seed,
        "data_seed": DATA_SEED,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "minutes": round(sum(entry.seconds for _, entry in stages) / 60, 1),
        "stages": [{**asdict(stage), **vars(entry)} for stage, entry in stages],
        "held_out": figures,
    }
    part, target = run_dir / "model.part", run_dir / "model"
    shutil.rmtree(part, ignore_errors=True)
    half = copy.deepcopy(model)
    nn.Module.to(half, torch.bfloat16)
    half.save_pretrained(part)
    processor.save_pretrained(part)
    (part / "training.json").write_text(json.dumps(log, indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return log
