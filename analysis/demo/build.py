"""The demo's backbones from seeds. Every stage continues where it was stopped and is skipped once it is done."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from analysis.data.emoji_arrays import N_TEST, N_TRAIN, N_VAL, Splits, load_splits
from analysis.demo.architectures import ARCHITECTURES
from analysis.demo.contrastive import ContrastiveTraining
from analysis.demo.evaluate import pooled_recall
from analysis.demo.language_model import MATCH, STAGES, LanguageTraining, MatchTraining, VisionTraining
from analysis.demo.loop import Stage, StageLog, train_stage
from analysis.demo.picture_tokens import PictureTokenTraining
from analysis.errors import AnalysisError
from analysis.models.families import at_path, family_of
from analysis.models.specs import ROOT, find_spec

# Whose trained vision tower a model begins with, or whose sight the tokens of its pictures must keep.
TOWER_OF = {"paligemma2-mini": "siglip2-mini", "chameleon-mini": "siglip2-mini"}
START_OF = {"qwen2-vl-contrastive-mini": "qwen2-vl-mini"}  # whose trained weights a model begins with
DATA_SEED = 0  # all training seeds see the same pictures: their spread is the training's, not the data's
SHIPPED_SEED = 0


@dataclass(frozen=True)
class DemoSize:
    """How much data and training; `smoke()` is a few steps for tests."""

    n_train: int = N_TRAIN
    n_val: int = N_VAL
    n_test: int = N_TEST
    step_share: float = 1.0
    batch_size: int | None = None
    stop_after: int | None = None  # steps a call, for tests of resuming

    @staticmethod
    def smoke() -> DemoSize:
        return DemoSize(n_train=64, n_val=16, n_test=16, step_share=0.001, batch_size=8)

    def scaled(self, stage: Stage) -> Stage:
        steps = max(2, round(stage.steps * self.step_share))
        return replace(stage, steps=steps, batch_size=self.batch_size or stage.batch_size)

    def splits(self, root: Path) -> Splits:
        return load_splits(root, n_train=self.n_train, n_val=self.n_val, n_test=self.n_test, seed=DATA_SEED)


@dataclass(frozen=True)
class Work:
    """What one stage trains: `module` is everything that is saved with it, `parameters` what changes. begin: before its first
    step; finish: whenever it is done, also when it was done before."""

    stage: Stage
    module: nn.Module
    parameters: list[nn.Parameter]
    batch_loss: Callable[..., torch.Tensor]
    measure: Callable[[], dict[str, Any]]
    begin: Callable[[], None] | None = None
    finish: Callable[[], None] | None = None


def build_backbone(
    name: str,
    splits: Splits,
    run_dir: Path,
    *,
    seed: int,
    size: DemoSize | None = None,
    only: str | None = None,
    progress: bool = True,
) -> dict[str, Any] | None:
    """Train (or finish, or load) one backbone and save it to <run_dir>/model; its training log, None if it is unfinished.

    name: a row of ARCHITECTURES or of START_OF. only: run the stage of this name alone; stages that do not need each other
    may run side by side in two processes. Raises AnalysisError for an unknown name.
    """
    if name not in _PLANS:
        raise AnalysisError(f"The demo has no backbone {name!r}; choose among {', '.join(_PLANS)}.")
    size = size or DemoSize()
    torch.manual_seed(seed)
    if name in START_OF:
        model, processor = read_again(_finished(run_dir, START_OF[name]))
    else:
        model, processor = ARCHITECTURES[name](splits.train.captions_flat())
    tower = _finished(run_dir, TOWER_OF[name]) if name in TOWER_OF else None
    plan, figures = _PLANS[name](name, model, processor, splits, tower)
    stages = [size.scaled(work.stage) for work in plan]
    if (earlier := _earlier_log(run_dir, stages)) is not None:
        return earlier
    logs: list[tuple[Stage, StageLog]] = []
    for work, stage in zip(plan, stages, strict=True):
        if only is not None and stage.name != only:
            continue
        log = train_stage(
            stage,
            seed=seed,
            module=work.module,
            parameters=work.parameters,
            n_samples=len(splits.train),
            batch_loss=work.batch_loss,
            run_dir=run_dir,
            begin=work.begin,
            measure=work.measure,
            stop_after=size.stop_after,
            progress=progress,
        )
        logs.append((stage, log))
        if not (log.losses and log.losses[-1][0] >= stage.steps):
            return None
        if work.finish is not None:
            work.finish()
    return None if only else _save_model(model, processor, run_dir, seed=seed, stages=logs, figures=figures)


Plan = tuple[list[Work], Callable[[Path], dict[str, Any]]]


def _contrastive(_: str, model: Any, processor: Any, splits: Splits, tower: Path | None) -> Plan:
    training, val, test = (ContrastiveTraining(model, processor, split) for split in splits)
    plan = [
        Work(
            stage,
            model,
            training.parameters(spread=spread),
            training.batch_loss,
            val.measure,
            partial(training.begin, spread=spread),
            training.level if spread else None,
        )
        for stage, spread in zip(training.stages, (False, True), strict=True)
    ]
    return plan, lambda saved: test.measure()


def _language_model(name: str, model: Any, processor: Any, splits: Splits, tower: Path | None) -> Plan:
    """The stages of a multimodal language model. The vision stage leaves the language model as it was drawn and the text
    stage the vision tower, so each is saved without the other's half and the two may run in either order."""
    stages = STAGES[name]
    plan = []
    if stages.vision is not None:
        if tower is None:
            vision: Any = VisionTraining(model, processor, splits.train, splits.val)
        else:
            vision = PictureTokenTraining(model, processor, splits.train, splits.val, tower)
        plan.append(Work(stages.vision, vision.module, vision.parameters(), vision.batch_loss, vision.measure))
    elif tower is not None:
        take_tower(model, tower)
    training, val, test = (LanguageTraining(model, processor, split) for split in splits)
    text_module = nn.ModuleDict({"language": training.anatomy.language, "head": model.lm_head})
    causal = partial(val.held_out, causal=True)
    plan.append(Work(stages.text, text_module, training.parameters("text"), training.text_loss, causal))
    if stages.align is not None:
        plan.append(Work(stages.align, model, training.parameters("align"), training.align_loss, causal))
    plan.append(Work(stages.joint, model, training.parameters("joint"), training.joint_loss, val.held_out))
    return plan, partial(_said_and_found, test)


def _matched(_: str, model: Any, processor: Any, splits: Splits, __: Path | None) -> Plan:
    """One more stage of a finished language model. Its figures say what became of its captions, too."""
    training, val = (MatchTraining(model, processor, split) for split in (splits.train, splits.val))
    work = Work(MATCH, model, list(model.parameters()), training.batch_loss, val.measure)
    return [work], partial(_said_and_found, LanguageTraining(model, processor, splits.test))


def _said_and_found(test: LanguageTraining, saved: Path) -> dict[str, Any]:
    """What a saved language model says of held-out scenes, and how well it finds them."""
    return {"held_out": test.held_out(limit=len(test.split)), "mean_pooled": pooled_recall(saved, test.split)}


_PLANS: dict[str, Callable[[str, Any, Any, Splits, Path | None], Plan]] = {
    "clip-mini": _contrastive,
    "siglip2-mini": _contrastive,
    "qwen2-vl-contrastive-mini": _matched,
    **dict.fromkeys(STAGES, _language_model),
}


def read_again(folder: Path) -> tuple[Any, Any]:
    """A finished language model and its processor, to be trained on."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(folder)


def take_tower(model: Any, donor: Path) -> None:
    """Give a model the vision tower of a finished dual encoder, without the head that pools it."""
    kept = "vision_model."
    found = load_file(donor / "model.safetensors")
    tower = {
        name.removeprefix(kept): weight.float()
        for name, weight in found.items()
        if name.startswith(kept) and not name.startswith(f"{kept}head.")
    }
    model.model.vision_tower.load_state_dict(tower)


def _finished(run_dir: Path, name: str) -> Path:
    """The folder of a model that was trained beside this one, else of the shipped one."""
    own = run_dir.parent / name / "model"
    return own if (own / "model.safetensors").is_file() else ROOT / find_spec(name).hub_id


def _earlier_log(run_dir: Path, stages: Sequence[Stage]) -> dict[str, Any] | None:
    """The log of a model that was finished with exactly these stages."""
    path = run_dir / "model" / "training.json"
    if not path.is_file():
        return None
    log = json.loads(path.read_text())
    wanted = [asdict(stage) for stage in stages]
    found = [{key: entry.get(key) for key in wanted[0]} for entry in log["stages"]]
    return log if found == wanted else None


def _save_model(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    run_dir: Path,
    *,
    seed: int,
    stages: Sequence[tuple[Stage, StageLog]],
    figures: Callable[[Path], dict[str, Any]],
) -> dict[str, Any]:
    """<run_dir>/model: weights in bfloat16 (an encoder of codes in float32), tokenizer, processor and training.json; written
    beside and renamed."""
    part, target = run_dir / "model.part", run_dir / "model"
    shutil.rmtree(part, ignore_errors=True)
    half = copy.deepcopy(model)
    nn.Module.to(half, torch.bfloat16)
    if exact := family_of(model.config.model_type, run_dir.name).keep_float32:  # rounded, it would find other codes
        nn.Module.to(at_path(half.model, exact), torch.float32).load_state_dict(
            at_path(model.model, exact).state_dict()
        )
    half.save_pretrained(part)
    processor.save_pretrained(part)
    model.eval()
    log = {
        "model": run_dir.name,
        "seed": seed,
        "data_seed": DATA_SEED,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **({"vision_tower": TOWER_OF[run_dir.name]} if run_dir.name in TOWER_OF else {}),
        **({"start": START_OF[run_dir.name]} if run_dir.name in START_OF else {}),
        "minutes": round(sum(entry.seconds for _, entry in stages) / 60, 1),
        "stages": [{**asdict(stage), **vars(entry)} for stage, entry in stages],
        "held_out": figures(part),
    }
    (part / "training.json").write_text(json.dumps(log, indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return log
