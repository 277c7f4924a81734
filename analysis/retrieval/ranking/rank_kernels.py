"""The compiled forms of rank counting and of what whitening does beside its product.

Imports numba: import this module inside functions, never at module level.
"""

from __future__ import annotations

import numpy as np

from analysis.jit import kernel, over_rows
from analysis.retrieval.ranking.similarities import Tile

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
    """Counts in float32, exact below 2^24 columns: as wide as what is compared, where integers would be widened to 64 bit."""
    for b in range(lo, hi):
        for t in range(offsets[b], offsets[b + 1]):
            limit, slack = threshold[t], error[t]
            high, low = np.float32(0), np.float32(0)
            for j in range(values.shape[1]):
                difference = values[b, j] - limit * norm[j]
                high += np.float32(difference > slack)
                low += np.float32(difference >= -slack)
            if own[t] >= 0:
                difference = values[b, own[t]] - limit * norm[own[t]]
                high -= np.float32(difference > slack)
                low -= np.float32(difference >= -slack)
            above[t] = np.int64(high)
            near[t] = np.int64(low - high)


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


def pair_products(left: np.ndarray, right: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """(n,) float32 dot products of the rows left[i] and right[j], read where they lie."""
    result = np.empty(len(i), np.float32)
    over_rows(_products, len(i), left, right, i, j, result, grain=_GRAIN)
    return result


@kernel
def _products(lo, hi, left, right, i, j, result):
    for n in range(lo, hi):
        total = np.float32(0)
        for d in range(left.shape[1]):
            total += left[i[n], d] * right[j[n], d]
        result[n] = total


def centre_rows(x: np.ndarray, mean: np.ndarray, least: float, out: np.ndarray) -> np.ndarray:
    """x / |x| - mean into `out`; (n,) the lengths of these, -1 for a row without length. Rows no longer than `least`
    become 0. NaN or infinity in a row makes its length NaN or infinite."""
    length = np.empty(len(x))
    over_rows(_centre, len(x), x, mean.astype(out.dtype, copy=False), least, out, length, grain=_GRAIN)
    return length


def scale_rows(x: np.ndarray, out: np.ndarray) -> None:
    """x / |x| into `out`, 0 for rows without length."""
    over_rows(_scale, len(x), x, out, grain=_GRAIN)


@kernel
def _squares(row):
    total = 0.0
    for j in range(len(row)):
        value = np.float64(row[j])
        total += value * value
    return total


@kernel
def _centre(lo, hi, x, mean, least, out, length):
    for b in range(lo, hi):
        squares = _squares(x[b])
        scale = 1 / np.sqrt(squares) if squares != 0 else 0.0
        for j in range(x.shape[1]):
            out[b, j] = x[b, j] * scale - mean[j]
        length[b] = np.sqrt(_squares(out[b])) if squares != 0 else -1.0
        if length[b] <= least:
            for j in range(x.shape[1]):
                out[b, j] = 0


@kernel
def _scale(lo, hi, x, out):
    for b in range(lo, hi):
        squares = _squares(x[b])
        scale = 1 / np.sqrt(squares) if squares != 0 else 0.0
        for j in range(x.shape[1]):
            out[b, j] = x[b, j] * scale
