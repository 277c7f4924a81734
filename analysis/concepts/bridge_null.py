"""What the co-activation of two concepts would be if images and captions were not paired: the bridges' null."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from analysis.errors import DataError
from analysis.sae.codes import Codes

DRAWS = 20_000  # values behind a quantile of 0.999, unless seeds are given


def null_coactivation(
    codes_image: Codes,
    codes_text: Codes,
    image_concepts: np.ndarray,
    text_concepts: np.ndarray,
    *,
    quantile: float = 0.999,
    seeds: Sequence[int] | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """(n,) float64: for each pair (i, j) the quantile of E[z_image,i z_text,j] when the captions are permuted.

    The captions of one image stay together and move to another image: permuting them one by one would break a
    dependence that the data has, and every bridge would look significant. groups (N,): which pairs share an image;
    None takes the pairs with identical image codes. Every seed draws one permutation of the G images and all its G
    rotations, whose sums one Fourier transform gives at once; by default as many seeds as give 20,000 draws. A normal
    approximation would be cheaper but far too low for concepts that fire rarely. One image alone gives NaN.
    """
    if not 0 < quantile < 1:
        raise DataError(f"The null's quantile is {quantile}; expected a number between 0 and 1.")
    if groups is None:
        groups = _same_image(codes_image)
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    n_images, n_pairs = len(first), len(codes_image)
    out = np.full(len(image_concepts), np.nan)
    if n_images < 2:
        return out
    if seeds is None:
        seeds = range(-(-DRAWS // n_images))
    permutations = np.stack([np.random.default_rng(seed).permutation(n_images) for seed in seeds])
    image = codes_image[first].to_csr().astype(np.float64).tocsc()
    member = sp.csr_array((np.ones(n_pairs), (group, np.arange(n_pairs))), shape=(n_images, n_pairs))
    text = (member @ codes_text.to_csr().astype(np.float64)).tocsc()  # captions of an image added up
    order = np.lexsort((text_concepts, image_concepts))
    of_image, spectrum = -1, np.empty(0, np.complex128)
    for at in order:
        if image_concepts[at] != of_image:
            of_image = int(image_concepts[at])
            spectrum = np.fft.rfft(_column(image, of_image)).conj()
        captions = _column(text, int(text_concepts[at]))
        drawn = np.fft.irfft(spectrum * np.fft.rfft(captions[permutations]), n_images).ravel()
        at_rank = min(int(np.ceil(quantile * len(drawn))), len(drawn)) - 1
        out[at] = max(np.partition(drawn, at_rank)[at_rank], 0.0) / n_pairs
    return out


def _same_image(codes: Codes) -> np.ndarray:
    """(N,) a number per row, equal where the codes are."""
    indices, values = np.ascontiguousarray(codes.indices), np.ascontiguousarray(codes.values, np.float32)
    rows = np.concatenate([indices.view(np.uint8), values.view(np.uint8)], axis=1)
    return np.unique(rows.view(f"V{rows.shape[1]}").ravel(), return_inverse=True)[1]


def _column(matrix: sp.csc_array, j: int) -> np.ndarray:
    out = np.zeros(matrix.shape[0])
    span = slice(matrix.indptr[j], matrix.indptr[j + 1])
    out[matrix.indices[span]] = matrix.data[span]
    return out
