"""One training step of a TopK SAE: ours against overcomplete with the paper's loop and against the fastest peer.

Each case runs in a process of its own whose allocator is tuned (child.TUNED_ALLOCATOR): that helps the peers, which
allocate batch x K arrays in every step, and leaves ours as it is, which reuses its buffers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from analysis.bench.child import TUNED_ALLOCATOR, in_child
from analysis.bench.measuring import Row, compare, peak_memory_mb
from analysis.bench.synthetic import activations

if TYPE_CHECKING:
    from analysis.sae.step import State

SIZES = ((512, 7168), (1024, 16384))
QUICK = (32, 256)
TOP_K, BATCH, LR, L1, CLIP = 50, 4096, 8e-4, 1e-2, 1.0  # the paper's, appendix A
PEER = "EleutherAI sparsify (eai-sparsify)"  # fastest of six peers on a CPU
ENVIRONMENT = TUNED_ALLOCATOR | {"SPARSIFY_DISABLE_TRITON": "1"}  # its Triton kernels need a GPU

Step = Callable[[], float]  # one update on the next batch -> its loss


def run(quick: bool = False) -> Iterator[Row]:
    for peer in ("overcomplete_tuned", "best_peer"):
        for width, n_concepts in SIZES:
            case = f"step_d{width}_k{n_concepts}_vs_{peer}"
            if peer == "best_peer" and find_spec("sparsify") is None:
                note = "peer not installed: uv pip install --python .venv/bin/python -r requirements-bench.txt"
                yield Row("sae", case, None, PEER, note=note)
                continue
            yield in_child(
                __name__, "step_row", environment=ENVIRONMENT, case=case, peer=peer, quick=quick,
                width=QUICK[0] if quick else width, n_concepts=QUICK[1] if quick else n_concepts,
            )  # fmt: skip


def step_row(case: str, peer: str, width: int, n_concepts: int, quick: bool) -> Row:
    from analysis.sae.topk import has_bfloat16

    batch, top_k = (256, 8) if quick else (BATCH, TOP_K)
    x = activations(4 * batch, width, seed=1)
    batches = [np.ascontiguousarray(x[start : start + batch]) for start in range(0, len(x), batch)]
    weights = _start(width, n_concepts)
    _ours(_state(*_start(32, 256)), [activations(64, 32)], 8, bfloat16=has_bfloat16())()  # compiles, imports torch
    state, held = _state(*weights), []

    def begin() -> None:
        held.append(_ours(state, batches, top_k))
        held[0]()

    peak = peak_memory_mb(begin)
    mine, other = held[0], (_overcomplete if peer == "overcomplete_tuned" else _sparsify)(*weights, batches, top_k)
    other()
    losses: dict[str, list[float]] = {"ours": [], "baseline": []}

    def ours() -> None:
        losses["ours"].append(mine())

    def baseline() -> None:
        losses["baseline"].append(other())

    row = compare(
        "sae", case, ours, baseline,
        name="overcomplete TopKSAE, the paper's loop" if peer == "overcomplete_tuned" else PEER,
        repeats=3 if quick or width > 512 else 5, peak_mb=peak,
    )  # fmt: skip
    note = f"batch {batch}, top_k {top_k}, allocator tuned; peak holds gradients and buffers, not weights and moments"
    if peer == "overcomplete_tuned":
        off = max(abs(a - b) / b for a, b in zip(losses["ours"], losses["baseline"], strict=True))
        if off > 1e-3:
            raise RuntimeError(f"ours and overcomplete disagree: {losses}")
        note += f"; losses agree to {off:.0e}"
    else:
        note += "; its own loss and bias: compare speed only"
    return replace(row, note=f"quick: D {width}, K {n_concepts}; {note}" if quick else note)


def _start(width: int, n_concepts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(encoder weight, encoder bias, dictionary with unit rows), random."""
    rng = np.random.default_rng(0)
    weight = rng.uniform(-1, 1, (n_concepts, width)).astype(np.float32) / np.float32(np.sqrt(width))
    atoms = rng.standard_normal((n_concepts, width), dtype=np.float32)
    return weight, np.zeros(n_concepts, np.float32), atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def _state(weight: np.ndarray, bias: np.ndarray, atoms: np.ndarray) -> State:
    from analysis.sae.step import State

    state = State.fresh(weight, bias, atoms)
    for array in state.arrays().values():
        array += 0  # touches the pages of the zeros, which would otherwise count as memory of the first step
    return state


def _ours(state: State, batches: list[np.ndarray], top_k: int, *, bfloat16: bool | None = None) -> Step:
    from analysis.sae.step import CpuStep, Rule

    step, data = CpuStep(state, Rule(top_k, L1, CLIP), bfloat16=bfloat16), itertools.cycle(batches)
    return lambda: step(next(data), LR).loss


def _overcomplete(
    weight: np.ndarray, bias: np.ndarray, atoms: np.ndarray, batches: list[np.ndarray], top_k: int
) -> Step:
    """The loop that the released checkpoints were trained with: loss, clipping, Adam, and R2, L0, dead codes tracked."""
    import torch
    from overcomplete.metrics import l0_eps, r2_score
    from overcomplete.sae import TopKSAE
    from overcomplete.sae.trackers import DeadCodeTracker

    model = TopKSAE(weight.shape[1], nb_concepts=len(weight), top_k=top_k, device="cpu")
    with torch.no_grad():
        linear = model.encoder.final_block[0]
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
        model.dictionary._weights.copy_(torch.from_numpy(atoms))
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    tracker, data = DeadCodeTracker(len(weight), "cpu"), itertools.cycle([torch.from_numpy(x) for x in batches])

    def step() -> float:
        x = next(data)
        optimizer.zero_grad()
        _, z, x_hat = model(x)
        model.get_dictionary()  # the loop hands it to the loss, which does not use it
        loss = (x - x_hat).square().mean() + L1 * z.abs().mean()
        tracker.update(z)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        r2_score(x, x_hat).item()
        l0_eps(z, 0).sum().item()
        return loss.item()

    return step


def _sparsify(weight: np.ndarray, bias: np.ndarray, atoms: np.ndarray, batches: list[np.ndarray], top_k: int) -> Step:
    """sparsify's local training step (its Trainer without the language model), with Adam and the clipping of the paper."""
    import torch
    from sparsify import SparseCoder, SparseCoderConfig

    n_concepts, width = weight.shape
    model = SparseCoder(width, SparseCoderConfig(num_latents=n_concepts, k=top_k))
    with torch.no_grad():
        model.encoder.weight.copy_(torch.from_numpy(weight))
        model.encoder.bias.copy_(torch.from_numpy(bias))
        model.W_dec.copy_(torch.from_numpy(atoms))
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    fired, data = torch.zeros(n_concepts, dtype=torch.bool), itertools.cycle([torch.from_numpy(x) for x in batches])

    def step() -> float:
        model.set_decoder_norm_to_unit_norm()
        out = model(next(data))
        out.fvu.backward()
        fired[out.latent_indices.flatten()] = True
        model.remove_gradient_parallel_to_decoder_directions()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return out.fvu.item()

    return step
