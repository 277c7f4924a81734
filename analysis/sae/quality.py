"""How well an SAE reconstructs what is analysed. Record it, always: concepts of a poor SAE mean little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.errors import DataError
from analysis.sae.codes import Codes
from analysis.sae.encode import decode
from analysis.sae.form import TOP_K, Sae
from analysis.sae.rules import active

R2_WARN = 0.8  # below, removal by concepts was no better than random removal on the trial models (demo-feasibility.md)
BLOCK_VALUES = 2**23  # float64 values held at a time, 64 MB


@dataclass(frozen=True)
class Quality:
    """Reconstruction of n embeddings.

    r2_per_dimension: 1 - sum (h - h_hat)^2 / sum (h - mean of its dimension)^2, "fraction of variance explained".
    r2_scalar_mean: the same against one mean over all dimensions, as overcomplete reports it; flatters embeddings
    with a large common vector. Both are at most 1, can be negative, and are NaN where nothing varies.
    l0: mean number of active concepts a row. dead_share: share of concepts that no row activates. cut_share: share of the
    activations that the rule of the SAE lets pass and the width of the codes (top_k) does not hold; 0 under rule top_k.
    """

    r2_per_dimension: float
    r2_scalar_mean: float
    l0: float
    dead_share: float
    n: int
    cut_share: float = 0.0


def reconstruction(sae: Sae, h: np.ndarray, codes: Codes) -> Quality:
    """Quality of h_hat = decode(codes) for embeddings h (N, D), in blocks, float64 sums. N = 0: NaN, n = 0."""
    if h.shape != (len(codes), sae.width) or codes.n_concepts != sae.n_concepts:
        raise DataError(
            f"Embeddings {h.shape} and {len(codes)} codes over {codes.n_concepts} concepts do not belong to an SAE of "
            f"({sae.n_concepts}, {sae.width}); expected codes that this SAE made from these embeddings."
        )
    n = len(codes)
    step = max(BLOCK_VALUES // sae.width, 1)
    blocks = [slice(lo, min(lo + step, n)) for lo in range(0, n, step)]
    mean = sum((h[rows].sum(axis=0, dtype=np.float64) for rows in blocks), np.zeros(sae.width)) / max(n, 1)
    error = spread = spread_scalar = 0.0
    cut = 0
    fired = np.zeros(sae.n_concepts, bool)
    for rows in blocks:
        block = h[rows].astype(np.float64)
        error += float(np.square(block - decode(sae, codes[rows])).sum())
        spread += float(np.square(block - mean).sum())
        spread_scalar += float(np.square(block - mean.mean()).sum())
        fired[codes.indices[rows][codes.values[rows] > 0]] = True
        cut += _cut(sae, block, codes.values[rows])
    held = int(np.count_nonzero(codes.values > 0))
    return Quality(
        r2_per_dimension=_r2(error, spread),
        r2_scalar_mean=_r2(error, spread_scalar),
        l0=held / n if n else float("nan"),
        dead_share=float(1 - fired.mean()),
        n=n,
        cut_share=cut / max(held + cut, 1),
    )


def _cut(sae: Sae, block: np.ndarray, values: np.ndarray) -> int:
    """Activations of a block that its codes have no room for: only rows that fill every slot can have any."""
    if sae.rule == TOP_K:
        return 0
    full = np.flatnonzero((values > 0).all(axis=1))
    counts = active(sae, block[full].astype(np.float32))
    return int(np.maximum(counts - values.shape[1], 0).sum())


def _r2(error: float, spread: float) -> float:
    return 1 - error / spread if spread > 0 else float("nan")
