"""The k largest of ReLU(x W^T + b) of a batch on the CPU, exact in float32, without ever holding the whole batch x K product.

On processors with bfloat16 arithmetic the product is computed in bfloat16 (4-5 times faster) together with a bound on
its error; the entries that could belong to the k largest within that bound, about 1.5 k, are computed again in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BLOCK_ROWS = 1024  # the block of products stays near the cache: 15 MB at K = 7168 in bfloat16
WORTH_BFLOAT16 = 2**19  # size of the encoder from which the faster product outweighs the bookkeeping


class TopK:
    """Holds the encoder and the reused buffers. Call `refresh` after the weights were changed in place."""

    def __init__(
        self,
        weight: np.ndarray,
        bias: np.ndarray,
        k: int,
        *,
        bfloat16: bool | None = None,
        thresholds: np.ndarray | None = None,
    ) -> None:
        """weight (K, D) float32 C-contiguous, bias (K,) float32; bfloat16=None: where that is faster. thresholds (K,): scores
        below do not compete; in float32 only."""
        self.weight, self.bias, self.k, self.thresholds = weight, bias, min(k, weight.shape[0]), thresholds
        if thresholds is not None:
            bfloat16 = False
        if bfloat16 is None:
            bfloat16 = weight.size >= WORTH_BFLOAT16 and has_bfloat16()
        self.bfloat16 = bfloat16
        self._product = np.empty(0, np.uint16 if self.bfloat16 else np.float32)
        if self.bfloat16:
            self._weight_rounded = _Rounded(*weight.shape)
            self._x_rounded = _Rounded(BLOCK_ROWS, weight.shape[1])
            self.refresh()

    def refresh(self) -> None:
        if self.bfloat16:
            self._weight_rounded.set(self.weight)

    def __call__(self, x: np.ndarray, indices: np.ndarray, values: np.ndarray) -> None:
        """x (B, D) float32 C-contiguous -> indices (B, k) int32, values (B, k) float32, unordered; value 0 = unused."""
        for lo in range(0, len(x), BLOCK_ROWS):
            hi = min(lo + BLOCK_ROWS, len(x))
            self._block(x[lo:hi], indices[lo:hi], values[lo:hi])

    def _block(self, x: np.ndarray, indices: np.ndarray, values: np.ndarray) -> None:
        from analysis.jit import over_rows
        from analysis.sae import kernels

        shape = (len(x), self.weight.shape[0])
        if self._product.size < shape[0] * shape[1]:
            self._product = np.empty(shape[0] * shape[1], self._product.dtype)
        product = self._product[: shape[0] * shape[1]].reshape(shape)
        if not self.bfloat16:
            np.matmul(x, self.weight.T, out=product)
            bias = self.bias
            if self.thresholds is not None:
                over_rows(kernels.drop_below, len(x), product, bias, self.thresholds, grain=64)
                bias = np.zeros_like(bias)
            over_rows(kernels.select_float32, len(x), product, bias, self.k, indices, values, grain=64)
            return
        import torch

        rounded, weight = self._x_rounded, self._weight_rounded
        rounded.set(x)
        torch.mm(_tensor(rounded.bits[: len(x)]), _tensor(weight.bits).T, out=_tensor(product))
        over_rows(
            kernels.select_bfloat16,
            *(len(x), product, self.bias, x, self.weight),
            *(rounded.norm, rounded.rest, weight.norm, weight.rest),
            *(self.k, indices, values),
            grain=64,
        )


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    import torch

    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


class _Rounded:
    """A matrix in bfloat16 with, per row, its norm and the norm of the part that rounding cut off."""

    def __init__(self, rows: int, width: int) -> None:
        self.bits = np.empty((rows, width), np.uint16)
        self.norm = np.empty(rows, np.float32)
        self.rest = np.empty(rows, np.float32)

    def set(self, matrix: np.ndarray) -> None:
        from analysis.jit import over_rows
        from analysis.sae import kernels

        over_rows(kernels.round_to_bfloat16, len(matrix), matrix, self.bits, self.norm, self.rest)


def _tensor(bits: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
