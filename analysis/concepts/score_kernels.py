"""Numba kernels of the concept scores. Imported inside functions only: numba costs a second."""

from __future__ import annotations

import numpy as np

from analysis.jit import kernel


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


@kernel
def bridge_rows(
    lo, hi, images, offsets, rows, slots, values, text_ids, text_values, cosine, own, n, limit, out, out_partner
):
    """Rows of N * B for the image concepts images[lo:hi], reduced while they are in the cache.

    offsets, rows, slots, values: codes of the image side by concept; text_ids (N, k), text_values: those of the text
    side by pair, with ids counted among the T text concepts that fire; cosine (rows, T); own[concept]: its number among
    them or -1. Writes sum, sum of magnitudes, maximum and diagonal of each row to `out` (4, K) and the number of the
    maximum to out_partner. Returns the same for the columns over these rows (3, T), their partners, and the n largest
    entries above `limit`: (image concept, text number), (coactivation, entry), and how many.
    """
    width = cosine.shape[1]
    column, partner = np.zeros((3, width)), np.full(width, -1, np.int64)
    ends, numbers = np.empty((2, n), np.int32), np.empty((2, n))
    count, least, bar = 0, 0, limit
    together, entry = np.empty(width), np.empty(width)
    for q in range(lo, hi):
        concept = images[q]
        together[:] = 0
        for t in range(offsets[concept], offsets[concept + 1]):
            z = np.float64(values[slots[t]])
            for a in range(text_ids.shape[1]):
                together[text_ids[rows[t], a]] += z * text_values[rows[t], a]
        total, magnitude = 0.0, 0.0
        for j in range(width):
            b = together[j] * cosine[q, j]
            entry[j] = b
            total += b
            magnitude += abs(b)
            column[0, j] += b
            column[1, j] += abs(b)
        largest, at = 0.0, -1
        for j in range(width):
            b = entry[j]
            if b > largest:
                largest, at = b, j
            if b > column[2, j]:
                column[2, j] = b
                partner[j] = concept
            if b > bar and n > 0:
                place = count if count < n else least
                ends[0, place], ends[1, place] = concept, j
                numbers[0, place], numbers[1, place] = together[j], b
                count = min(count + 1, n)
                if count == n:
                    least = int(np.argmin(numbers[1]))
                    bar = max(limit, numbers[1, least])
        out[0, concept], out[1, concept], out[2, concept] = total, magnitude, largest
        out[3, concept] = entry[own[concept]] if own[concept] >= 0 else 0.0
        out_partner[concept] = at
    return column, partner, ends, numbers, count
