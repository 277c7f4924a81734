"""Matrix products of float32 rows on a chosen device."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.errors import RetrievalError


class Products:
    """left (b, D) times right (c, D) transposed -> (b, c) float32. `right` stays on the device between calls.

    Products run in float32 proper: TF32 would be a hundred times less exact than the bound of `similarities` assumes.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._torch: Any = None if device == "cpu" else _torch_for(device)
        self._kept: tuple[np.ndarray, Any] | None = None

    def __call__(self, left: np.ndarray, right: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Into `out`, whose first b * c elements are used (a flat float32 buffer that callers reuse)."""
        result = out[: len(left) * len(right)].reshape(len(left), len(right))
        if self._torch is None:
            return np.matmul(left, right.T, out=result)
        if self._kept is None or self._kept[0] is not right:
            self._kept = (right, self._on_device(right))
        precision = self._torch.get_float32_matmul_precision()
        self._torch.set_float32_matmul_precision("highest")
        try:
            result[:] = (self._on_device(left) @ self._kept[1].T).cpu().numpy()
        finally:
            self._torch.set_float32_matmul_precision(precision)
        return result

    def _on_device(self, array: np.ndarray) -> Any:
        source = array if array.flags.writeable else array.copy()  # torch warns about read-only memory maps
        return self._torch.from_numpy(source).to(self.device)


def _torch_for(device: str) -> Any:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        raise RetrievalError(
            f"Device {device!r} cannot be used here ({str(error).splitlines()[0]}); expected 'cpu' or a device of this "
            "machine such as 'cuda': choose another device."
        ) from error
    return torch
