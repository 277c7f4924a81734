"""Which concept of one SAE is which concept of another: by what they fire on, or by their direction.

Two models seldom share a space, so matching by activation on the same samples is the general way; directions compare
two SAEs of one backbone, for instance two seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.errors import DataError
from analysis.sae.codes import Codes

BLOCK_VALUES = 2**22  # similarities held at a time
ONE_TO_ONE_UP_TO = 4096  # concepts a side; the assignment needs all similarities at once and cubic time


@dataclass(frozen=True)
class Matching:
    """For every concept of the first SAE: partner (K,) int64 in the second, -1 where there is none, its similarity (K,)
    float64, NaN there, and whether the partner's own best match is this concept (K,) bool."""

    partner: np.ndarray
    similarity: np.ndarray
    mutual: np.ndarray


def match_by_activation(codes: Codes, other: Codes) -> Matching:
    """Partners by the highest positive Pearson correlation of activations over N shared samples.

    codes (N, K) and other (N, K'): row by row the same sample, e.g. the same picture in two models. A concept that never
    fires, or always equally, correlates with nothing. At equal correlation the lower id. Blocks; nothing K x K'.
    """
    if len(codes) != len(other):
        raise DataError(f"{len(codes)} and {len(other)} samples; expected the same samples in both stores.")
    best, column_best = _Best(codes.n_concepts), _Best(other.n_concepts)
    if len(codes):
        mean, deviation = _moments(codes)
        other_mean, other_deviation = _moments(other)
        left = codes.to_csr().astype(np.float64).T.tocsr()
        right = other.to_csr().astype(np.float64)
        living = np.flatnonzero(other_deviation > 0)
        rows = np.flatnonzero(deviation > 0)
        right = right[:, living]
        step = max(1, BLOCK_VALUES // max(len(living), 1))
        for lo in range(0, len(rows) if len(living) else 0, step):
            ids = rows[lo : lo + step]
            product = (left[ids] @ right).toarray() / len(codes)
            product -= np.outer(mean[ids], other_mean[living])
            product /= np.outer(deviation[ids], other_deviation[living])
            _take(product, ids, living, best, column_best)
    return _matching(best, column_best)


def one_to_one_by_activation(codes: Codes, other: Codes) -> Matching:
    """As `match_by_activation`, but every concept at most once, the sum of the positive correlations as large as possible
    (Hungarian method). Up to ONE_TO_ONE_UP_TO living concepts a side."""
    if len(codes) != len(other):
        raise DataError(f"{len(codes)} and {len(other)} samples; expected the same samples in both stores.")
    assigned, column_best = _Best(codes.n_concepts), _Best(other.n_concepts)
    if len(codes):
        sides = [(*_moments(part), part.to_csr().astype(np.float64)) for part in (codes, other)]
        living = [np.flatnonzero(deviation > 0) for _, deviation, _ in sides]
        _refuse_too_many(*map(len, living))
        parts = [matrix[:, ids] for (_, _, matrix), ids in zip(sides, living, strict=True)]
        correlation = (parts[0].T @ parts[1]).toarray() / len(codes)
        correlation -= np.outer(sides[0][0][living[0]], sides[1][0][living[1]])
        correlation /= np.outer(sides[0][1][living[0]], sides[1][1][living[1]])
        if correlation.size:
            _take(correlation, living[0], living[1], _Best(codes.n_concepts), column_best)
        _assign(np.maximum(correlation, 0), living[0], living[1], assigned)
    return _matching(assigned, column_best)


def match_by_direction(dictionary: np.ndarray, other: np.ndarray, *, one_to_one: bool = False) -> Matching:
    """Partners by the highest positive cosine of dictionary atoms (K, D) and (K', D), unit rows.

    one_to_one: every concept at most once, the sum of cosines as large as possible (Hungarian method), up to 4096
    concepts a side; a negative cosine is no match then either. Raises DataError if the widths differ.
    """
    if dictionary.shape[1] != other.shape[1]:
        raise DataError(
            f"Atoms of width {dictionary.shape[1]} and {other.shape[1]}; expected one space: "
            "concepts of different backbones are matched by what they fire on."
        )
    best, column_best = _Best(len(dictionary)), _Best(len(other))
    columns = np.arange(len(other))
    step = max(1, BLOCK_VALUES // max(len(other), 1))
    for lo in range(0, len(dictionary) if len(other) else 0, step):
        rows = np.arange(lo, min(lo + step, len(dictionary)))
        _take((dictionary[rows] @ other.T).astype(np.float64), rows, columns, best, column_best)
    if not one_to_one:
        return _matching(best, column_best)
    _refuse_too_many(len(dictionary), len(other))
    assigned = _Best(len(dictionary))
    _assign(np.maximum(dictionary @ other.T, 0), np.arange(len(dictionary)), columns, assigned)
    return _matching(assigned, column_best)


def _refuse_too_many(one: int, two: int) -> None:
    if max(one, two) > ONE_TO_ONE_UP_TO:
        raise DataError(
            f"{one} and {two} concepts; one-to-one matching takes up to {ONE_TO_ONE_UP_TO}: "
            "choose the living concepts, or match each to its nearest."
        )


def _assign(similarity: np.ndarray, rows: np.ndarray, columns: np.ndarray, assigned: _Best) -> None:
    """Partners of the largest sum of similarities (n, m), which are not negative; 0 is no match. rows, columns: whose."""
    from scipy.optimize import linear_sum_assignment

    at, chosen = linear_sum_assignment(similarity, maximize=True)
    value = similarity[at, chosen]
    good = value > 0
    assigned.partner[rows[at[good]]], assigned.value[rows[at[good]]] = columns[chosen[good]], value[good]


class _Best:
    """The largest positive similarity seen so far, and with whom."""

    def __init__(self, n: int) -> None:
        self.value, self.partner = np.zeros(n), np.full(n, -1, np.int64)


def _take(block: np.ndarray, rows: np.ndarray, columns: np.ndarray, best: _Best, column_best: _Best) -> None:
    """Take in a block (rows, columns) of similarities that holds all columns of its rows."""
    at = block.argmax(axis=1)
    value = block[np.arange(len(rows)), at]
    found = value > 0
    best.value[rows[found]], best.partner[rows[found]] = value[found], columns[at[found]]
    at = block.argmax(axis=0)
    value = block[at, np.arange(len(columns))]
    better = value > column_best.value[columns]
    column_best.value[columns[better]], column_best.partner[columns[better]] = value[better], rows[at[better]]


def _matching(best: _Best, column_best: _Best) -> Matching:
    found = best.partner >= 0
    mutual = np.zeros(len(found), bool)
    mutual[found] = column_best.partner[best.partner[found]] == np.flatnonzero(found)
    return Matching(best.partner, np.where(found, best.value, np.nan), mutual)


def _moments(codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population deviation of every concept's activation, (K,) each; the deviation of a constant is exactly 0."""
    n = len(codes)
    total, squares = np.zeros((2, codes.n_concepts))
    lowest, highest = np.full(codes.n_concepts, np.inf), np.zeros(codes.n_concepts)
    fired = np.zeros(codes.n_concepts, np.int64)
    for start in range(0, n, 8192):
        values = np.asarray(codes.values[start : start + 8192], np.float64)
        ids, values = np.asarray(codes.indices[start : start + 8192])[values > 0], values[values > 0]
        total += np.bincount(ids, weights=values, minlength=codes.n_concepts)
        squares += np.bincount(ids, weights=values**2, minlength=codes.n_concepts)
        fired += np.bincount(ids, minlength=codes.n_concepts)
        np.minimum.at(lowest, ids, values)
        np.maximum.at(highest, ids, values)
    mean = total / n
    deviation = np.sqrt(np.maximum(squares / n - mean**2, 0))
    deviation[(fired == 0) | ((fired == n) & (lowest == highest))] = 0
    return mean, deviation
