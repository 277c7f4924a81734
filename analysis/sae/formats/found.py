"""What a reader hands over, and the small things that all readers do with tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from analysis.errors import CheckpointError
from analysis.sae.form import TOP_K, row_norms
from analysis.sae.formats.stand_ins import Array

Tensors = Mapping[str, Any]


@dataclass(frozen=True)
class Foreign:
    """An SAE as its file has it, in the inner form of `form.Sae`; the dictionary's rows have the length that the tool uses.

    top_k: active concepts a vector, as far as the file says (for a rule other than top_k: on average), else None.
    threshold: None where the rule needs one and the file has none. ambiguous: which other class saves the same tensors, so
    that `rule` is a guess; empty where the file says.
    """

    tool: str
    encoder_weight: np.ndarray
    encoder_bias: np.ndarray
    dictionary: np.ndarray
    rule: str = TOP_K
    top_k: int | None = None
    threshold: float | np.ndarray | None = 0.0
    bias: np.ndarray | None = None
    unit_rows: bool = False  # the tool sets rows to length 1 whenever it uses them
    scale: float = 1.0  # multiplies every reconstruction
    ambiguous: str = ""
    notes: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    def norms(self) -> np.ndarray | None:
        """(K,) lengths of the rows as the tool uses them; None where all are 1 in float32."""
        if self.unit_rows:
            return None if self.scale == 1 else np.full(len(self.dictionary), self.scale, np.float32)
        norms = row_norms(self.dictionary) * self.scale
        return None if (np.abs(norms - 1) < 1e-6).all() else norms.astype(np.float32)


def array(name: str, tensors: Tensors, key: str, *, ndim: int) -> np.ndarray:
    """A float32 copy in memory of our own: the memory map ends with the file. name: of the file, for messages."""
    if getattr(tensors[key], "is_quantized", False):
        raise CheckpointError(f"{key} in {name} is quantised; expected the weights as they were trained: save those.")
    if hasattr(tensors[key], "is_floating_point") and not tensors[key].is_floating_point():
        raise CheckpointError(
            f"{key} in {name} holds whole numbers ({str(tensors[key].dtype).removeprefix('torch.')}), as quantised weights do; "
            "expected the weights as they were trained: save those."
        )
    value = _plain(tensors[key])
    if not isinstance(value, np.ndarray):
        raise CheckpointError(f"{key} in {name} is a {type(value).__name__}; expected a tensor.")
    found = np.array(value, np.float32, order="C")
    if found.ndim != ndim:
        raise CheckpointError(
            f"{key} in {name} has shape {found.shape}; expected {ndim} dimensions: of one layer's SAE."
        )
    if not np.isfinite(found).all():
        raise CheckpointError(f"{key} in {name} holds NaN or infinity; the training it comes from diverged.")
    return found


def oriented(matrix: np.ndarray, n_concepts: int) -> np.ndarray:
    """(K, D) of a matrix that is that or its transpose: tools differ, and one tool between its versions. A square one is
    taken as it is."""
    return matrix if matrix.shape[0] == n_concepts else np.ascontiguousarray(matrix.T)


def number(value: Any) -> float | None:
    """A number, whatever holds it; None where there is none."""
    value = _plain(value)
    if isinstance(value, np.ndarray):
        return float(value.reshape(-1)[0]) if value.size == 1 else None
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None


def whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None or found != found else int(found)


def above(threshold: Any) -> Any:
    """The threshold that s has to reach where the tool wants it exceeded (s > t): the next float32. What is not positive is
    not active anyway."""
    t = np.asarray(threshold, np.float32)
    moved = np.where(t > 0, np.nextafter(t, np.float32(np.inf)), np.float32(0))
    return moved if moved.ndim else float(moved)


def missing(name: str, tensors: Tensors, keys: tuple[str, ...], tool: str) -> None:
    """CheckpointError where a tensor of the layout is not there."""
    absent = [key for key in keys if key not in tensors]
    if absent:
        raise CheckpointError(
            f"{name} lacks {', '.join(absent)} (found: {', '.join(list(tensors)[:6])}); expected the whole state dict of "
            f"an SAE of {tool}."
        )


def _plain(value: Any) -> Any:
    if hasattr(value, "detach"):
        return value.detach().float().numpy()
    return value.values if isinstance(value, Array) else value
