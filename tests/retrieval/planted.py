"""Small tasks with a known answer, and the slow, plain forms that the library is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from analysis.retrieval.realign import statistics
from analysis.retrieval.task import RetrievalSpace
from analysis.sae.codes import Codes


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cloud(n: int, width: int, seed: int, *, common: float = 0.0, dtype: type = np.float32) -> np.ndarray:
    """Unit rows; `common` > 0 gives them a shared direction, as the embeddings of an MLLM have."""
    rng = np.random.default_rng(seed)
    return unit(rng.standard_normal((n, width)) + common).astype(dtype)


def random_qrels(n_queries: int, n_candidates: int, seed: int, *, most: int = 4) -> sp.csr_array:
    """0 to `most` relevant candidates a query."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((n_queries, n_candidates))
    for row in dense:
        row[rng.choice(n_candidates, rng.integers(0, most + 1), replace=False)] = 1
    return sp.csr_array(dense)


def dense_order(queries: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(order (Q, C), similarity (Q, C)): float64, ties to the lower position, one query after the other."""
    q, c = queries.astype(np.float64), candidates.astype(np.float64)
    similarity = np.round(q @ c.T, 12)
    order = np.array([sorted(range(len(c)), key=lambda j: (-row[j], j)) for row in similarity])
    return order, similarity


def dense_ranks(order: np.ndarray, qrels: sp.csr_array) -> list[int]:
    """Rank of every relevant candidate, by query, then candidate."""
    dense = qrels.toarray()
    return [1 + int(np.flatnonzero(order[q] == c)[0]) for q in range(len(order)) for c in np.flatnonzero(dense[q])]


@dataclass(frozen=True)
class TinySae:
    """A dictionary with as many of the SAE's fields as encoding needs."""

    dictionary: np.ndarray
    encoder_weight: np.ndarray
    encoder_bias: np.ndarray
    top_k: int
    threshold: float = 0.0

    @property
    def width(self) -> int:
        return self.dictionary.shape[1]

    @property
    def n_concepts(self) -> int:
        return self.dictionary.shape[0]


DISTRACTORS = (0, 1, 2)  # concepts that are loud, vary from sample to sample and say nothing about the pair


@dataclass(frozen=True)
class World:
    """A task whose pairs share quiet concepts and are drowned by three loud ones: removing those must help."""

    space: RetrievalSpace
    sae: TinySae
    codes: dict[str, Codes]
    embeddings: dict[str, np.ndarray]


def world(n: int = 60, width: int = 32, n_concepts: int = 40, *, seed: int = 0, captions: int = 1) -> World:
    """n queries, n * captions candidates; concepts 0, 1, 2 distract; the last two concepts never fire."""
    rng = np.random.default_rng(seed)
    dictionary = unit(rng.standard_normal((n_concepts, width)))
    dictionary[:3] = np.linalg.qr(rng.standard_normal((width, 3)))[0].T
    sae = TinySae(dictionary.astype(np.float32), dictionary.astype(np.float32), np.zeros(n_concepts, np.float32), 6)
    topics = np.array([rng.choice(np.arange(3, n_concepts - 2), 3, replace=False) for _ in range(n)])

    def side(repeat: int) -> Codes:
        rows = n * repeat
        own = np.repeat(topics, repeat, axis=0)
        indices = np.concatenate([np.tile(np.array(DISTRACTORS), (rows, 1)), own], axis=1).astype(np.int32)
        loud, quiet = 2 + 12 * rng.random((rows, 3)), 1 + 0.3 * rng.random((rows, 3))
        return Codes(indices, np.concatenate([loud, quiet], axis=1).astype(np.float32), n_concepts)

    codes = {"queries": side(1), "candidates": side(captions)}
    embeddings = {
        name: (part.to_csr() @ dictionary + 0.05 * rng.standard_normal((len(part), width))).astype(np.float32)
        for name, part in codes.items()
    }
    candidate_of = np.arange(n * captions)
    qrels = sp.csr_array((np.ones(n * captions), (candidate_of // captions, candidate_of)), shape=(n, n * captions))
    energy = np.concatenate([codes["queries"].to_csr().toarray(), codes["candidates"].to_csr().toarray()]).mean(axis=0)
    attribution = np.zeros(n_concepts)
    for q, c in zip(candidate_of // captions, candidate_of, strict=True):
        z_q, z_c = codes["queries"][[q]].to_csr().toarray()[0], codes["candidates"][[c]].to_csr().toarray()[0]
        attribution += z_q * (dictionary @ (z_c @ dictionary)) + z_c * (dictionary @ (z_q @ dictionary))
    modality = np.where(energy > 0, np.linspace(0, 1, n_concepts), np.nan)
    scores = {"energy": energy, "attribution": attribution, "modality_score": modality, "bridge_max": attribution**2}
    space = RetrievalSpace(
        queries={"mean": embeddings["queries"], "last": embeddings["queries"][:, ::-1].copy()},
        candidates={"mean": embeddings["candidates"], "last": embeddings["candidates"][:, ::-1].copy()},
        qrels=qrels,
        scores=scores,
        load_sae=lambda: sae,
        stored_statistics=lambda side, variant: (
            statistics(embeddings["queries"]) if (side, variant) == ("queries", "mean") else None
        ),
        stored_codes=lambda name, variant: codes[name] if variant == "mean" else None,
        query_names=np.array([f"q:{i}" for i in range(n)]),
        candidate_names=np.array([f"c:{i}" for i in range(n * captions)]),
        task="i2t",
        label="planted",
    )
    return World(space, sae, codes, embeddings)


def row_of(table: pd.DataFrame, spec: str, k: int) -> pd.Series:
    """The row of one method and cut-off in a table of `evaluate`."""
    return table[(table["spec"] == spec) & (table["k"] == k)].iloc[0]
