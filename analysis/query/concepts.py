"""The concepts of one query: which fire on its embedding, and which tokens they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.errors import RetrievalError
from analysis.sae.encode import encode

if TYPE_CHECKING:
    from analysis.sae.checkpoint import Sae


@dataclass(frozen=True)
class QueryConcepts:
    """Concepts that fire on one embedding: ids (n,) and values (n,), strongest first."""

    ids: np.ndarray
    values: np.ndarray

    def value(self, concept: int) -> float:
        """Activation of a concept, 0 when it does not fire."""
        found = np.flatnonzero(self.ids == concept)
        return float(self.values[found[0]]) if found.size else 0.0


def query_concepts(sae: Sae, h: np.ndarray) -> QueryConcepts:
    """Concepts of an un-normalised embedding h (D,): z = rule(h W^T + b) (paper eq. 1)."""
    codes = encode(sae, np.asarray(h, np.float32).reshape(1, -1))
    live = codes.values[0] > 0
    return QueryConcepts(codes.indices[0][live].astype(np.int64), codes.values[0][live])


def token_shares(sae: Sae, states: np.ndarray, keep: np.ndarray, concept: int) -> np.ndarray:
    """(L,) what each token brings to a concept's activation on the pooled embedding.

    The encoder is linear before its ReLU, so the activation of a mean is a mean: with n kept tokens, token t brings
    (w_i . h_t) / n, and all shares plus the bias b_i add up to w_i . mean(h) + b_i, which is z_i where the concept
    fires (all times `norms`, where the SAE has them). Tokens that are not kept bring 0. RetrievalError for an unknown concept.
    """
    _check(sae, concept)
    kept = np.asarray(keep, bool)
    shares = np.zeros(len(states), np.float64)
    if kept.any():
        shares[kept] = states[kept].astype(np.float64) @ sae.encoder_weight[concept].astype(np.float64) / kept.sum()
        shares *= 1.0 if sae.norms is None else float(sae.norms[concept])
    return shares


def token_activations(sae: Sae, states: np.ndarray, concept: int) -> np.ndarray:
    """(L,) activation of a concept on each token by itself, encoded like an embedding: what an SAE that was trained on
    tokens means by "it fires here". RetrievalError for an unknown concept."""
    _check(sae, concept)
    return encode(sae, states).activation(concept)


def _check(sae: Sae, concept: int) -> None:
    if not 0 <= concept < sae.n_concepts:
        raise RetrievalError(f"Concept {concept} does not exist; expected ids from 0 to {sae.n_concepts - 1}.")
