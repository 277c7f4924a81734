"""Concepts on single tokens: how strongly a sample has one, by a chosen aggregation; what fires on a token; who else has it.

All samples with token codes are laid end to end once (`lay_out`); every question is then a mask over their tokens. Set apart
are tokens that say nothing of the sample: what the template adds, the instruction, and the first token of the sequence, on
which many models spike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

_PAD, _TEMPLATE, _INSTRUCTION = 0, 1, 4  # analysis.models.pooling.Role, which is not imported here
MAX, MEAN, POOLED = "max token", "mean of tokens", "pooled"
AGGREGATIONS = (MAX, MEAN, POOLED)
SPIKE = 1.5  # times the strongest token of content from which a token set apart is called a spike


class HasCodes(Protocol):
    @property
    def indices(self) -> np.ndarray: ...
    @property
    def values(self) -> np.ndarray: ...


class View(Protocol):
    """A sample with the codes of its tokens, see analysis.store.TokenView."""

    @property
    def row(self) -> int: ...
    @property
    def roles(self) -> np.ndarray: ...
    @property
    def codes(self) -> HasCodes: ...


@dataclass(frozen=True)
class Tokens:
    """The tokens (T) of S samples, padding left out: which sample (its position among the views), where in it, whether set
    apart, codes (T, k); rows (S,) of the samples in the store."""

    rows: np.ndarray
    sample: np.ndarray
    position: np.ndarray
    apart: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    def activation(self, concept: int) -> np.ndarray:
        """(T,) of one concept on every token."""
        return np.where(self.indices == concept, self.values, 0).max(axis=1, initial=0)


@dataclass(frozen=True)
class Spike:
    """The loudest token of a concept among those set apart (index into `Tokens`), and its strength beside the loudest of the
    content."""

    token: int
    value: float
    content: float

    @property
    def times(self) -> float:
        return self.value / self.content if self.content > 0 else float("inf")


def set_apart(roles: np.ndarray) -> np.ndarray:
    """(L,) bool: template, instruction and the first token that is no padding."""
    roles = np.asarray(roles)
    apart = (roles == _TEMPLATE) | (roles == _INSTRUCTION)
    read = np.flatnonzero(roles != _PAD)
    if len(read):
        apart[read[0]] = True
    return apart


def lay_out(views: Sequence[View]) -> Tokens:
    parts = []
    for slot, view in enumerate(views):
        read = np.flatnonzero(np.asarray(view.roles) != _PAD)
        parts.append(
            (
                np.full(len(read), slot), read, set_apart(view.roles)[read], np.asarray(view.codes.indices)[read],
                np.asarray(view.codes.values)[read],
            )
        )  # fmt: skip
    rows = np.asarray([view.row for view in views], np.int64)
    if not parts:
        empty = np.empty(0, np.int64)
        return Tokens(rows, empty, empty, np.empty(0, bool), np.empty((0, 1), np.int32), np.empty((0, 1), np.float32))
    return Tokens(rows, *(np.concatenate(column) for column in zip(*parts, strict=True)))


def strengths(tokens: Tokens, concept: int, how: str, *, everything: bool) -> np.ndarray:
    """(S,) strength of a concept in every sample: its strongest token (MAX) or the mean over its tokens (MEAN); everything:
    also of those set apart."""
    activation = tokens.activation(concept)
    counted = np.ones(len(activation), bool) if everything else ~tokens.apart
    out = np.zeros(len(tokens.rows))
    if how == MAX:
        np.maximum.at(out, tokens.sample[counted], activation[counted])
        return out
    total = np.bincount(tokens.sample[counted], activation[counted], len(out))
    return total / np.maximum(np.bincount(tokens.sample[counted], minlength=len(out)), 1)


def spike(tokens: Tokens, concept: int) -> Spike | None:
    """Where a concept is far louder on a token set apart than on all content; None where it is not."""
    activation = tokens.activation(concept)
    if not (activation[tokens.apart] > 0).any():
        return None
    loudest = int(np.flatnonzero(tokens.apart)[activation[tokens.apart].argmax()])
    found = Spike(loudest, float(activation[loudest]), float(activation[~tokens.apart].max(initial=0)))
    return found if found.times >= SPIKE else None


def concepts_at(tokens: Tokens, row: int, position: int) -> list[tuple[int, float]]:
    """(concept, activation) on one token, the strongest first; [] for a token that is not kept."""
    at = np.flatnonzero((tokens.rows[tokens.sample] == row) & (tokens.position == position))
    if not len(at):
        return []
    values, ids = tokens.values[at[0]], tokens.indices[at[0]]
    return [(int(ids[slot]), float(values[slot])) for slot in np.argsort(-values, kind="stable") if values[slot] > 0]


def elsewhere(tokens: Tokens, concept: int, *, but: int, everything: bool) -> list[tuple[int, int, float]]:
    """(row, position, activation) of the loudest token of every other sample on which a concept fires, loudest first."""
    activation = np.where(tokens.apart & ~np.bool_(everything), 0, tokens.activation(concept))
    found: list[tuple[int, int, float]] = []
    for at in np.argsort(-activation, kind="stable"):
        if activation[at] <= 0:
            break
        row = int(tokens.rows[tokens.sample[at]])
        if row != but and all(row != other for other, _, _ in found):
            found.append((row, int(tokens.position[at]), float(activation[at])))
    return found
