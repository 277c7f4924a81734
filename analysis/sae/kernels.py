"""Numba kernels of sparse coding and SAE training; plain loops over rows, called through `jit.over_rows`.

Shapes: batch B, width D, concepts K, k active. Imported inside functions only (numba costs a second).
"""

from __future__ import annotations

import numpy as np

from analysis.jit import kernel


@kernel
def select_float32(lo, hi, product, bias, k, indices, values):
    """The k largest positive entries of product + bias in each row -> indices, values (B, k), unordered, 0 = unused."""
    n_concepts = product.shape[1]
    groups = _group_count(n_concepts, k)
    row, high = np.empty((2, n_concepts), np.float32)
    found, score = np.empty(n_concepts + 1, np.int32), np.empty(n_concepts, np.float32)
    for b in range(lo, hi):
        for j in range(n_concepts):
            row[j] = product[b, j] + bias[j]
        _group_maxima(row, groups, high)
        n = _collect(row, groups, high, _bound(high, groups, k, k + k // 8), found)
        for a in range(n):
            score[a] = row[found[a]]
        _keep_largest(found, score, n, k, indices[b], values[b])


@kernel
def drop_below(lo, hi, product, bias, thresholds):
    """product + bias in place, 0 where that is below its concept's threshold."""
    for b in range(lo, hi):
        for j in range(product.shape[1]):
            score = product[b, j] + bias[j]
            product[b, j] = score if score >= thresholds[j] else np.float32(0)


@kernel
def select_bfloat16(lo, hi, product, bias, x, weight, x_norm, x_rest, w_norm, w_rest, k, indices, values):
    """As select_float32, from a product that was computed in bfloat16; the result is that of float32.

    product (B, K): bfloat16 bits as uint16. Every entry is known up to an error that follows from the norms of the
    rows (x_norm, w_norm) and of what rounding cut off them (x_rest, w_rest). An entry whose upper bound reaches the
    k-th largest lower bound may belong to the k largest; those few are computed again in float32.
    """
    n_concepts, width = product.shape[1], x.shape[1]
    groups = _group_count(n_concepts, k)
    upper, lower, low, high = np.empty((4, n_concepts), np.float32)
    found, score = np.empty(n_concepts + 1, np.int32), np.empty(n_concepts, np.float32)
    unit = np.float32(2.0**-8)  # half a unit in the last of bfloat16's 8 binary digits
    for b in range(lo, hi):
        alpha = np.float32(x_rest[b] + width * 2.0**-24 * x_norm[b])  # float32 sums inside the product
        beta = np.float32(x_norm[b])
        for j in range(n_concepts):
            rounded = np.uint32(np.uint32(product[b, j]) << np.uint32(16)).view(np.float32)
            slack = alpha * w_norm[j] + beta * w_rest[j] + unit * abs(rounded)
            upper[j] = rounded + bias[j] + slack
            lower[j] = rounded + bias[j] - slack
        _group_maxima(lower, groups, low)
        _group_maxima(upper, groups, high)
        n = _collect(upper, groups, high, _bound(low, groups, k, k + k // 8), found)
        for a in range(n):
            w = weight[found[a]]
            dot = np.float32(0)
            for j in range(width):
                dot += x[b, j] * w[j]
            score[a] = dot + bias[found[a]]
        _keep_largest(found, score, n, k, indices[b], values[b])


@kernel
def round_to_bfloat16(lo, hi, matrix, bits, norm, rest):
    """Rows of a float32 matrix rounded to bfloat16 (bits as uint16), their norms and the norms of what was cut off."""
    width = matrix.shape[1]
    for i in range(lo, hi):
        whole, cut = 0.0, 0.0
        for j in range(width):
            x = matrix[i, j]
            raw = np.float32(x).view(np.uint32)
            raw = np.uint32(raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
            bits[i, j] = np.uint16(raw >> np.uint32(16))
            difference = x - np.uint32(raw).view(np.float32)
            whole += x * x
            cut += difference * difference
        norm[i] = np.sqrt(whole) * np.float32(1.01)  # a bound must not be lost to its own rounding
        rest[i] = np.sqrt(cut) * np.float32(1.01)


@kernel
def sort_rows(lo, hi, indices, values):
    """Each row by descending value, equal values by ascending concept."""
    for b in range(lo, hi):
        index, value = indices[b], values[b]
        for a in range(1, value.size):
            i, z, at = index[a], value[a], a
            while at > 0 and (value[at - 1] < z or (value[at - 1] == z and index[at - 1] > i)):
                index[at], value[at] = index[at - 1], value[at - 1]
                at -= 1
            index[at], value[at] = i, z


@kernel
def decode(lo, hi, indices, values, dictionary, out):
    """out[b] = sum_a values[b, a] * dictionary[indices[b, a]]"""
    for b in range(lo, hi):
        _decode_row(indices[b], values[b], dictionary, out[b])


@kernel
def residual(lo, hi, indices, values, dictionary, target, out, dots):
    """out = decoded - target (B, D); dots[b, a] = <out[b], dictionary[indices[b, a]]>. Returns (sum of squares, sum z)."""
    width = target.shape[1]
    squares, total = 0.0, 0.0
    for b in range(lo, hi):
        row = out[b]
        _decode_row(indices[b], values[b], dictionary, row)
        error = np.float32(0)
        for j in range(width):
            row[j] -= target[b, j]
            error += row[j] * row[j]
        squares += float(error)
        for a in range(indices.shape[1]):
            total += values[b, a]
            dot = np.float32(0)
            if values[b, a] > 0:
                atom = dictionary[indices[b, a]]
                for j in range(width):
                    dot += row[j] * atom[j]
            dots[b, a] = dot
    return squares, total


@kernel
def by_concept(indices, values, n_concepts, offsets, rows, slots):
    """Counting sort of the active slots by concept: offsets (K+1), rows and flat slot numbers, ascending per concept."""
    batch, k = indices.shape
    offsets[:] = 0
    for b in range(batch):
        for a in range(k):
            if values[b, a] > 0:
                offsets[indices[b, a] + 1] += 1
    for i in range(n_concepts):
        offsets[i + 1] += offsets[i]
    place = offsets[:-1].copy()
    for b in range(batch):
        for a in range(k):
            if values[b, a] > 0:
                at = place[indices[b, a]]
                rows[at] = b
                slots[at] = b * k + a
                place[indices[b, a]] = at + 1


@kernel
def gradients(lo, hi, offsets, rows, slots, values, dots, error, x, scale, l1, g_dictionary, g_weight, g_bias):
    """Gradient rows of the concepts that fired: scale * z^T error, (scale * dots + l1)^T x, and its sum. -> squared norm.

    Rows of concepts that did not fire stay as they are; `adam` takes them as zero.
    """
    width = x.shape[1]
    squares = 0.0
    for i in range(lo, hi):
        if offsets[i] == offsets[i + 1]:
            continue
        to_dictionary, to_weight = g_dictionary[i], g_weight[i]
        to_dictionary[:] = 0
        to_weight[:] = 0
        bias = np.float32(0)
        for t in range(offsets[i], offsets[i + 1]):
            z = np.float32(scale * values[slots[t]])
            dz = np.float32(scale * dots[slots[t]] + l1)
            e, h = error[rows[t]], x[rows[t]]
            bias += dz
            for j in range(width):
                to_dictionary[j] += z * e[j]
            for j in range(width):
                to_weight[j] += dz * h[j]
        g_bias[i] = bias
        square = bias * bias
        for j in range(width):
            square += to_dictionary[j] * to_dictionary[j] + to_weight[j] * to_weight[j]
        squares += float(square)
    return squares


@kernel
def adam(lo, hi, parameter, gradient, first, second, fired, clip, rate, beta1, beta2, epsilon, correction, unit_rows):
    """One Adam step of some rows, in place: rate = lr / (1 - beta1^t), correction = 1 / sqrt(1 - beta2^t).

    The gradient is multiplied by `clip`; a row that did not fire has gradient 0. unit_rows: rows are set to norm 1.
    """
    width = parameter.shape[1]
    rest1, rest2 = np.float32(1 - beta1), np.float32(1 - beta2)
    beta1, beta2, epsilon = np.float32(beta1), np.float32(beta2), np.float32(epsilon)
    clip, rate, correction = np.float32(clip), np.float32(rate), np.float32(correction)
    for i in range(lo, hi):
        p, g, m, v = parameter[i], gradient[i], first[i], second[i]
        factor = clip if fired[i] else np.float32(0)
        if fired[i]:
            for j in range(width):
                m[j] = beta1 * m[j] + rest1 * (factor * g[j])
                v[j] = beta2 * v[j] + rest2 * (factor * g[j]) * (factor * g[j])
        else:
            for j in range(width):
                m[j] = beta1 * m[j]
                v[j] = beta2 * v[j]
        for j in range(width):
            p[j] -= rate * m[j] / (np.sqrt(v[j]) * correction + epsilon)
        if unit_rows:
            square = np.float32(0)
            for j in range(width):
                square += p[j] * p[j]
            shrink = np.float32(1) / (np.sqrt(square) + np.float32(1e-8))
            for j in range(width):
                p[j] *= shrink


@kernel
def _decode_row(indices, values, dictionary, out):
    out[:] = 0
    for a in range(indices.size):
        z = values[a]
        if z > 0:
            atom = dictionary[indices[a]]
            for j in range(out.size):
                out[j] += z * atom[j]


@kernel
def _group_count(n_concepts, k):
    """Entries j, j + groups, j + 2 groups ... form group j. The k-th largest of the group maxima bounds the k-th largest
    entry from below, closely when there are several times k groups."""
    return min(n_concepts, (max(n_concepts // 32, 4 * k) + 15) // 16 * 16)


@kernel
def _group_maxima(row, groups, maxima):
    maxima[:groups] = row[:groups]
    start = groups
    while start + groups <= row.size:
        for j in range(groups):  # written so that the compiler turns it into vector maxima
            entry, largest = row[start + j], maxima[j]
            maxima[j] = entry if entry > largest else largest
        start += groups
    for j in range(start, row.size):
        if row[j] > maxima[j - start]:
            maxima[j - start] = row[j]


@kernel
def _bound(entries, n, k, enough):
    """A number >= 0 which at least k, hopefully at most `enough`, of the n entries reach; 0 if fewer than k are positive.

    Bisection: counting is a vector operation, while the unpredictable branches of a quickselect cost ten times as much.
    """
    lo, hi = np.float32(0), np.float32(0)
    for j in range(n):
        hi = entries[j] if entries[j] > hi else hi
    for _ in range(24):
        middle = np.float32(0.5) * (lo + hi)
        count = np.int32(0)
        for j in range(n):
            count += np.int32(entries[j] >= middle)
        if count >= k:
            lo = middle
            if count <= enough:
                break
        else:
            hi = middle
    return lo


@kernel
def _collect(row, groups, maxima, bound, found):
    """Positions of the entries that reach the bound -> found; returns how many."""
    n = 0
    for g in range(groups):
        if maxima[g] >= bound:
            for j in range(g, row.size, groups):
                found[n] = j
                n += row[j] >= bound
    return n


@kernel
def _keep_largest(found, score, n, k, indices, values):
    """The k largest positive of n scored candidates; of equal ones at the edge the first found."""
    bound = _bound(score, n, k, k)
    kept = 0
    for a in range(n):
        if score[a] >= bound and score[a] > 0:
            if kept < k:
                indices[kept] = found[a]
                values[kept] = score[a]
                kept += 1
            else:  # bisection ended on entries closer than it resolves: let the smallest go
                least = np.argmin(values)
                if score[a] > values[least]:
                    indices[least] = found[a]
                    values[least] = score[a]
    for a in range(kept, k):
        indices[a] = 0
        values[a] = 0
