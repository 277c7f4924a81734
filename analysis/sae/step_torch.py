"""The training step of `step.py` in torch operations, for GPUs: the same mathematics, no atomics, so it is repeatable.

Imports torch: import this module inside functions only.
"""

from __future__ import annotations

import numpy as np
import torch

from analysis.sae.step import BETA1, BETA2, EPSILON, Outcome, Rule, State

GATHERED_VALUES = 2**28  # of atoms gathered at a time, 1 GB


class TorchStep:
    """Holds a State's arrays on a device; `pull` writes them back into it."""

    def __init__(self, state: State, rule: Rule, device: str) -> None:
        self.state, self.rule, self.device = state, rule, torch.device(device)
        for name, array in state.arrays().items():
            setattr(self, name, torch.from_numpy(array).to(self.device, copy=True))

    encoder_weight: torch.Tensor
    encoder_bias: torch.Tensor
    dictionary: torch.Tensor
    weight_first: torch.Tensor
    weight_second: torch.Tensor
    bias_first: torch.Tensor
    bias_second: torch.Tensor
    dictionary_first: torch.Tensor
    dictionary_second: torch.Tensor
    quiet: torch.Tensor

    @torch.no_grad()
    def __call__(self, x_array: np.ndarray, lr: float) -> Outcome:
        rule = self.rule
        x = torch.from_numpy(x_array).to(self.device)
        scale, n_concepts = 2 / x.numel(), len(self.dictionary)
        whole = _Pass(x, x, self.encoder_weight, self.encoder_bias, self.dictionary, rule.top_k)
        gradients = whole.gradients(scale, rule.l1 / (len(x) * n_concepts))
        mse = whole.error.square().mean()
        loss = mse + rule.l1 * whole.values.sum() / (len(x) * n_concepts)
        if rule.aux > 0:
            dead = torch.nonzero(self.quiet >= rule.dead_after).squeeze(1)
            if len(dead):
                parts = (self.encoder_weight[dead], self.encoder_bias[dead], self.dictionary[dead])
                extra = _Pass(x, -whole.error, *parts, rule.aux_k)
                for gradient, part in zip(gradients, extra.gradients(rule.aux * scale, 0.0), strict=True):
                    gradient[dead] += part  # `dead` holds each concept once: no two additions meet
                loss = loss + rule.aux * extra.error.square().mean()
        self.quiet += 1
        self.quiet[whole.fired] = 0
        self._update(gradients, lr)
        active = (whole.values > 0).sum() / len(x)
        r2 = 1 - mse / (x.var(correction=0) + 1e-6)
        return Outcome(*torch.stack([loss, mse, active, r2]).tolist())

    def pull(self) -> State:
        for name, array in self.state.arrays().items():
            array[...] = getattr(self, name).cpu().numpy()
        return self.state

    def quiet_steps(self) -> np.ndarray:
        return self.quiet.cpu().numpy()

    def _update(self, gradients: tuple[torch.Tensor, ...], lr: float) -> None:
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        clip = torch.clamp(self.rule.clip / (norm + 1e-6), max=1.0) if self.rule.clip else torch.ones_like(norm)
        self.state.steps += 1
        steps = self.state.steps
        rate, correction = lr / (1 - BETA1**steps), 1 / float(np.sqrt(1 - BETA2**steps))
        slots = (
            (self.dictionary, self.dictionary_first, self.dictionary_second),
            (self.encoder_weight, self.weight_first, self.weight_second),
            (self.encoder_bias, self.bias_first, self.bias_second),
        )
        for gradient, (parameter, first, second) in zip(gradients, slots, strict=True):
            gradient.mul_(clip)
            first.lerp_(gradient, 1 - BETA1)
            second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            parameter.addcdiv_(first, second.sqrt().mul_(correction).add_(EPSILON), value=-rate)
        self.dictionary.div_(torch.linalg.vector_norm(self.dictionary, dim=1, keepdim=True).add_(1e-8))


class _Pass:
    """Codes of x by k of the given concepts, their error against a target, and the gradients."""

    def __init__(
        self,
        x: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        dictionary: torch.Tensor,
        k: int,
    ) -> None:
        self.x, self.dictionary, self.k = x, dictionary, min(k, len(dictionary))
        top = torch.addmm(bias, x, weight.T).topk(self.k, dim=1, sorted=False)
        self.indices, self.values = top.indices, top.values.relu_()
        self.error = torch.nn.functional.embedding_bag(
            self.indices, dictionary, per_sample_weights=self.values, mode="sum"
        ).sub_(target)

    @property
    def fired(self) -> torch.Tensor:
        return self.indices[self.values > 0]

    def gradients(self, scale: float, l1: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(dictionary, weight, bias) gradients: sums over the rows of a concept, sorted by concept first."""
        dots = torch.empty_like(self.values)
        step = max(GATHERED_VALUES // (self.k * self.x.shape[1]), 1)
        for lo in range(0, len(self.x), step):
            rows = slice(lo, lo + step)
            dots[rows] = torch.bmm(self.dictionary[self.indices[rows]], self.error[rows].unsqueeze(2)).squeeze(2)
        slopes = (scale * dots + l1) * (self.values > 0)
        concepts, order = self.indices.flatten().sort(stable=True)
        n_concepts = len(self.dictionary)
        edges = torch.arange(n_concepts + 1, device=self.x.device)
        pointers, rows_of = torch.searchsorted(concepts, edges), order // self.k

        def summed(weights: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
            shape = (n_concepts, len(self.x))
            matrix = torch.sparse_csr_tensor(pointers, rows_of, weights.flatten()[order], shape, check_invariants=False)
            return matrix @ vectors

        ones = torch.ones(len(self.x), 1, device=self.x.device)
        return summed(scale * self.values, self.error), summed(slopes, self.x), summed(slopes, ones).squeeze(1)
