"""Concept scores: attribution and bridges against their formulas taken literally, and how time grows with N."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.bench.measuring import Row, compare, median_seconds, peak_memory_mb, rounded
from analysis.bench.synthetic import dictionary, paired_codes
from analysis.concepts.metrics import COMPILED_FROM, attribution_score, bridge_all, bridge_pairs, energy
from analysis.sae.codes import Codes

WIDTH, QUICK_WIDTH, TOP_K = 512, 64, 50
SMALL, LARGE = 7168, 32768  # K of the paper's dual encoders and MLLMs
STRONGEST = 1000  # entries of the bridge matrix that are listed
BLOCK = 10_000


def run(quick: bool = False) -> Iterator[Row]:
    shrink = 32 if quick else 1
    yield attribution_against_literal(SMALL // shrink, 25_000 // shrink, quick)
    yield attribution_alone(LARGE // shrink, 100_000 // shrink, quick)
    yield bridge_against_dense(SMALL // shrink, 100_000 // shrink, quick)
    sizes = [n // (16 * shrink) * 16 for n in (25_000, 50_000, 100_000, 200_000)]
    codes = paired_codes(sizes[-1], SMALL // shrink, TOP_K, seed=3)
    atoms = dictionary(SMALL // shrink, QUICK_WIDTH if quick else WIDTH, seed=3)
    yield growth("growth_attribution", lambda image, text: attribution_score(image, text, atoms), codes, sizes, quick)
    yield growth("growth_energy", lambda image, text: energy(image), codes, sizes, quick)


def attribution_against_literal(n_concepts: int, n: int, quick: bool) -> Row:
    """Equation 6 as printed: M = D D^T once, then two products of dense codes with it."""
    image, text = paired_codes(n, n_concepts, TOP_K, seed=1)
    atoms = dictionary(n_concepts, QUICK_WIDTH if quick else WIDTH, seed=1)
    results: dict[str, np.ndarray] = {}

    def ours() -> None:
        results["ours"] = attribution_score(image, text, atoms).total

    def literal() -> None:
        m = atoms @ atoms.T
        z_image, z_text = _dense(image), _dense(text)
        results["literal"] = (z_image * (z_text @ m) + z_text * (z_image @ m)).mean(axis=0, dtype=np.float64)

    _compile(image, atoms)
    row = compare(
        "scores", "attribution_k7168_n25k_vs_literal", ours, literal, name="dense Z (D D^T) Z, float32", warm=False
    )
    return _noted(row, f"{_size(n, atoms)}; {_agreement(results['ours'], results['literal'])}", quick)


def attribution_alone(n_concepts: int, n: int, quick: bool) -> Row:
    image, text = paired_codes(n, n_concepts, TOP_K, seed=2)
    atoms = dictionary(n_concepts, QUICK_WIDTH if quick else WIDTH, seed=2)
    _compile(image, atoms)
    row = compare("scores", "attribution_k32768_n100k", lambda: attribution_score(image, text, atoms), None)
    dense = 2 * 4 * n * n_concepts / 1e9
    return _noted(row, f"{_size(n, atoms)}; the literal formula would hold {dense:.0f} GB of codes alone", quick)


def bridge_against_dense(n_concepts: int, n: int, quick: bool) -> Row:
    """Equation 5: every reduction and the strongest pairs with their null; dense: the whole K x K matrix."""
    image, text = paired_codes(n, n_concepts, TOP_K, seed=1)
    atoms = dictionary(n_concepts, QUICK_WIDTH if quick else WIDTH, seed=1)
    results: dict[str, np.ndarray] = {}

    def ours() -> None:
        results["ours"] = bridge_all(image, text, atoms)["max"].score
        bridge_pairs(image, text, atoms, n=STRONGEST)

    def dense() -> None:
        bridge = np.zeros((n_concepts, n_concepts), np.float32)
        for start in range(0, n, BLOCK):
            part = slice(start, start + BLOCK)
            bridge += _dense(image[part]).T @ _dense(text[part])
        bridge /= n
        bridge *= atoms @ atoms.T
        results["dense"] = np.maximum(np.maximum(bridge.max(axis=0), bridge.max(axis=1)), 0)
        size = np.abs(bridge)
        for axis in (0, 1):
            bridge.sum(axis=axis), size.sum(axis=axis), bridge.argmax(axis=axis)
        np.argpartition(bridge, bridge.size - min(STRONGEST, bridge.size), axis=None)

    row = compare("scores", "bridge_k7168_n100k_vs_dense", ours, dense, name="dense Z^T Z * D D^T, float32", warm=False)
    note = f"{_size(n, atoms)}, four reductions, {STRONGEST} pairs and their null"
    return _noted(row, f"{note}; {_agreement(results['ours'], results['dense'])}", quick)


def growth(
    case: str, score: Callable[[Codes, Codes], Any], codes: tuple[Codes, Codes], sizes: list[int], quick: bool
) -> Row:
    """Exponent of time against N: slope of log seconds over log N. 1 = linear."""
    image, text = codes
    times = []
    for n in sizes:
        score(image[:n], text[:n])
        times.append(median_seconds(lambda n=n: score(image[:n], text[:n]), 3 if quick else 5))  # type: ignore[misc]
    peak = peak_memory_mb(lambda: score(image, text))
    slope = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
    listed = ", ".join(f"{n:,}: {t:.4g} s" for n, t in zip(sizes, times, strict=True))
    row = Row("scores", case, rounded(times[-1]), ratio=round(slope, 3), peak_mb=peak)
    return _noted(row, f"ratio is the exponent of time against N, K {image.n_concepts}: {listed}", quick)


def _compile(codes: Codes, atoms: np.ndarray) -> None:
    """Compiling the kernel is no part of the score's time or memory. Small problems do not use it."""
    needed = math.ceil(COMPILED_FROM / (2 * TOP_K * atoms.shape[1]))
    if len(codes) >= needed:
        attribution_score(codes[:needed], codes[:needed], atoms)


def _dense(codes: Codes) -> np.ndarray:
    return codes.to_csr().toarray()


def _agreement(ours: np.ndarray, other: np.ndarray) -> str:
    off = float(np.abs(ours - other).max() / np.abs(other).max())
    if off > 1e-4:
        raise RuntimeError(f"ours and the baseline differ by {off:.1e} of the largest score")
    return f"largest difference {off:.0e} of the largest score"


def _size(n: int, atoms: np.ndarray) -> str:
    return f"K {len(atoms):,}, N {n:,} pairs, D {atoms.shape[1]}, top_k {TOP_K}"


def _noted(row: Row, note: str, quick: bool) -> Row:
    return replace(row, note=f"quick: {note}" if quick else note)
