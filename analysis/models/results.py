"""What a backbone hands back: embeddings of many samples, the token states of one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from analysis.data.defects import Defects


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of N samples in the order they were given.

    vectors: variant -> (N, D) float32, not normalised; defined: variant -> (N,) bool, False where the variant says
    nothing of its own about a sample and equals the mean. A skipped sample has NaN rows and False. skipped: place ->
    reason; truncated: places of samples whose text was cut; defects: the same two, counted; role_counts: (N, 5) int32,
    pooled tokens by Role.
    """

    vectors: dict[str, np.ndarray]
    defined: dict[str, np.ndarray]
    role_counts: np.ndarray
    skipped: dict[int, str] = field(default_factory=dict)
    truncated: tuple[int, ...] = ()
    defects: Defects = field(default_factory=Defects)

    def __len__(self) -> int:
        return len(self.role_counts)


@dataclass(frozen=True)
class TokenStates:
    """The tokens of one sample that can be pooled.

    states: (L, D) float32; roles: (L,) int8 of Role; ids: (L,) token ids (-1 for a dual encoder's patches); strings: what
    each token stands for ("" for patches); grid: (rows, columns) of the finest view of the whole picture; cells: (rows *
    columns,) positions of its tokens, row by row (of a picture read in tiles they are not consecutive, and further image
    tokens show the whole picture coarsely); box: the part of the picture under the grid (left, top, right, bottom; shares of
    its size); pooled: (D,) embedding of a dual encoder, None for an MLLM, whose embedding
    is a mean of `states`.
    """

    states: np.ndarray
    roles: np.ndarray
    ids: np.ndarray
    strings: list[str]
    grid: tuple[int, int] | None
    truncated: bool = False
    pooled: np.ndarray | None = None
    cells: np.ndarray | None = None
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    def __len__(self) -> int:
        return len(self.roles)
