"""One training stage: step-based, seeded, resumable, with a progress bar.

The batch of step s depends only on (seed, stage, s), so a stage that was killed continues from its last checkpoint to
the weights that an uninterrupted run reaches; no generator state has to be saved.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class Stage:
    """Sizes and schedule of one stage. Learning rate: linear warm-up, then cosine down to `floor` of `rate`."""

    name: str
    steps: int
    batch_size: int
    rate: float
    warmup: int = 150
    floor: float = 0.02
    weight_decay: float = 0.05

    def rate_at(self, step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * min(1.0, (step + 1) / self.warmup) * (self.floor + (1 - self.floor) * cosine)


@dataclass
class StageLog:
    """What happened in a stage: mean losses over windows of steps, measurements, and the seconds it took."""

    stage: str
    losses: list[tuple[int, float]] = field(default_factory=list)
    measured: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def train_stage(
    stage: Stage,
    *,
    seed: int,
    module: nn.Module,
    parameters: Sequence[nn.Parameter],
    n_samples: int,
    batch_loss: Callable[[np.ndarray, np.random.Generator, float], torch.Tensor],
    run_dir: Path,
    begin: Callable[[], None] | None = None,
    measure: Callable[[], dict[str, Any]] | None = None,
    measure_every: int = 400,
    stop_after: int | None = None,
    progress: bool = True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> StageLog:
    """Train `parameters` of `module` in place and return the log; everything else in the module stays frozen.

    batch_loss(indices, rng, progress) -> loss of one batch; progress runs from 0 to 1 and serves curricula.
    begin: called before the first step, not when a stage is gone on with.
    module: everything whose state belongs to the stage, trained or not; saved as <run_dir>/<stage>.pt.
    stop_after: leave after this many steps of this call with a checkpoint written (tests of resuming).
    A finished stage is loaded, not repeated. Raises RuntimeError when the loss is no longer finite.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / f"{stage.name}.pt"
    optimizer = _optimizer(stage, parameters)
    log, step = StageLog(stage.name), 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        module.load_state_dict(saved["module"])
        log, step = StageLog(**saved["log"]), saved["step"]
        if step >= stage.steps:
            return log
        optimizer.load_state_dict(saved["optimizer"])
    elif begin is not None:
        begin()
    trained = {id(parameter) for parameter in parameters}
    before = {parameter: parameter.requires_grad for parameter in module.parameters()}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    module.train()

    started = last_saved = time.monotonic()
    earlier, window, first = log.seconds, [], step
    bar = tqdm(total=stage.steps, initial=step, desc=stage.name, unit="step", disable=not progress, mininterval=2)
    while step < stage.steps and (stop_after is None or step - first < stop_after):
        for group in optimizer.param_groups:
            group["lr"] = stage.rate_at(step)
        indices, rng = batch_indices(stage, step, n_samples, seed)
        loss = batch_loss(indices, rng, step / stage.steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(list(parameters), 1.0)
        optimizer.step()
        window.append(float(loss.detach()))
        step += 1
        bar.update()
        if len(window) == 50 or step == stage.steps:
            mean = float(np.mean(window))
            if not math.isfinite(mean):
                raise RuntimeError(f"The loss of stage {stage.name!r} is {mean} at step {step}; lower its rate.")
            log.losses.append((step, round(mean, 4)))
            bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
            window = []
        log.seconds = earlier + time.monotonic() - started
        if measure is not None and (step % measure_every == 0 or step == stage.steps):
            log.measured.append({"step": step, **_evaluated(module, measure)})
            tqdm.write(f"{stage.name} {json.dumps(log.measured[-1])}")
        if time.monotonic() - last_saved > checkpoint_seconds and step < stage.steps:
            _save(path, module, optimizer, log, step)
            last_saved = time.monotonic()
    bar.close()
    _save(path, module, optimizer, log, step)
    for parameter, wanted in before.items():
        parameter.requires_grad_(wanted)
    return log


def batch_indices(stage: Stage, step: int, n_samples: int, seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """The sample indices of a step (every epoch is a fresh permutation) and the generator for its other choices."""
    start = step * stage.batch_size
    positions = np.arange(start, start + stage.batch_size)
    key = [seed, *stage.name.encode()]
    indices = np.empty(stage.batch_size, np.int64)
    for epoch in np.unique(positions // n_samples):
        here = positions // n_samples == epoch
        order = np.random.default_rng([*key, 1, int(epoch)]).permutation(n_samples)
        indices[here] = order[positions[here] % n_samples]
    return indices, np.random.default_rng([*key, 2, step])


def _evaluated(module: nn.Module, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    module.eval()
    with torch.no_grad():
        found = measure()
    module.train()
    return found


def _optimizer(stage: Stage, parameters: Sequence[nn.Parameter]) -> torch.optim.AdamW:
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": stage.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98), fused=True)


def _save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, log: StageLog, step: int) -> None:
    """Written beside and renamed: a kill in the middle leaves the checkpoint before."""
    state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "log": vars(log), "step": step}
    part = path.with_suffix(f".{os.getpid()}.part")
    torch.save(state, part)
    os.replace(part, path)
