"""Bridges between image concepts and text concepts (paper eq. 5): B = E_pairs[z_image^T z_text] * (D D^T), K x K.

The matrix is never held: it is made in blocks of image concepts, reduced and thrown away. Only concepts that fire on
their side take part; all other entries are exactly 0.

The paper needs one number per concept and does not say how. Row sums plus column sums of B are the attribution score,
so a full sum would make the overlap of the two sets 1; the reductions here are different functions and their name
stands beside every number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import DataError
from analysis.sae.codes import Codes

REDUCTIONS = ("max", "diagonal", "off_diagonal", "abs_sum")
BLOCK_VALUES = 2**23  # entries of B held at a time: 32 MB in float32
NULL_QUANTILE = 0.999


@dataclass(frozen=True)
class Bridge:
    """One number per concept, (K,) float64, and its strongest partner, (K,) int64.

    partner_i is the concept on the other side with which i has its largest positive entry of B, -1 where it has none.
    """

    score: np.ndarray
    partner: np.ndarray


@dataclass(frozen=True)
class _Block:
    """Rows of B for some image concepts: B[images][:, texts]."""

    images: np.ndarray  # concept ids of the rows
    texts: np.ndarray  # concept ids of the columns
    coactivation: np.ndarray  # (rows, columns) E[z_image,i z_text,j]
    cosine: np.ndarray  # (rows, columns) <D_i, D_j>

    @property
    def bridge(self) -> np.ndarray:
        return self.coactivation * self.cosine


def bridge_score(codes_image: Codes, codes_text: Codes, dictionary: np.ndarray, *, reduction: str = "max") -> Bridge:
    """One bridge score per concept over N pairs.

    "max": the larger of row maximum and column maximum of B; "diagonal": B_ii, the same concept on both sides;
    "off_diagonal": A_i - 2 B_ii with A the attribution; "abs_sum": mean of the row sum and the column sum of |B|.
    codes row by row are pairs; dictionary (K, D). Raises DataError for an unknown reduction or sides that are no pairs.
    """
    if reduction not in REDUCTIONS:
        raise DataError(f"reduction is {reduction!r}; expected one of {', '.join(REDUCTIONS)}.")
    return bridge_all(codes_image, codes_text, dictionary)[reduction]


def bridge_all(codes_image: Codes, codes_text: Codes, dictionary: np.ndarray) -> dict[str, Bridge]:
    """Every reduction from one pass over B: name -> Bridge."""
    n_concepts = len(dictionary)
    row, column, row_abs, column_abs, diagonal = np.zeros((5, n_concepts))
    row_max, column_max = np.zeros((2, n_concepts))
    row_partner, column_partner = np.full((2, n_concepts), -1, np.int64)
    for block in _blocks(codes_image, codes_text, dictionary):
        b = block.bridge
        row[block.images] = b.sum(axis=1, dtype=np.float64)
        column[block.texts] += b.sum(axis=0, dtype=np.float64)
        best = b.argmax(axis=1)
        row_max[block.images] = b[np.arange(len(b)), best]
        row_partner[block.images] = block.texts[best]
        best = b.argmax(axis=0)
        highest = b[best, np.arange(b.shape[1])]
        better = highest > column_max[block.texts]
        column_max[block.texts[better]] = highest[better]
        column_partner[block.texts[better]] = block.images[best[better]]
        where = np.searchsorted(block.texts, block.images)
        shared = (where < len(block.texts)) & (block.texts[np.minimum(where, len(block.texts) - 1)] == block.images)
        diagonal[block.images[shared]] = b[np.flatnonzero(shared), where[shared]]
        np.abs(b, out=b)
        row_abs[block.images] = b.sum(axis=1, dtype=np.float64)
        column_abs[block.texts] += b.sum(axis=0, dtype=np.float64)
    by_row = row_max >= column_max
    highest = np.where(by_row, row_max, column_max)
    partner = np.where(highest > 0, np.where(by_row, row_partner, column_partner), -1)
    scores = {
        "max": np.maximum(highest, 0.0),
        "diagonal": diagonal,
        "off_diagonal": row + column - 2 * diagonal,
        "abs_sum": (row_abs + column_abs) / 2,
    }
    return {name: Bridge(score, partner) for name, score in scores.items()}


def bridge_pairs(
    codes_image: Codes,
    codes_text: Codes,
    dictionary: np.ndarray,
    *,
    n: int = 1000,
    quantile: float = NULL_QUANTILE,
) -> pd.DataFrame:
    """The n strongest entries of B, strongest first, beside what unpaired samples would give.

    Columns image_concept, text_concept, coactivation E[z_i z_j], cosine <D_i, D_j>, bridge (their product),
    null_quantile, excess = bridge - null_quantile.

    Null: the captions are permuted over the images. The mean product of two columns then has mean m_i m_j and variance
    s_i^2 s_j^2 / (N - 1), exactly (m, s: mean and population deviation of a column); its quantile is taken from the
    normal distribution with these two moments, so no permutation has to be drawn. A pair needs N >= 2; else NaN.
    """
    from scipy.stats import norm

    keep: list[pd.DataFrame] = []
    held = 0
    for block in _blocks(codes_image, codes_text, dictionary):
        b = block.bridge
        count = min(n, b.size)
        flat = np.argpartition(b, b.size - count, axis=None)[b.size - count :]
        rows, columns = np.unravel_index(flat, b.shape)
        positive = b[rows, columns] > 0
        rows, columns = rows[positive], columns[positive]
        keep.append(
            pd.DataFrame(
                {
                    "image_concept": block.images[rows].astype(np.int32),
                    "text_concept": block.texts[columns].astype(np.int32),
                    "coactivation": block.coactivation[rows, columns].astype(np.float64),
                    "cosine": block.cosine[rows, columns].astype(np.float64),
                    "bridge": b[rows, columns].astype(np.float64),
                }
            )
        )
        held += len(keep[-1])
        if held > 8 * n:
            keep = [_strongest(keep, n)]
            held = len(keep[0])
    table = _strongest(keep, n)
    mean_image, deviation_image = _moments(codes_image)
    mean_text, deviation_text = _moments(codes_text)
    i, j = table["image_concept"].to_numpy(), table["text_concept"].to_numpy()
    pairs = len(codes_image)
    spread = deviation_image[i] * deviation_text[j] / np.sqrt(pairs - 1) if pairs > 1 else np.full(len(i), np.nan)
    table["null_quantile"] = table["cosine"] * (mean_image[i] * mean_text[j] + norm.ppf(quantile) * spread)
    table["excess"] = table["bridge"] - table["null_quantile"]
    return table


def check_pairs(codes_image: Codes, codes_text: Codes, dictionary: np.ndarray) -> None:
    """Raise DataError unless the two sides are pairs of samples over the concepts of this dictionary."""
    if len(codes_image) != len(codes_text):
        raise DataError(
            f"{len(codes_image)} image codes and {len(codes_text)} text codes; expected pairs, one row each side."
        )
    concepts = {codes_image.n_concepts, codes_text.n_concepts, len(dictionary)}
    if len(concepts) > 1:
        raise DataError(f"Codes and dictionary speak of {sorted(concepts)} concepts; expected those of one SAE.")


def _strongest(parts: list[pd.DataFrame], n: int) -> pd.DataFrame:
    if not parts:
        columns = ["image_concept", "text_concept", "coactivation", "cosine", "bridge"]
        return pd.DataFrame({name: np.empty(0, np.int32 if "concept" in name else np.float64) for name in columns})
    table = pd.concat(parts, ignore_index=True)
    order = np.lexsort((table["text_concept"], table["image_concept"], -table["bridge"].to_numpy()))[:n]
    return table.iloc[order].reset_index(drop=True)


def _blocks(codes_image: Codes, codes_text: Codes, dictionary: np.ndarray) -> Iterator[_Block]:
    """Blocks of B over the concepts that fire, in rising order of image concepts."""
    check_pairs(codes_image, codes_text, dictionary)
    if not len(codes_image):
        return
    image = codes_image.to_csr().astype(np.float64).T.tocsr()  # (K, N)
    text = codes_text.to_csr().astype(np.float64)
    images = np.flatnonzero(np.diff(image.indptr)).astype(np.int64)
    texts = np.flatnonzero(np.bincount(text.indices, minlength=text.shape[1])).astype(np.int64)
    if not len(images) or not len(texts):
        return
    text = text[:, texts]
    atoms = np.ascontiguousarray(dictionary[texts], np.float32)
    step = max(1, BLOCK_VALUES // len(texts))
    for start in range(0, len(images), step):
        ids = images[start : start + step]
        coactivation = (image[ids] @ text).astype(np.float32).toarray()
        coactivation /= np.float32(len(codes_image))
        yield _Block(ids, texts, coactivation, np.asarray(dictionary[ids], np.float32) @ atoms.T)


def _moments(codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation of every column of the codes, zeros included. (K,) each."""
    n = max(len(codes), 1)
    total, squares = np.zeros((2, codes.n_concepts))
    for start in range(0, len(codes), 8192):
        ids = np.asarray(codes.indices[start : start + 8192]).ravel()
        values = np.asarray(codes.values[start : start + 8192], np.float64).ravel()
        total += np.bincount(ids, weights=values, minlength=codes.n_concepts)
        squares += np.bincount(ids, weights=values**2, minlength=codes.n_concepts)
    mean = total / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0))
