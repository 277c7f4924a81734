"""Data of any size for the benchmarks: paired codes, a dictionary, activations and a retrieval problem.

Concept use follows Zipf's law with a modality bias and codes are log-normal, as in the SAEs of the paper's models; both
sides of a pair share part of their concepts. Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from analysis.retrieval.ranking.rows import true_cells
from analysis.sae.codes import Codes

SHARED_DRAWS = 15  # concepts drawn for both sides of a pair at once
DRAWS_PER_SLOT = 2.2  # Zipf repeats itself: so many draws leave enough different concepts for most rows
BLOCK = 8192


def paired_codes(n: int, n_concepts: int, top_k: int = 50, *, seed: int = 0) -> tuple[Codes, Codes]:
    """(codes of images, codes of captions) of n pairs. A row with too few different concepts keeps unused slots."""
    rng = np.random.default_rng(seed)
    zipf = (np.arange(n_concepts) + 10.0) ** -0.9
    bias, place = np.exp(rng.normal(0, 1.5, n_concepts)), rng.permutation(n_concepts)
    shared, image, text = (_cumulative(use[place]) for use in (zipf, zipf * bias, zipf / bias))
    strength = np.exp(rng.normal(0, 0.5, n_concepts)).astype(np.float32)
    sides = [(np.zeros((n, top_k), np.int32), np.zeros((n, top_k), np.float32)) for _ in range(2)]
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        both = _draw(rng, shared, rows.stop - start, SHARED_DRAWS)
        for (indices, values), use in zip(sides, (image, text), strict=True):
            own = _draw(rng, use, rows.stop - start, int(DRAWS_PER_SLOT * top_k))
            indices[rows], used = _first_different(np.concatenate([both, own], axis=1), top_k)
            size = np.exp(rng.normal(0, 0.7, used.shape)).astype(np.float32)
            values[rows] = np.where(used, 0.1 * size * strength[indices[rows]], 0)
    codes_image, codes_text = (Codes(indices, values, n_concepts) for indices, values in sides)
    return codes_image, codes_text


def dictionary(n_concepts: int, width: int, *, seed: int = 0) -> np.ndarray:
    """(K, D) float32 unit rows; half of them lean towards one of K / 50 common directions."""
    rng = np.random.default_rng(seed)
    atoms = rng.standard_normal((n_concepts, width), dtype=np.float32)
    centre = atoms[rng.integers(0, max(n_concepts // 50, 1), n_concepts)]
    atoms += 2 * centre * (rng.random((n_concepts, 1)) < 0.5)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    return atoms


def activations(n: int, width: int, *, seed: int = 0) -> np.ndarray:
    """(N, D) float32 vectors with structure for an SAE to find: 20 of 4 D hidden directions each, plus noise."""
    rng = np.random.default_rng(seed)
    codes, _ = paired_codes(n, 4 * width, 20, seed=seed)
    noise = rng.standard_normal((n, width), dtype=np.float32)
    return np.asarray(codes.to_csr() @ dictionary(4 * width, width, seed=seed) + 0.02 * noise, np.float32)


@dataclass(frozen=True)
class RetrievalProblem:
    """Unit rows queries (Q, D) and candidates (C, D); qrels (Q, C); the same judgements as a table of names."""

    queries: np.ndarray
    candidates: np.ndarray
    qrels: sp.csr_array
    query_names: list[str]
    candidate_names: list[str]

    @property
    def judgements(self) -> tuple[list[str], list[str]]:
        """Names of the query and the candidate of every judgement, query by query."""
        rows = np.repeat(np.arange(len(self.query_names)), np.diff(self.qrels.indptr))
        return [self.query_names[row] for row in rows], [self.candidate_names[column] for column in self.qrels.indices]


def retrieval_problem(
    n_queries: int, n_candidates: int, width: int, *, relevant: int = 5, seed: int = 0
) -> RetrievalProblem:
    """Every query is its first relevant candidate under heavy noise: about half of them rank it first. Both sides
    have a common direction of their own, the modality gap."""
    rng = np.random.default_rng(seed)
    gap = rng.standard_normal((2, width), dtype=np.float32) * 0.7
    content = rng.standard_normal((n_candidates, width), dtype=np.float32)
    first = (np.arange(n_queries) * (n_candidates // max(n_queries, 1) or 1)) % n_candidates
    noise = rng.standard_normal((n_queries, width), dtype=np.float32)
    closeness = 4.5 * width**-0.5  # the best of some 10^4 random candidates lies at about four deviations
    queries = closeness * content[first] + noise + gap[0]
    content += gap[1]
    columns = (first[:, None] + np.arange(relevant) * (n_candidates // relevant)) % n_candidates
    rows = np.repeat(np.arange(n_queries), relevant)
    qrels = sp.csr_array((np.ones(columns.size, np.float32), (rows, columns.ravel())), shape=(n_queries, n_candidates))
    return RetrievalProblem(
        _unit(queries),
        _unit(content),
        qrels,
        [f"q:{i}" for i in range(n_queries)],
        [f"c:{i}" for i in range(n_candidates)],
    )


def _cumulative(weights: np.ndarray) -> np.ndarray:
    return np.cumsum(weights / weights.sum())


def _draw(rng: np.random.Generator, cumulative: np.ndarray, n: int, m: int) -> np.ndarray:
    found = np.searchsorted(cumulative, rng.random((n, m)))
    return np.minimum(found, len(cumulative) - 1).astype(np.int32)


def _first_different(draws: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k different entries of each row in the order drawn, (n, k), and which slots are used."""
    order = np.argsort(draws, axis=1, kind="stable")
    ordered = np.take_along_axis(draws, order, axis=1)
    repeated = np.zeros(draws.shape, bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    fresh = np.empty(draws.shape, bool)
    np.put_along_axis(fresh, order, ~repeated, axis=1)
    place = np.cumsum(fresh, axis=1) - 1
    row, column = true_cells(fresh & (place < k))
    slot = place[row, column]
    indices, used = np.zeros((len(draws), k), np.int32), np.zeros((len(draws), k), bool)
    indices[row, slot], used[row, slot] = draws[row, column], True
    return indices, used


def _unit(rows: np.ndarray) -> np.ndarray:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
