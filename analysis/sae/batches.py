"""Training data as numbered batches, the same ones after a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from analysis.errors import DataError

Data = np.ndarray | Iterable[np.ndarray] | Callable[[int], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Batches:
    """Where batches come from.

    An array (N, D), memory maps included, is shuffled anew in every epoch from (seed, epoch) and cut into batches; a
    last batch that is not full is left out. Anything else is taken as it comes, one batch an item: an iterable that
    can be gone through once per epoch, or a function of the epoch's number that gives such an iterable.
    """

    data: Data
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if isinstance(self.data, np.ndarray) and (self.data.ndim != 2 or not len(self.data)):
            raise DataError(f"Training data has shape {self.data.shape}; expected (N, D) with at least one row.")

    def sample(self) -> np.ndarray:
        """Some thousand rows at most, for the start and for telling two data sets apart."""
        if isinstance(self.data, np.ndarray):
            at = np.unique(np.linspace(0, len(self.data) - 1, 4096).astype(np.int64))
            rows = _batch(self.data[at])
        else:
            first = next(iter(self._epoch(0)), None)
            if first is None:
                raise DataError("Training data has no batch; expected an iterable of arrays (B, D).")
            rows = _batch(first)
        if not np.isfinite(rows).all():
            raise DataError("Training data holds NaN or infinity; expected finite vectors: look for them by sample.")
        return rows

    def identity(self) -> str:
        sample = self.sample()
        shape = self.data.shape if isinstance(self.data, np.ndarray) else ()
        return hashlib.sha256(f"{shape} {sample.shape}".encode() + sample.tobytes()).hexdigest()

    def per_epoch(self) -> int | None:
        """Number of batches in an epoch; None if the iterable does not say."""
        if isinstance(self.data, np.ndarray):
            return max(len(self.data) // self.batch_size, 1)
        length = getattr(self.data, "__len__", None)
        return length() if length is not None else None

    def numbered(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """(number, batch (B, D) float32) for first <= number < last, over as many epochs as that takes."""
        number, epoch = 0, 0
        known = self.per_epoch()
        if known:
            epoch = first // known
            number = epoch * known
        while number < last:
            before = number
            for batch in self._epoch(epoch):
                if number >= first:
                    yield number, _batch(batch)
                number += 1
                if number >= last:
                    return
            if number == before:
                raise DataError(
                    f"Training data ended after {number} of {last} batches; expected an array, a list of batches or a "
                    "function that starts again, because a generator can be gone through only once."
                )
            epoch += 1

    def _epoch(self, epoch: int) -> Iterable[np.ndarray]:
        if isinstance(self.data, np.ndarray):
            return self._shuffled(self.data, epoch)
        return self.data(epoch) if callable(self.data) else self.data

    def _shuffled(self, array: np.ndarray, epoch: int) -> Iterator[np.ndarray]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(array))
        size = min(self.batch_size, len(array))
        for lo in range(0, len(array) - size + 1, size):
            yield array[np.sort(order[lo : lo + size])]  # ascending: kind to memory maps, and order within is no matter


def _batch(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)
