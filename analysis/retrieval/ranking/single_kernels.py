"""The compiled loop behind `evaluation.single_effects`. Imports numba: import this module inside functions only."""

from __future__ import annotations

import numpy as np

from analysis.jit import kernel

_PIECE = 64  # candidates between two looks at whether the rest can matter
_SLACK = 1e-12  # of the bound: sums round


@kernel
def ranks_without(
    lo, hi, similarity, order, offsets, targets, limit, along_q, along_c, scale, reach, longest, void, out
):
    """out[i, b]: rank of the best target of query b without concept i, limit + 1 beyond `limit`.

    similarity, order (B, C): of each query in falling order, and whose they are; offsets, targets: relevant candidates of
    each query; along_q (m, B), along_c (m, C): coefficients along each concept; scale (m, C): 1 / length of what is left of
    a candidate, 0 where nothing is; reach, longest (m,): largest |along_c| and scale; void (m, B): nothing is left of the
    query. Candidates further down than any change can lift are not looked at.
    """
    n_candidates = similarity.shape[1]
    place = np.empty(n_candidates, np.int32)
    for b in range(lo, hi):
        for j in range(n_candidates):
            place[order[b, j]] = j
        for i in range(along_q.shape[0]):
            out[i, b] = limit + 1
            if void[i, b] or offsets[b] == offsets[b + 1]:
                continue
            a = along_q[i, b]
            best, who = -np.inf, np.int64(-1)
            for t in range(offsets[b], offsets[b + 1]):
                c = targets[t]
                value = (similarity[b, place[c]] - a * along_c[i, c]) * scale[i, c]
                if value > best or (value == best and c < who):
                    best, who = value, c
            count = 0
            for start in range(0, n_candidates, _PIECE):
                most = max(similarity[b, start] + abs(a) * reach[i] + _SLACK, 0.0) * longest[i]
                if count >= limit or (most < best and most > 0):
                    break
                for j in range(start, min(start + _PIECE, n_candidates)):
                    c = order[b, j]
                    value = (similarity[b, j] - a * along_c[i, c]) * scale[i, c]
                    if value > best or (value == best and c < who):
                        count += 1
            out[i, b] = min(count, limit) + 1
