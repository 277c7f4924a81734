"""Scores of concepts (paper eq. 3-7): energy, modality score, attribution, top sets and their overlap. Bridges, which need
pairs of concepts, are in `bridges.py`. Arrays in, arrays out; every sum over samples is float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.concepts.bridges import Bridge, bridge_all, bridge_pairs, bridge_score, check_pairs
from analysis.errors import DataError
from analysis.sae.codes import Codes

__all__ = [
    "CONSTANT",
    "DENSE",
    "IMAGE_TO",
    "TEXT_FROM",
    "Attribution",
    "Bridge",
    "attribution_score",
    "bridge_all",
    "bridge_pairs",
    "bridge_score",
    "combined_energy",
    "cumulative_energy",
    "density",
    "energy",
    "energy_readout",
    "frequency",
    "jaccard",
    "modality_score",
    "top_concepts",
]

BLOCK = 8192  # samples at a time
IMAGE_TO, TEXT_FROM = 0.35, 0.65  # modality scores of image and text concepts; between them a concept is of both
CONSTANT, DENSE = 0.9, 0.3  # a concept that fires on more than this share of a modality
COMPILED_FROM = 5 * 10**8  # multiplications; below this compiling a kernel costs more than it saves


@dataclass(frozen=True)
class Attribution:
    """Retrieval attribution per concept, (K,) float64 each: total = image + text.

    image_i = E[z_image,i <D_i, h_hat_text>] (row sums of the bridge matrix), text_i the same with the sides exchanged
    (its column sums).
    """

    total: np.ndarray
    image: np.ndarray
    text: np.ndarray


def energy(codes: Codes) -> np.ndarray:
    """Energy_i = E[z_i] (eq. 3), (K,) float64 >= 0. No samples give zeros."""
    total = np.zeros(codes.n_concepts)
    for indices, values in _blocks(codes):
        total += np.bincount(indices.ravel(), weights=values.ravel(), minlength=codes.n_concepts)
    return total / max(len(codes), 1)


def frequency(codes: Codes) -> np.ndarray:
    """Share of samples on which a concept fires, (K,) float64 in [0, 1]."""
    total = np.zeros(codes.n_concepts, np.int64)
    for indices, values in _blocks(codes):
        total += np.bincount(indices[values > 0], minlength=codes.n_concepts)
    return total / max(len(codes), 1)


def density(frequency_image: np.ndarray, frequency_text: np.ndarray) -> np.ndarray:
    """(K,) "constant", "dense" or "sparse": by the modality on which a concept fires more often. A constant concept tells no
    sample from another."""
    often = np.fmax(np.asarray(frequency_image, np.float64), np.asarray(frequency_text, np.float64))
    return np.where(often > CONSTANT, "constant", np.where(often > DENSE, "dense", "sparse"))


def combined_energy(
    energy_image: np.ndarray, energy_text: np.ndarray, *, n_image: int, n_text: int, weighting: str = "samples"
) -> np.ndarray:
    """Energy over both modalities, (K,).

    "samples" (paper): the mean over all samples, so one image with five captions counts text five times.
    "balanced": the mean of the two modality means.
    """
    if weighting == "balanced":
        return (energy_image + energy_text) / 2
    if weighting != "samples":
        raise DataError(f"weighting is {weighting!r}; expected 'samples' or 'balanced'.")
    return (energy_image * n_image + energy_text * n_text) / max(n_image + n_text, 1)


def modality_score(energy_image: np.ndarray, energy_text: np.ndarray) -> np.ndarray:
    """ModalityScore_i = E_text / (E_image + E_text) (eq. 4), (K,) in [0, 1]: 1 = text, 0 = image.

    NaN for a concept that never fires. (Papadimitriou et al. use the opposite direction.)
    """
    both = np.asarray(energy_image, np.float64) + np.asarray(energy_text, np.float64)
    return np.divide(energy_text, both, out=np.full(both.shape, np.nan), where=both > 0)


def attribution_score(codes_image: Codes, codes_text: Codes, dictionary: np.ndarray) -> Attribution:
    """A = E_pairs[z_image * (M z_text) + z_text * (M z_image)], M = D D^T (eq. 6), without ever forming M.

    codes_image, codes_text: N pairs, row by row; dictionary D: (K, D). Exact, k dot products a sample and side:
    A_i = E[z_image,i <D_i, h_hat_text> + z_text,i <D_i, h_hat_image>]. The sum over concepts is
    2 E[h_hat_image . h_hat_text]. No pairs give zeros. Raises DataError when the two sides differ in length.
    """
    check_pairs(codes_image, codes_text, dictionary)
    dictionary = np.ascontiguousarray(dictionary, np.float32)
    n, n_concepts = len(codes_image), codes_image.n_concepts
    image, text = np.zeros(n_concepts), np.zeros(n_concepts)
    work = n * (codes_image.top_k + codes_text.top_k) * dictionary.shape[1]
    dots = _dots_compiled if work >= COMPILED_FROM else _dots
    for (ii, vi), (it, vt) in zip(_blocks(codes_image), _blocks(codes_text), strict=True):
        of_image, of_text = dots(ii, vi, it, vt, dictionary)
        image += np.bincount(ii.ravel(), weights=(vi * of_image).ravel(), minlength=n_concepts)
        text += np.bincount(it.ravel(), weights=(vt * of_text).ravel(), minlength=n_concepts)
    image, text = image / max(n, 1), text / max(n, 1)
    return Attribution(image + text, image, text)


def cumulative_energy(energy: np.ndarray) -> np.ndarray:
    """Share of the total energy in the n strongest concepts, n = 1..K (Fig. 3): (K,), rising to 1. Zeros give zeros."""
    ordered = np.sort(np.nan_to_num(np.asarray(energy, np.float64)))[::-1]
    total = ordered.sum()
    return np.cumsum(ordered) / total if total > 0 else np.zeros_like(ordered)


def energy_readout(energy: np.ndarray, shares: tuple[float, ...] = (0.5, 0.9, 0.99)) -> dict[float, int]:
    """How many of the strongest concepts hold each share of the energy; 0 where there is no energy at all."""
    curve = cumulative_energy(energy)
    if not curve.size or curve[-1] == 0:
        return dict.fromkeys(shares, 0)
    reach = np.searchsorted(curve, np.asarray(shares) - 1e-12) + 1
    return {share: int(min(n, len(curve))) for share, n in zip(shares, reach, strict=True)}


def top_concepts(score: np.ndarray, fraction: float = 0.01, *, base: np.ndarray | None = None) -> np.ndarray:
    """Ids of the m = max(1, floor(fraction * n)) concepts with the largest score, strongest first.

    n is the number of all concepts, or of those where the boolean `base` (K,) is True ("live"), which are then the only
    ones that can be chosen. NaN is never chosen; at equal scores the lower id comes first. DataError for a fraction
    outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise DataError(f"The share of concepts is {fraction}; expected a number above 0 and at most 1.")
    score = np.asarray(score, np.float64)
    allowed = ~np.isnan(score) if base is None else ~np.isnan(score) & np.asarray(base, bool)
    n = len(score) if base is None else int(np.count_nonzero(base))
    # A percentage such as 0.29 of 100 concepts must not lose one to binary rounding.
    m = max(1, int(np.floor(fraction * n + 1e-9)))
    order = np.lexsort((np.arange(len(score)), -np.where(allowed, score, -np.inf)))
    return order[: min(m, int(np.count_nonzero(allowed)))]


def jaccard(*sets: np.ndarray) -> float:
    """|intersection| / |union| of two or more sets of concept ids (eq. 7); NaN when all are empty."""
    if len(sets) < 2:
        raise DataError(f"Jaccard similarity compares at least two sets; found {len(sets)}.")
    members = [set(np.asarray(ids).tolist()) for ids in sets]
    union = set.union(*members)
    return len(set.intersection(*members)) / len(union) if union else float("nan")


def _blocks(codes: Codes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(codes), BLOCK):
        rows = slice(start, start + BLOCK)
        yield np.asarray(codes.indices[rows]), np.asarray(codes.values[rows], np.float64)


def _dots(
    ii: np.ndarray, vi: np.ndarray, it: np.ndarray, vt: np.ndarray, dictionary: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """<D_i, h_hat_text> for every active image concept, and the same with the sides exchanged. (n, k) each."""
    of_image, of_text = np.empty(ii.shape), np.empty(it.shape)
    step = max(1, 2**22 // ((ii.shape[1] + it.shape[1]) * dictionary.shape[1]))
    for start in range(0, len(ii), step):
        rows = slice(start, start + step)
        atoms_i, atoms_t = dictionary[ii[rows]].astype(np.float64), dictionary[it[rows]].astype(np.float64)
        reconstructed_i = np.einsum("nk,nkd->nd", vi[rows], atoms_i)
        reconstructed_t = np.einsum("nk,nkd->nd", vt[rows], atoms_t)
        of_image[rows] = np.einsum("nkd,nd->nk", atoms_i, reconstructed_t)
        of_text[rows] = np.einsum("nkd,nd->nk", atoms_t, reconstructed_i)
    return of_image, of_text


def _dots_compiled(
    ii: np.ndarray, vi: np.ndarray, it: np.ndarray, vt: np.ndarray, dictionary: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same, compiled; reconstructions in float32, which is what limits the agreement with `_dots` to about 1e-6."""
    from analysis.concepts.score_kernels import cross_dots
    from analysis.jit import over_rows

    of_image, of_text = np.empty(ii.shape, np.float32), np.empty(it.shape, np.float32)
    over_rows(cross_dots, len(ii), ii, vi.astype(np.float32), it, vt.astype(np.float32), dictionary, of_image, of_text)
    return of_image, of_text
