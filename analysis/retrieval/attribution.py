"""Which concepts make up the similarity of one query-candidate pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.removal import check_basis
from analysis.retrieval.rows import VOID


@dataclass(frozen=True)
class PairAttribution:
    """similarity = contribution.sum() + unexplained. concept_ids and contribution: (n,), largest magnitude first."""

    concept_ids: np.ndarray
    contribution: np.ndarray
    unexplained: float
    similarity: float


def explain_pair(
    h_q: np.ndarray,
    h_c: np.ndarray,
    sae: Any,
    *,
    codes: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    basis: np.ndarray | None = None,
) -> PairAttribution:
    """Split the cosine s of two un-normalised embeddings h_q, h_c (D,) into concepts and a rest.

    s_i = [z_q,i <D_i, h^_c> + z_c,i <D_i, h^_q>] / (2 |h_q| |h_c|), h^ = z D being the reconstruction: half of every
    product counts for each side's concept. The rest, s - sum_i s_i, is what the SAE does not reconstruct. Concepts of
    either side appear, in order of magnitude.

    codes: (concept ids, values) of query and candidate as stored; default: encoded here with `sae`. basis (r, D): the
    similarity that is left when this subspace is removed; the projection is linear, so the same sum holds with
    projected vectors. Whitening is not explained: it is affine, and atoms have no place in the whitened space.
    RetrievalError for a zero vector or one that lies inside the subspace.
    """
    pair = np.stack([np.asarray(h_q, np.float64).ravel(), np.asarray(h_c, np.float64).ravel()])
    (q_ids, q_values), (c_ids, c_values) = codes if codes is not None else _encode(sae, pair)
    concept_ids = np.union1d(q_ids[q_values > 0], c_ids[c_values > 0]).astype(np.int64)
    atoms = np.asarray(sae.dictionary[concept_ids], np.float64)
    activation = np.stack([_spread(concept_ids, q_ids, q_values), _spread(concept_ids, c_ids, c_values)])
    original = np.sqrt(np.einsum("ij,ij->i", pair, pair))
    reconstruction = activation @ atoms
    if basis is not None:
        check_basis(basis, pair.shape[1])
        pair = pair - (pair @ basis.T) @ basis
        reconstruction = reconstruction - (reconstruction @ basis.T) @ basis
    length = np.sqrt(np.einsum("ij,ij->i", pair, pair))
    if (length <= VOID * original).any():
        side = ("query", "candidate")[int(np.argmin(length))]
        raise RetrievalError(f"The {side} has no direction to explain; expected an embedding outside the subspace.")
    halves = activation * (reconstruction[::-1] @ atoms.T)  # z_q,i <D_i, h^_c> and z_c,i <D_i, h^_q>
    contribution = halves.sum(axis=0) / (2 * length[0] * length[1])
    similarity = float(pair[0] @ pair[1] / (length[0] * length[1]))
    order = np.argsort(-np.abs(contribution), kind="stable")
    return PairAttribution(concept_ids[order], contribution[order], similarity - float(contribution.sum()), similarity)


def compare_pairs(target: PairAttribution, winner: PairAttribution) -> tuple[np.ndarray, np.ndarray]:
    """(concept ids, differences): what each concept gives the wrong winner more than the target, largest first.

    The differences and winner.unexplained - target.unexplained add up to the difference of the similarities.
    """
    concept_ids = np.union1d(target.concept_ids, winner.concept_ids)
    difference = _spread(concept_ids, winner.concept_ids, winner.contribution)
    difference -= _spread(concept_ids, target.concept_ids, target.contribution)
    order = np.argsort(-difference, kind="stable")
    return concept_ids[order], difference[order]


def _spread(concept_ids: np.ndarray, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at the places of their ids in the sorted concept_ids; unused slots (value 0) have no place."""
    result = np.zeros(len(concept_ids))
    used = np.flatnonzero(values)
    result[np.searchsorted(concept_ids, ids[used])] = values[used]
    return result


def _encode(sae: Any, pair: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    from analysis.sae.encode import encode

    codes = encode(sae, pair.astype(np.float32), batch_size=2, device="cpu")
    return (codes.indices[0], codes.values[0]), (codes.indices[1], codes.values[1])
