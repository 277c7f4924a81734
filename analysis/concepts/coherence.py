"""Do the samples of a concept resemble each other? Clarity and polysemanticity of its strongest ones (SemanticLens), and
monosemanticity over all of them (Pach et al. 2025, in the linear form of MonoLoss).

All are cosines of embeddings from which the mean of their modality was taken, so that samples drawn at random give 0.
They flatter the space that the SAE was trained in, and untrained SAEs score high as well: an independent encoder and the
untrained control belong beside them; whether the name holds on unseen samples says more (`held_out`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from analysis.concepts.postings import build_postings
from analysis.sae.codes import Codes

EXAMPLES = 20  # strongest samples that clarity and polysemanticity look at
_ROUNDS = 12  # of 2-means; twenty points settle in a handful
_CELLS = 2**24
_ROWS = 16384  # samples at a time


class Centred:
    """Unit embeddings less the mean unit embedding of their group, scaled to length 1, read block by block.

    vectors (M, D), may be a memory map; groups: sample rows of each modality; position (N,): the row of `vectors` that
    holds a sample, -1 where none does (default: its own). Samples without a row drop out of the groups.
    """

    def __init__(self, vectors: np.ndarray, groups: list[np.ndarray], position: np.ndarray | None = None) -> None:
        self._vectors = vectors
        self._position = np.arange(len(vectors)) if position is None else np.asarray(position)
        self.groups = [rows[self._position[rows] >= 0] for rows in map(np.asarray, groups)]
        self.width = int(vectors.shape[1])
        self._means = [self._mean(rows) for rows in self.groups]

    def present(self) -> np.ndarray:
        """(N,) bool: which samples have an embedding."""
        return self._position >= 0

    def unit(self, group: int, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32 of some samples of a group; zeros for one without direction."""
        return _unit(self._raw(rows) - self._means[group])

    def _raw(self, rows: np.ndarray) -> np.ndarray:
        return _unit(np.asarray(self._vectors[self._position[rows]], np.float32))

    def _mean(self, rows: np.ndarray) -> np.ndarray:
        total = np.zeros(self.width)
        for start in range(0, len(rows), _ROWS):
            total += self._raw(rows[start : start + _ROWS]).sum(axis=0, dtype=np.float64)
        return (total / max(len(rows), 1)).astype(np.float32)


def monosemanticity(codes: Codes, centred: Centred) -> np.ndarray:
    """(K,) mean cosine of two samples of one group, weighted by the product of the concept's activations: Pach's
    sum_{i<j} a_i a_j cos(e_i, e_j) / sum_{i<j} a_i a_j, summed over the groups. NaN where it fires on fewer than two
    samples. The scaling of activations to [0, 1] of the original cancels, because they begin at 0.

    Linear: sum_{i<j} a_i a_j <e_i, e_j> = (|sum a_i e_i|^2 - sum a_i^2 |e_i|^2) / 2.
    """
    above, below = np.zeros((2, codes.n_concepts))
    for group, rows in enumerate(centred.groups):
        total = np.zeros((codes.n_concepts, centred.width), np.float32)
        mass, own, squares = np.zeros((3, codes.n_concepts))
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            strength, vectors = codes[part].to_csr(), centred.unit(group, part)
            total += strength.T.tocsr() @ vectors
            double = strength.astype(np.float64)
            square = double.multiply(double).T.tocsr()
            mass += np.asarray(double.sum(axis=0)).ravel()
            squares += np.asarray(square.sum(axis=1)).ravel()
            own += square @ np.square(vectors, dtype=np.float64).sum(axis=1)
        above += np.einsum("kd,kd->k", total, total, dtype=np.float64) - own
        below += mass**2 - squares
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 1e-9, above / below, np.nan)


def clarity(codes: Codes, centred: Centred) -> tuple[np.ndarray, np.ndarray]:
    """((K,) clarity, (K,) polysemanticity) of the strongest EXAMPLES of the group in which the concept is loudest.

    clarity: mean cosine of two of them. polysemanticity: 1 - cosine of the centres of their two clusters, 2 where they
    point in opposite directions, near 0 where there is one meaning. NaN with fewer than four samples.
    """
    found = np.full((2, codes.n_concepts), np.nan)
    for group, ids, rows in _top_blocks(codes, centred):
        k, n = rows.shape
        vectors = centred.unit(group, rows.ravel()).reshape(k, n, -1).astype(np.float64)
        gram = vectors @ vectors.transpose(0, 2, 1)
        trace = np.einsum("knn->k", gram)
        found[0, ids] = (gram.sum(axis=(1, 2)) - trace) / (n * (n - 1))
        found[1, ids] = 1 - _cosine_of_two_centres(gram)
    return found[0], found[1]


def _top_blocks(codes: Codes, centred: Centred) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(group, concepts, (concepts, n) their strongest rows): concepts with equally many examples together, in blocks."""
    loudness, posted = [], []
    for rows in centred.groups:
        part = codes[rows]
        total = np.bincount(part.indices.ravel(), part.values.ravel().astype(np.float64), codes.n_concepts)
        loudness.append(total / max(len(rows), 1))
        posted.append(build_postings(part))
    home = np.argmax(loudness, axis=0) if loudness else np.empty(0)
    for group, (rows, found) in enumerate(zip(centred.groups, posted, strict=True)):
        counts = np.minimum(np.diff(found.offsets), EXAMPLES)
        counts[home != group] = 0
        for n in np.unique(counts[counts >= 4]):
            ids = np.flatnonzero(counts == n)
            step = max(1, _CELLS // (int(n) * max(centred.width, int(n))))
            for start in range(0, len(ids), step):
                block = ids[start : start + step]
                yield group, block, rows[found.sample_rows[found.offsets[block][:, None] + np.arange(n)]]


def _cosine_of_two_centres(gram: np.ndarray) -> np.ndarray:
    """(k,) cosine of the centres of 2-means, from (k, n, n) inner products alone: starts at the two least alike points,
    deterministic. A point that stands alone is a cluster, too."""
    k, n, _ = gram.shape
    at = np.arange(k)
    square = np.einsum("knn->kn", gram)
    distance = square[:, :, None] + square[:, None, :] - 2 * gram
    first, second = np.divmod(distance.reshape(k, -1).argmax(axis=1), n)
    member = distance[at, :, second] < distance[at, :, first]  # (k, n): in the cluster of `second`
    member[at, second], member[at, first] = True, False
    for _ in range(_ROUNDS):
        weights = np.stack([~member, member]).astype(np.float64)  # (2, k, n)
        weights /= np.maximum(weights.sum(axis=2, keepdims=True), 1)
        to_centre = np.einsum("knm,ckm->ckn", gram, weights)
        size = np.einsum("ckn,ckn->ck", to_centre, weights)
        moved = size[1][:, None] - 2 * to_centre[1] < size[0][:, None] - 2 * to_centre[0]
        whole = moved.any(axis=1) & ~moved.all(axis=1)
        moved = np.where(whole[:, None], moved, member)
        if (moved == member).all():
            break
        member = moved
    weights = np.stack([~member, member]).astype(np.float64)
    inner = np.einsum("akn,knm,bkm->abk", weights, gram, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(inner[0, 1] / np.sqrt(inner[0, 0] * inner[1, 1]), nan=1.0)


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 1e-12)
