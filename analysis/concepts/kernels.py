"""Numba kernels of the concept scores. Imported inside functions only: numba costs a second."""

from __future__ import annotations

import numpy as np

from analysis.sae.jit import kernel


@kernel
def cross_dots(lo, hi, ii, vi, it, vt, dictionary, of_image, of_text):
    """of_image[n, a] = <D[ii[n, a]], sum_b vt[n, b] D[it[n, b]]> and the same with the sides exchanged.

    The 2k rows of D that a pair needs stay in the processor's cache between the sums and the dot products.
    """
    width = dictionary.shape[1]
    image, text = np.empty(width, np.float32), np.empty(width, np.float32)
    for n in range(lo, hi):
        image[:] = 0
        text[:] = 0
        for a in range(ii.shape[1]):
            if vi[n, a] > 0:
                atom = dictionary[ii[n, a]]
                for d in range(width):
                    image[d] += vi[n, a] * atom[d]
        for a in range(it.shape[1]):
            if vt[n, a] > 0:
                atom = dictionary[it[n, a]]
                for d in range(width):
                    text[d] += vt[n, a] * atom[d]
        for a in range(ii.shape[1]):
            dot = np.float32(0)
            if vi[n, a] > 0:
                atom = dictionary[ii[n, a]]
                for d in range(width):
                    dot += atom[d] * text[d]
            of_image[n, a] = dot
        for a in range(it.shape[1]):
            dot = np.float32(0)
            if vt[n, a] > 0:
                atom = dictionary[it[n, a]]
                for d in range(width):
                    dot += atom[d] * image[d]
            of_text[n, a] = dot
