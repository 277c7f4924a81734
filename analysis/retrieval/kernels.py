"""The compiled form of rank counting. Imports numba: import this module inside functions, never at module level."""

from __future__ import annotations

import numpy as np

from analysis.retrieval.scoring import Tile
from analysis.sae.jit import kernel, over_rows

_GRAIN = 256  # rows of a tile that one thread takes at a time
_PIECE = 128  # values of a row that are looked at together


def count_rivals(
    tile: Tile, threshold: np.ndarray, error: np.ndarray, own: np.ndarray, room: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As ranks._count_rivals: rivals above and within the error of each target's threshold, and who is within."""
    n = len(threshold)
    own = np.where((own >= 0) & (own < tile.values.shape[1]), own, -1)
    above, near = np.zeros((2, n), np.int64)
    columns = tile.values.shape[1]
    norm = np.ones(columns, np.float32) if tile.candidate_norm is None else tile.candidate_norm
    over_rows(_count, len(tile.values), tile.values, norm, threshold, offsets, error, own, above, near, grain=_GRAIN)
    slots = np.concatenate([[0], np.cumsum(np.where(above < room, near, 0))])
    target, candidate = np.empty((2, slots[-1]), np.int64)
    if slots[-1]:  # few rows: not worth a second round of the threads
        _list(0, len(tile.values), tile.values, norm, threshold, offsets, error, own, slots, target, candidate)
    return above, near, target, candidate


@kernel
def _count(lo, hi, values, norm, threshold, offsets, error, own, above, near):
    for b in range(lo, hi):
        for t in range(offsets[b], offsets[b + 1]):
            limit, slack = threshold[t], error[t]
            high, low = np.int32(0), np.int32(0)
            for j in range(values.shape[1]):
                difference = values[b, j] - limit * norm[j]
                high += np.int32(difference > slack)
                low += np.int32(difference >= -slack)
            if own[t] >= 0:
                difference = values[b, own[t]] - limit * norm[own[t]]
                high -= np.int32(difference > slack)
                low -= np.int32(difference >= -slack)
            above[t] = high
            near[t] = low - high


@kernel
def _list(lo, hi, values, norm, threshold, offsets, error, own, slots, target, candidate):
    """Most pieces of a row hold no undecided value: counting is a vector operation, writing down is not."""
    columns = values.shape[1]
    for b in range(lo, hi):
        for t in range(offsets[b], offsets[b + 1]):
            slot = slots[t]
            if slots[t + 1] == slot:
                continue
            limit, slack = threshold[t], error[t]
            for start in range(0, columns, _PIECE):
                stop = min(start + _PIECE, columns)
                found = np.int32(0)
                for j in range(start, stop):
                    found += np.int32(abs(values[b, j] - limit * norm[j]) <= slack)
                if found == 0:
                    continue
                for j in range(start, stop):
                    if j != own[t] and abs(values[b, j] - limit * norm[j]) <= slack:
                        target[slot] = t
                        candidate[slot] = j
                        slot += 1
                if slot == slots[t + 1]:
                    break
