"""Rows that go through the model together, how many of them, and how to split them when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.models.layouts import PictureTokens
from analysis.models.pixels import Pixels
from analysis.models.token_rows import Row

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """Rows that go through the model together.

    positions: place of each row among the samples asked for; ids, mask: (B, L) tensors; roles: (B, L) int8, PAD where
    there is no token; picture_rows: which row each picture of `pixels` belongs to, rising.
    """

    rows: list[Row]
    positions: list[int]
    ids: torch.Tensor
    mask: torch.Tensor
    roles: np.ndarray
    pixels: Pixels | None
    picture_rows: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_tokens(self) -> int:
        """Size with padding, of the longer side for a dual encoder."""
        per_picture = 0 if self.pixels is None else max(map(len, self.pixels.pictures))
        return len(self) * max(self.ids.shape[1], per_picture)

    def sample_id(self, row: int) -> str:
        return self.rows[row].sample.sample_id

    def picture(self, row: int) -> PictureTokens | None:
        """The tokens of a row's own picture."""
        if self.pixels is None or row not in self.picture_rows or self.rows[row].frame.dummy:
            return None
        return self.pixels.pictures[self.picture_rows.index(row)]

    def halves(self) -> tuple[Batch, Batch]:
        """The same rows as two batches, for when one does not fit in memory."""
        middle = len(self) // 2
        return self._part(0, middle), self._part(middle, len(self))

    def _part(self, start: int, stop: int) -> Batch:
        first, last = (sum(row < bound for row in self.picture_rows) for bound in (start, stop))
        return Batch(
            self.rows[start:stop],
            self.positions[start:stop],
            self.ids[start:stop],
            self.mask[start:stop],
            self.roles[start:stop],
            self.pixels.part(first, last) if self.pixels else None,
            [row - start for row in self.picture_rows[first:last]],
        )


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of samples grouped by length, longest first, so that each group's padded size stays within `budget`
    tokens (a single longer sample makes a group of its own)."""
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable").tolist()
    group: list[int] = []
    for place in order:
        if group and max(lengths[group[0]], 1) * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(place)
    if group:
        yield group
