"""Embedding rows as retrieval reads them: of unit length, finite, and either an array, a memory map or several blocks
that need not fit into memory together."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from analysis.errors import RetrievalError

if TYPE_CHECKING:
    from analysis.retrieval.ranking.transforms import Transform

RowSource: TypeAlias = "np.ndarray | Sequence[np.ndarray]"  # (N, D), or blocks (n_i, D) that follow each other

_CACHED = 1 << 17  # numbers worked on at once, 1 MB in float64: several passes over a block read memory once
LARGE = 20_000_000  # numbers from which on numba's speed is worth the second that its import takes
VOID = 1e-6  # a row that keeps less than this share of its length has no direction left, only rounding errors


def true_cells(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) of where a table of truth values (n, m) holds, row by row: numpy's `nonzero`, which for two axes takes
    ten times as long as for one."""
    row, column = np.divmod(np.flatnonzero(table), max(table.shape[1], 1))
    return row, column


class Rows:
    """Read access to (N, D) rows without joining or copying them."""

    def __init__(self, source: RowSource, *, what: str = "rows") -> None:
        parts = [source] if isinstance(source, np.ndarray) else list(source)
        if not parts or any(part.ndim != 2 or part.shape[1] != parts[0].shape[1] for part in parts):
            shapes = [part.shape for part in parts[:4]]
            raise RetrievalError(f"The {what} have shapes {shapes}; expected arrays (n, D) of one width D.")
        self.parts = parts
        self.what = what
        self.starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def width(self) -> int:
        return int(self.parts[0].shape[1])

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*{part.dtype for part in self.parts})

    def spans(self, size: int) -> Iterator[tuple[int, int]]:
        """Consecutive ranges [start, stop) of at most `size` rows, none across the border of two blocks."""
        for first, last in zip(self.starts[:-1], self.starts[1:], strict=True):
            for start in range(int(first), int(last), size):
                yield start, min(start + size, int(last))

    def read(self, start: int, stop: int, dtype: type[np.floating]) -> np.ndarray:
        """Rows of one span as a contiguous array; a view where nothing has to be converted."""
        part = int(np.searchsorted(self.starts, start, side="right")) - 1
        offset = int(self.starts[part])
        return np.ascontiguousarray(self.parts[part][start - offset : stop - offset], dtype=dtype)

    def take(self, ids: np.ndarray, dtype: type[np.floating] = np.float64) -> np.ndarray:
        """Rows in any order, (len(ids), D)."""
        if len(self.parts) == 1:
            return np.asarray(self.parts[0][ids], dtype=dtype)
        result = np.empty((len(ids), self.width), dtype)
        part_of = np.searchsorted(self.starts, ids, side="right") - 1
        for part in np.unique(part_of):
            chosen = part_of == part
            result[chosen] = self.parts[part][ids[chosen] - self.starts[part]]
        return result


EXACT_ELEMENTS = 1 << 25  # rows of up to this many numbers a side are kept in float64: 256 MB


@dataclass(frozen=True)
class Side:
    """Unit rows of one side, (n, D), and which of them have no direction and are zero, (n,)."""

    rows: np.ndarray
    void: np.ndarray

    @staticmethod
    def of(h: np.ndarray) -> Side:
        return Side(*unit_rows(h, dtype=np.float64 if h.size <= EXACT_ELEMENTS else np.float32))

    def through(self, transform: Transform) -> Side:
        rows, void = transform(self.rows)
        void = void | self.void
        if self.void.any():
            rows[void] = 0  # a step that adds something must not give a void row a direction
        return Side(rows, void)

    @property
    def live(self) -> np.ndarray:
        return self.rows[~self.void] if self.void.any() else self.rows


@dataclass(frozen=True)
class Moments:
    """Sums over n rows x: total = sum (x - shift), scatter = sum (x - shift)(x - shift)^T."""

    n: int
    shift: np.ndarray
    total: np.ndarray
    scatter: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.shift + self.total / max(self.n, 1)

    @property
    def covariance(self) -> np.ndarray:
        offset = self.total / max(self.n, 1)
        return (self.scatter - self.n * np.outer(offset, offset)) / max(self.n - 1, 1)

    def joined(self, other: Moments) -> Moments:
        """Those of these rows and of others, about this shift."""
        offset = other.shift - self.shift
        crossed = np.outer(other.total, offset)
        scatter = self.scatter + other.scatter + crossed + crossed.T + other.n * np.outer(offset, offset)
        return Moments(self.n + other.n, self.shift, self.total + other.total + other.n * offset, scatter)

    def about(self, point: np.ndarray) -> np.ndarray:
        """sum (x - point)(x - point)^T."""
        offset = self.mean - point
        return self.covariance * max(self.n - 1, 1) + self.n * np.outer(offset, offset)


def unit_rows(
    x: np.ndarray,
    *,
    dtype: type[np.floating] | None = None,
    least: float = 0.0,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(rows of length 1, which rows are void). A row that is no longer than `least` becomes 0 and is reported as void.

    Lengths are computed in float64. `dtype` None keeps the precision of x; `out` takes the rows and may be x itself.
    RetrievalError for NaN or infinity.
    """
    x = np.asarray(x)
    result = np.empty(x.shape, dtype or kept_dtype(x)) if out is None else out
    void = np.zeros(len(x), bool)
    step = max(16, _CACHED // max(x.shape[1], 1))
    scratch = np.empty((min(step, len(x)), x.shape[1]))  # once: new memory for every block costs more than the sums
    for start in range(0, len(x), step):
        block = scratch[: len(x) - start]
        block[:] = x[start : start + step]
        length = np.sqrt(np.einsum("ij,ij->i", block, block))
        if not np.isfinite(length).all():
            row = start + int(np.flatnonzero(~np.isfinite(length))[0])
            raise RetrievalError(
                f"Row {row} of {len(x)} embeddings holds NaN or infinity; "
                "expected finite numbers: embed again in bfloat16 or float32."
            )
        empty = length <= least
        void[start : start + step] = empty
        scale = np.where(empty, 0.0, 1 / np.where(empty, 1.0, length))
        np.multiply(block, scale[:, None], out=result[start : start + step], casting="same_kind")
    return result, void


def kept_dtype(x: np.ndarray) -> np.dtype:
    """The precision in which rows are worked on: their own where it is float32 or float64."""
    return x.dtype if x.dtype in (np.float32, np.float64) else np.dtype(np.float64)


def worth_compiling(n: int, large: int) -> bool:
    """Whether the compiled form is taken for n numbers: more than `large`, or numba is loaded already."""
    return n > large or "numba" in sys.modules


def refuse_void(void: np.ndarray, reason: str) -> None:
    """RetrievalError when any row has lost its direction."""
    if void.any():
        raise RetrievalError(
            f"{int(void.sum())} of {len(void)} rows, first row {int(void.argmax())}, {reason}; "
            "expected rows with a direction: remove fewer dimensions or leave these rows out."
        )
