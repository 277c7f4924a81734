"""One training step of a TopK SAE on the CPU, without a dense code, gradient or autograd graph.

The mathematics is overcomplete's TopKSAE with the paper's loss (eq. 2 as released): mean((h - h_hat)^2) + l1 mean|z|,
gradient clipping by the global norm, Adam, dictionary rows set to norm 1 after each update. Only k of K concepts per
row are active, so after the one product h W^T everything costs O(B k D) instead of O(B K D).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from analysis.jit import over_rows
from analysis.sae import kernels
from analysis.sae.topk import TopK

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam, appendix A of the paper


@dataclass(frozen=True)
class Rule:
    """The constants of a step. aux > 0 adds aux * mean((e - h_hat_aux)^2), where e = h - h_hat is what the active
    concepts leave over and h_hat_aux its reconstruction by the aux_k strongest concepts that did not fire for
    dead_after steps (Gao et al. 2024, section 3.2)."""

    top_k: int
    l1: float = 1e-2
    clip: float = 1.0
    aux: float = 0.0
    aux_k: int = 32
    dead_after: int = 100


@dataclass(frozen=True)
class Outcome:
    """loss; mse = mean((h - h_hat)^2); l0 = active concepts a row; r2 against the batch's one scalar mean."""

    loss: float
    mse: float
    l0: float
    r2: float


@dataclass
class State:
    """Everything that training changes: parameters, Adam's moments, steps since each concept fired, step count."""

    encoder_weight: np.ndarray
    encoder_bias: np.ndarray
    dictionary: np.ndarray
    weight_first: np.ndarray
    weight_second: np.ndarray
    bias_first: np.ndarray
    bias_second: np.ndarray
    dictionary_first: np.ndarray
    dictionary_second: np.ndarray
    quiet: np.ndarray  # (K,) int32
    steps: int = 0

    @classmethod
    def fresh(cls, weight: np.ndarray, bias: np.ndarray, dictionary: np.ndarray) -> State:
        """Copies of the parameters, zero moments; rows of the dictionary are set to norm 1."""
        weight, bias, dictionary = (np.array(a, np.float32, order="C") for a in (weight, bias, dictionary))
        dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True) + np.float32(1e-8)
        return cls(
            *(weight, bias, dictionary),
            weight_first=np.zeros_like(weight),
            weight_second=np.zeros_like(weight),
            bias_first=np.zeros_like(bias),
            bias_second=np.zeros_like(bias),
            dictionary_first=np.zeros_like(dictionary),
            dictionary_second=np.zeros_like(dictionary),
            quiet=np.zeros(len(bias), np.int32),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "steps"}


class CpuStep:
    """Owns the state and reused buffers; call it with a batch. `bfloat16` as in TopK."""

    def __init__(self, state: State, rule: Rule, *, bfloat16: bool | None = None) -> None:
        self.state, self.rule = state, rule
        self._select = TopK(state.encoder_weight, state.encoder_bias, rule.top_k, bfloat16=bfloat16)
        self._grad_weight = np.zeros_like(state.encoder_weight)
        self._grad_bias = np.zeros_like(state.encoder_bias)
        self._grad_dictionary = np.zeros_like(state.dictionary)
        self._batch = _Batch(0, 0, 0, 0)
        self._aux_batch = _Batch(0, 0, 0, 0)

    def __call__(self, x: np.ndarray, lr: float) -> Outcome:
        """One update from x (B, D) float32 C-contiguous."""
        s, rule = self.state, self.rule
        n_concepts, width = s.dictionary.shape
        self._batch = batch = self._batch.sized(len(x), self._select.k, n_concepts, width)
        self._select(x, batch.indices, batch.values)
        squares, total = batch.residual(s.dictionary, x)
        scale = 2 / (len(x) * width)
        gradient = (self._grad_dictionary, self._grad_weight, self._grad_bias)
        norm2 = batch.gradients(x, scale, rule.l1 / (len(x) * n_concepts), gradient)
        fired = np.diff(batch.offsets) > 0
        mse = squares / x.size
        loss = mse + rule.l1 * total / (len(x) * n_concepts)
        if rule.aux > 0:
            dead = np.flatnonzero(s.quiet >= rule.dead_after)
            if len(dead):
                extra, change = self._revive(x, dead, fired, scale, gradient)
                loss, norm2 = loss + extra, norm2 + change
        s.quiet += 1
        s.quiet[np.diff(batch.offsets) > 0] = 0
        self._update(fired, min(1.0, rule.clip / (np.sqrt(norm2) + 1e-6)) if rule.clip else 1.0, lr)
        variance = float(np.vdot(x, x)) / x.size - float(x.mean()) ** 2
        return Outcome(loss, mse, float(batch.offsets[-1]) / len(x), 1 - mse / (variance + 1e-6))

    def _revive(
        self,
        x: np.ndarray,
        dead: np.ndarray,
        fired: np.ndarray,
        scale: float,
        gradient: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> tuple[float, float]:
        """Add the auxiliary gradient of the dead concepts; returns (its loss, change of the squared gradient norm)."""
        s, rule = self.state, self.rule
        weight, bias, dictionary = s.encoder_weight[dead], s.encoder_bias[dead], s.dictionary[dead]
        select = TopK(weight, bias, rule.aux_k, bfloat16=False)
        self._aux_batch = batch = self._aux_batch.sized(len(x), select.k, len(dead), x.shape[1])
        select(x, batch.indices, batch.values)
        squares, _ = batch.residual(dictionary, -self._batch.error)
        part = tuple(np.zeros_like(a) for a in (dictionary, weight, bias))
        norm2 = batch.gradients(x, rule.aux * scale, 0.0, part)
        both = np.flatnonzero(fired[dead])  # silent for long, but not in this very batch
        change = norm2 - _squares(part, both) - _squares(gradient, dead[both])
        alone = np.setdiff1d(np.flatnonzero(np.diff(batch.offsets) > 0), both)
        for whole, own in zip(gradient, part, strict=True):
            whole[dead[both]] += own[both]
            whole[dead[alone]] = own[alone]
        fired[dead[alone]] = True
        return rule.aux * squares / x.size, change + _squares(gradient, dead[both])

    def _update(self, fired: np.ndarray, clip: float, lr: float) -> None:
        s = self.state
        s.steps += 1
        rate, correction = lr / (1 - BETA1**s.steps), 1 / np.sqrt(1 - BETA2**s.steps)
        constants = (fired, clip, rate, BETA1, BETA2, EPSILON, correction)
        n = len(fired)
        over_rows(
            kernels.adam, n, s.encoder_weight, self._grad_weight, s.weight_first, s.weight_second, *constants, False
        )
        over_rows(
            kernels.adam,
            n,
            s.dictionary,
            self._grad_dictionary,
            s.dictionary_first,
            s.dictionary_second,
            *constants,
            True,
        )
        column = (a[:, None] for a in (s.encoder_bias, self._grad_bias, s.bias_first, s.bias_second))
        kernels.adam(0, n, *column, *constants, False)
        self._select.refresh()

    def pull(self) -> State:
        return self.state

    def quiet_steps(self) -> np.ndarray:
        """(K,) steps since each concept last fired."""
        return self.state.quiet


class _Batch:
    """Codes of a batch, its error and the codes sorted by concept: buffers that live as long as the batch size."""

    def __init__(self, rows: int, k: int, n_concepts: int, width: int) -> None:
        self.shape = (rows, k, n_concepts, width)
        self.indices, self.values = np.zeros((rows, k), np.int32), np.zeros((rows, k), np.float32)
        self.dots, self.error = np.zeros((rows, k), np.float32), np.zeros((rows, width), np.float32)
        self.offsets = np.zeros(n_concepts + 1, np.int64)
        self.rows, self.slots = np.zeros((2, rows * k), np.int32)

    def sized(self, rows: int, k: int, n_concepts: int, width: int) -> _Batch:
        shape = (rows, k, n_concepts, width)
        return self if self.shape == shape else _Batch(*shape)

    def residual(self, dictionary: np.ndarray, target: np.ndarray) -> tuple[float, float]:
        """error = h_hat - target and its products with the active atoms. -> (sum of squares, sum of codes)."""
        codes = (self.indices, self.values)
        parts = over_rows(kernels.residual, len(target), *codes, dictionary, target, self.error, self.dots, grain=64)
        return float(sum(p[0] for p in parts)), float(sum(p[1] for p in parts))

    def gradients(self, x: np.ndarray, scale: float, l1: float, out: tuple[np.ndarray, ...]) -> float:
        """Fill the gradient rows of (dictionary, weight, bias) of the concepts that fired -> squared norm."""
        n_concepts = len(self.offsets) - 1
        kernels.by_concept(self.indices, self.values, n_concepts, self.offsets, self.rows, self.slots)
        flat = (self.offsets, self.rows, self.slots, self.values.ravel(), self.dots.ravel(), self.error)
        return float(sum(over_rows(kernels.gradients, n_concepts, *flat, x, scale, l1, *out, grain=64)))


def _squares(arrays: tuple[np.ndarray, ...], rows: np.ndarray) -> float:
    return sum(float(np.square(a[rows], dtype=np.float64).sum()) for a in arrays)
