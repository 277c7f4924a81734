"""One pass over the bridge matrix B = E_pairs[z_image^T z_text] * (D D^T) without holding it: its row and column sums,
maxima, diagonal and strongest entries.

B is made in blocks of image concepts and thrown away. Only concepts that fire on their side take part; every other
entry is exactly 0. Small inputs go through NumPy and scipy, large ones through a compiled loop, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.errors import DataError
from analysis.sae.codes import Codes

BLOCK_VALUES = 2**23  # cosines held at a time: 32 MB
GATHERED_BYTES = 2**26  # of atoms copied at a time for their product
COMPILED_FROM = 2**25  # products of two codes plus entries of B; below, compiling takes longer than NumPy
CHUNKS = 8  # of a block, each with its own column sums; fixed, so that sums do not depend on the number of threads


@dataclass
class Scan:
    """Sums are of B, not of counts: divided by the number of pairs. All (K,) float64 unless said.

    row = sums over text concepts, column = over image concepts; maxima are at least 0, and their partners, the first
    of equal ones, are -1 where no entry is positive. pairs: the n largest positive entries, largest first.
    """

    row: np.ndarray
    column: np.ndarray
    row_abs: np.ndarray
    column_abs: np.ndarray
    row_max: np.ndarray
    column_max: np.ndarray
    diagonal: np.ndarray
    row_partner: np.ndarray  # (K,) int64
    column_partner: np.ndarray
    pairs: Pairs

    @classmethod
    def empty(cls, n_concepts: int) -> Scan:
        row, column, row_abs, column_abs, row_max, column_max, diagonal = np.zeros((7, n_concepts))
        row_partner, column_partner = np.full((2, n_concepts), -1, np.int64)
        return cls(
            *(row, column, row_abs, column_abs, row_max, column_max, diagonal),
            row_partner,
            column_partner,
            Pairs.none(),
        )


@dataclass(frozen=True)
class Pairs:
    """Entries of B: ids (n,) int32 of the two concepts, E[z_i z_j] and B_ij (n,) float64."""

    image: np.ndarray
    text: np.ndarray
    coactivation: np.ndarray
    bridge: np.ndarray

    @classmethod
    def none(cls) -> Pairs:
        return cls(*np.empty((2, 0), np.int32), *np.empty((2, 0)))

    @classmethod
    def strongest(cls, parts: list[Pairs], n: int) -> Pairs:
        """The n largest entries of all parts; at equal entries the lower ids."""
        names = ("image", "text", "coactivation", "bridge")
        image, text, coactivation, bridge = (np.concatenate([getattr(p, name) for p in parts]) for name in names)
        order = np.lexsort((text, image, -bridge))[:n]
        return cls(image[order], text[order], coactivation[order], bridge[order])


def check_pairs(codes_image: Codes, codes_text: Codes, dictionary: np.ndarray) -> None:
    """Raise DataError unless the two sides are pairs of samples over the concepts of this dictionary."""
    if len(codes_image) != len(codes_text):
        raise DataError(
            f"{len(codes_image)} image codes and {len(codes_text)} text codes; expected pairs, one row each side."
        )
    concepts = {codes_image.n_concepts, codes_text.n_concepts, len(dictionary)}
    if len(concepts) > 1:
        raise DataError(f"Codes and dictionary speak of {sorted(concepts)} concepts; expected those of one SAE.")


def scan_bridges(codes_image: Codes, codes_text: Codes, dictionary: np.ndarray, *, n: int = 0) -> Scan:
    """Everything the reductions need, and the n strongest pairs, from one pass over B. No pairs give zeros."""
    check_pairs(codes_image, codes_text, dictionary)
    scan = Scan.empty(len(dictionary))
    images, texts = _firing(codes_image), _firing(codes_text)
    if not len(images) or not len(texts):
        return scan
    work = len(codes_image) * codes_image.top_k * codes_text.top_k + len(images) * len(texts)
    sweep = _compiled if work >= COMPILED_FROM else _numpy
    sweep(scan, codes_image, codes_text, dictionary, images, texts, n)
    for sums in (scan.row, scan.column, scan.row_abs, scan.column_abs, scan.row_max, scan.column_max, scan.diagonal):
        sums /= len(codes_image)
    pairs = scan.pairs
    scan.pairs = Pairs(pairs.image, pairs.text, pairs.coactivation / len(codes_image), pairs.bridge / len(codes_image))
    scan.row_partner[scan.row_max <= 0] = -1
    scan.column_partner[scan.column_max <= 0] = -1
    return scan


def _firing(codes: Codes) -> np.ndarray:
    fired = np.zeros(codes.n_concepts, bool)
    for start in range(0, len(codes), 2**16):
        rows = slice(start, start + 2**16)
        fired[np.asarray(codes.indices[rows])[np.asarray(codes.values[rows]) > 0]] = True
    return np.flatnonzero(fired)


def _cosine_blocks(
    dictionary: np.ndarray, images: np.ndarray, texts: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(image concepts, <D_i, D_j> for them and all text concepts), float32; the array is overwritten by the next."""
    step = max(1, BLOCK_VALUES // len(texts))
    width = dictionary.shape[1]
    gathered = max(1, GATHERED_BYTES // (4 * width))
    cosine = np.empty((min(step, len(images)), len(texts)), np.float32)
    at_once = np.asarray(dictionary[texts], np.float32) if len(texts) <= gathered else None
    for start in range(0, len(images), step):
        ids = images[start : start + step]
        atoms, block = np.asarray(dictionary[ids], np.float32), cosine[: min(step, len(images) - start)]
        if at_once is not None:
            np.matmul(atoms, at_once.T, out=block)
        else:
            for lo in range(0, len(texts), gathered):
                block[:, lo : lo + gathered] = atoms @ np.asarray(dictionary[texts[lo : lo + gathered]], np.float32).T
        yield ids, block


def _numpy(
    scan: Scan,
    codes_image: Codes,
    codes_text: Codes,
    dictionary: np.ndarray,
    images: np.ndarray,
    texts: np.ndarray,
    n: int,
) -> None:
    image = codes_image.to_csr().astype(np.float64).T.tocsr()  # (K, N)
    text = codes_text.to_csr().astype(np.float64)[:, texts]
    own = np.full(len(dictionary), -1)
    own[texts] = np.arange(len(texts))
    for ids, cosine in _cosine_blocks(dictionary, images, texts):
        coactivation = (image[ids] @ text).toarray()
        b = coactivation * cosine
        scan.row[ids] = b.sum(axis=1)
        scan.column[texts] += b.sum(axis=0)
        scan.row_abs[ids] = np.abs(b).sum(axis=1)
        scan.column_abs[texts] += np.abs(b).sum(axis=0)
        best = b.argmax(axis=1)
        scan.row_max[ids] = np.maximum(b[np.arange(len(ids)), best], 0)
        scan.row_partner[ids] = texts[best]
        best = b.argmax(axis=0)
        highest = b[best, np.arange(len(texts))]
        better = np.flatnonzero(highest > scan.column_max[texts])
        scan.column_max[texts[better]] = highest[better]
        scan.column_partner[texts[better]] = ids[best[better]]
        both = own[ids] >= 0
        scan.diagonal[ids[both]] = b[np.flatnonzero(both), own[ids[both]]]
        if n:
            flat = np.argpartition(b, max(b.size - n, 0), axis=None)[max(b.size - n, 0) :]
            flat = flat[b.ravel()[flat] > 0]
            i, j = np.unravel_index(flat, b.shape)
            found = Pairs(ids[i].astype(np.int32), texts[j].astype(np.int32), coactivation[i, j], b[i, j])
            scan.pairs = Pairs.strongest([scan.pairs, found], n)


def _compiled(
    scan: Scan,
    codes_image: Codes,
    codes_text: Codes,
    dictionary: np.ndarray,
    images: np.ndarray,
    texts: np.ndarray,
    n: int,
) -> None:
    from analysis.concepts.score_kernels import bridge_rows
    from analysis.jit import over_rows
    from analysis.sae.kernels import by_concept

    indices, values = np.ascontiguousarray(codes_image.indices), np.ascontiguousarray(codes_image.values)
    offsets = np.zeros(len(dictionary) + 1, np.int64)
    rows, slots = np.empty((2, indices.size), np.int32)
    by_concept(indices, values, len(dictionary), offsets, rows, slots)
    own = np.zeros(len(dictionary), np.int32)  # a concept that never fires has value 0 wherever it is named
    own[texts] = np.arange(len(texts))
    text_ids, text_values = own[np.asarray(codes_text.indices)], np.ascontiguousarray(codes_text.values)
    own[:] = -1
    own[texts] = np.arange(len(texts))
    row_out = np.zeros((4, len(dictionary)))
    for ids, cosine in _cosine_blocks(dictionary, images, texts):
        limit = scan.pairs.bridge[-1] if n and len(scan.pairs.bridge) == n else 0.0
        parts = over_rows(
            bridge_rows,
            *(len(ids), ids, offsets, rows, slots, values.ravel(), text_ids, text_values, cosine, own),
            *(n, limit, row_out, scan.row_partner),
            grain=-(-len(ids) // CHUNKS),
        )
        found = [scan.pairs]
        for column, partner, ends, numbers, count in parts:
            scan.column[texts] += column[0]
            scan.column_abs[texts] += column[1]
            better = np.flatnonzero(column[2] > scan.column_max[texts])
            scan.column_max[texts[better]] = column[2, better]
            scan.column_partner[texts[better]] = partner[better]
            ends, numbers = ends[:, :count], numbers[:, :count]
            found.append(Pairs(ends[0], texts[ends[1]].astype(np.int32), numbers[0], numbers[1]))
        if n:
            scan.pairs = Pairs.strongest(found, n)
    scan.row[:], scan.row_abs[:], scan.row_max[:], scan.diagonal[:] = row_out
    scan.row_partner[scan.row_partner >= 0] = texts[scan.row_partner[scan.row_partner >= 0]]
