"""Training a TopK SAE: the paper's loss and optimiser, on the fast steps of `step.py` (CPU) and `step_torch.py` (GPU)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import CheckpointError, DataError
from analysis.sae.batches import Batches, Data
from analysis.sae.form import Sae

if TYPE_CHECKING:
    from analysis.sae.step import State

STATE_FILE = "training.safetensors"
SAVE_SECONDS = 60.0  # between two saved states,
SAVE_SPACING = 20  # and at least so many times as long as the last one took to save
CURVE_POINTS = 200
STARTS = ("random", "tied")


@dataclass(frozen=True)
class TrainConfig:
    """What a training run depends on. Defaults are the paper's (appendix A and the released training script)."""

    n_concepts: int = 32768
    """K. 32768 for the MLLMs of the paper, 7168 for CLIP and SigLIP2."""
    top_k: int = 50
    """Active concepts per vector."""
    batch_size: int = 4096
    """Vectors per update (an array is cut into such batches; an iterable's batches are taken as they are)."""
    steps: int | None = None
    """Updates. None: `epochs` times the number of batches."""
    epochs: int = 20
    """Passes over the data when `steps` is None."""
    lr: float = 8e-4
    """Adam's learning rate (betas 0.9 and 0.999, eps 1e-8)."""
    decay: float = 0.0
    """Final share of the steps over which lr falls linearly to 0. 0: constant, as in the paper."""
    l1: float = 1e-2
    """Weight of mean|z|."""
    clip: float = 1.0
    """Bound on the global gradient norm. 0: none."""
    aux: float = 0.0
    """Weight of the loss that revives silent concepts (Gao et al. 2024: 1/32). 0: the paper's loss."""
    aux_k: int = 32
    """Silent concepts that the auxiliary loss uses per vector."""
    dead_after: int = 100
    """Updates without firing after which a concept counts as silent."""
    start: str = "random"
    """"random": overcomplete's initialisation. "tied": random unit atoms, the first along the data's mean; the encoder
    equals the dictionary and its bias centres the data. Converges several times faster on pooled embeddings."""
    seed: int = 0
    """Of the initial weights and the order of the data."""

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.n_concepts or self.batch_size < 1 or self.start not in STARTS:
            raise CheckpointError(
                f"An SAE cannot be trained with top_k={self.top_k}, n_concepts={self.n_concepts}, "
                f"batch_size={self.batch_size}, start={self.start!r}; expected 1 <= top_k <= n_concepts, "
                f"batch_size >= 1 and a start among {STARTS}."
            )
        if (self.steps is not None and self.steps < 1) or self.epochs < 1 or not 0 <= self.decay <= 1 or self.lr <= 0:
            raise CheckpointError(
                f"An SAE cannot be trained with steps={self.steps}, epochs={self.epochs}, decay={self.decay}, "
                f"lr={self.lr}; expected positive steps, epochs and lr, and decay between 0 and 1."
            )

    @classmethod
    def for_size(cls, *, n_concepts: int, top_k: int, steps: int | None = None, seed: int = 0) -> TrainConfig:
        """The paper's recipe from 4097 concepts on; below, one that fits some ten thousand pooled vectors in a minute."""
        if n_concepts > 4096:
            return cls(n_concepts=n_concepts, top_k=top_k, steps=steps, seed=seed)
        return cls(
            n_concepts=n_concepts,
            top_k=top_k,
            batch_size=1024,
            steps=steps or 1500,
            decay=0.2,
            start="tied",
            seed=seed,
        )


def train_sae(
    batches: Data,
    config: TrainConfig,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    checkpoint_dir: str | Path | None = None,
) -> Sae:
    """Train on un-normalised vectors: an array (N, D), an iterable of (B, D) batches, or a function of the epoch.

    progress(done, total) is called after every update. With `checkpoint_dir` the whole state is saved about once a
    minute, a later call with the same data and config goes on from there to the same result, and the file is removed
    at the end. The curve (loss, R2 against the batch's scalar mean, L0, silent share) and the config are in `meta`.
    Raises DataError for data that is empty, ends early or makes the loss infinite, CheckpointError for a saved
    state of another run.
    """
    source = Batches(batches, config.batch_size, config.seed)
    total = _total(source, config)
    saved = _Saved(checkpoint_dir, {"config": asdict(config), "data": source.identity(), "total": total})
    state, curve = saved.load()
    if state is None:
        state = _start(source.sample(), config)
    step = _engine(state, config, device)
    marks = set(np.unique(np.linspace(0, total - 1, CURVE_POINTS).astype(int)).tolist())
    width = state.dictionary.shape[1]
    for number, x in source.numbered(state.steps, total):
        if x.ndim != 2 or x.shape[1] != width or not len(x):
            raise DataError(f"Batch {number} has shape {x.shape}; expected (B, {width}) with at least one row.")
        outcome = step(x, config.lr * _slope(number, total, config.decay))
        if not np.isfinite(outcome.loss):
            cause = "too large for float32 at this learning rate" if np.isfinite(x).all() else "not finite"
            raise DataError(
                f"The loss became infinite at update {number + 1} of {total}: the data is {cause}; expected finite "
                "vectors, un-normalised but of moderate size."
            )
        if number in marks:
            silent = float(np.mean(step.quiet_steps() >= min(config.dead_after, number + 1)))
            curve.append([number + 1, outcome.loss, outcome.r2, outcome.l0, silent])
        if progress is not None:
            progress(number + 1, total)
        saved.now_and_then(step, curve)
    state = step.pull()
    meta: dict[str, Any] = {
        "train": asdict(config),
        "training_curve": {
            name: [round(float(row[i]), 6) for row in curve]
            for i, name in enumerate(("step", "loss", "r2_scalar_mean", "l0", "silent_share"))
        },
    }
    saved.remove()
    return Sae(state.encoder_weight, state.encoder_bias, state.dictionary, config.top_k, meta)


def untrained_sae(batches: Data, config: TrainConfig) -> Sae:
    """The SAE that `train_sae(batches, config)` starts from: the same K, top_k, start and seed, and not one update.

    What it already does, training did not bring about: it belongs beside every figure of the trained one. A start that
    looks at the data (the mean in "tied") makes it a strong control.
    """
    state = _start(Batches(batches, config.batch_size, config.seed).sample(), config)
    meta = {"train": {**asdict(config), "steps": 0}, "untrained": True}
    return Sae(state.encoder_weight, state.encoder_bias, state.dictionary, config.top_k, meta)


def _total(source: Batches, config: TrainConfig) -> int:
    if config.steps is not None:
        return config.steps
    per_epoch = source.per_epoch()
    if per_epoch is None:
        raise DataError("The number of batches is unknown; give TrainConfig(steps=...) or data with a length.")
    return config.epochs * per_epoch


def _slope(number: int, total: int, decay: float) -> float:
    return min(1.0, (total - number) / (total * decay)) if decay else 1.0


def _start(sample: np.ndarray, config: TrainConfig) -> State:
    from analysis.sae.step import State

    rng = np.random.default_rng(config.seed)
    n_concepts, width = config.n_concepts, sample.shape[1]
    if config.start == "random":  # torch.nn.Linear for the encoder, Xavier for the dictionary
        bound = 1 / np.sqrt(width)
        weight = rng.uniform(-bound, bound, (n_concepts, width))
        return State.fresh(weight, rng.uniform(-bound, bound, n_concepts), rng.uniform(-1, 1, (n_concepts, width)))
    atoms = rng.standard_normal((n_concepts, width))
    mean = sample.mean(axis=0, dtype=np.float64)
    if np.linalg.norm(mean) > 0:
        atoms[0] = mean
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    bias = -atoms @ mean
    bias[0] = 0  # the first atom carries the mean itself; there is no decoder bias
    return State.fresh(atoms, bias, atoms)


def _engine(state: State, config: TrainConfig, device: str) -> Any:
    from analysis.sae.step import CpuStep, Rule

    rule = Rule(config.top_k, config.l1, config.clip, config.aux, config.aux_k, config.dead_after)
    if device == "cpu":
        return CpuStep(state, rule)
    from analysis.sae.step_torch import TorchStep

    return TorchStep(state, rule, device)


class _Saved:
    """The training state on disk: one file, replaced whole, with what it belongs to in its header."""

    def __init__(self, folder: str | Path | None, identity: dict[str, Any]) -> None:
        self.path = None if folder is None else Path(folder) / STATE_FILE
        self.identity = identity
        self._last, self._cost = time.monotonic(), 0.0

    def load(self) -> tuple[State | None, list[list[float]]]:
        if self.path is None or not self.path.is_file():
            return None, []
        from safetensors import SafetensorError, safe_open

        from analysis.sae.step import State

        try:
            with safe_open(self.path, framework="np") as file:
                facts = json.loads(file.metadata()["facts"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"The training state {self.path} cannot be read ({error}); remove it to start again."
            ) from error
        if facts["identity"] != json.loads(json.dumps(self.identity)):
            raise CheckpointError(
                f"The training state {self.path} belongs to other data or settings; remove it or choose another folder."
            )
        return State(**arrays, steps=facts["steps"]), facts["curve"]

    def now_and_then(self, step: Any, curve: list[list[float]]) -> None:
        """Save if the last time is long enough ago."""
        if self.path is None or time.monotonic() - self._last < max(SAVE_SECONDS, SAVE_SPACING * self._cost):
            return
        from safetensors.numpy import save_file

        begin = time.monotonic()
        state = step.pull()
        facts = json.dumps({"identity": self.identity, "steps": state.steps, "curve": curve})
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file(state.arrays(), temporary, metadata={"facts": facts})
            os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CheckpointError(f"The training state could not be saved to {self.path} ({error}).") from error
        self._last = time.monotonic()
        self._cost = self._last - begin

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
