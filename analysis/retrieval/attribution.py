"""Which concepts make up the similarity of one query-candidate pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import RetrievalError
from analysis.retrieval.ranking.rows import VOID

if TYPE_CHECKING:
    from analysis.retrieval.ranking.transforms import (
        Transform,  # brings scipy.linalg, and the figures import this module
    )

# Parts that are no concept.
UNEXPLAINED_WORDS, SHIFT_WORDS = "not explained by the SAE", "the subtracted means"
BIAS_WORDS, BOTH_WORDS = "the SAE's decoder bias", "the decoder bias and the subtracted means"
CORRECTION_WORDS = "the hub correction"


@dataclass(frozen=True)
class PairAttribution:
    """similarity = contribution.sum() + shift + correction + unexplained. concept_ids and contribution: (n,), largest
    magnitude first; shift: what subtracted means and the SAE's decoder bias give, 0 where there is neither, shift_words: which
    of them; correction: minus the candidate's bias, 0 without a hub correction."""

    concept_ids: np.ndarray
    contribution: np.ndarray
    unexplained: float
    similarity: float
    shift: float = 0.0
    correction: float = 0.0
    shift_words: str = SHIFT_WORDS


@dataclass(frozen=True)
class _Parts:
    """A unit vector as a sum: activation (n,) times atoms (n, D), a shift (D,) and what the SAE does not reconstruct (D,)."""

    activation: np.ndarray
    atoms: np.ndarray
    shift: np.ndarray
    rest: np.ndarray
    centred: bool  # whether a transform subtracted a mean

    @property
    def explained(self) -> np.ndarray:
        return self.activation @ self.atoms + self.shift


def explain_pair(
    h_q: np.ndarray,
    h_c: np.ndarray,
    sae: Any,
    *,
    codes: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    through: tuple[Sequence[Transform], Sequence[Transform]] = ((), ()),
    positions: tuple[int | None, int | None] = (None, None),
    biased: bool = True,
) -> PairAttribution:
    """Split the cosine s of two un-normalised embeddings h_q, h_c (D,) into concepts and a rest.

    s_i = [z_q,i <D_i, h^_c> + z_c,i <D_i, h^_q>] / (2 |h_q| |h_c|), h^ = z D + bias being the reconstruction: half of
    every product counts for each side's concept, and a decoder bias counts like a concept of its own (`shift`). The rest,
    s - sum_i s_i - shift, is what the SAE does not reconstruct. Concepts of either side appear, in order of magnitude.

    codes: (concept ids, values) of query and candidate as stored; default: encoded here with `sae`. through: the
    transforms of queries and of candidates, in their order. Each is affine but for the length, which is a number, so a
    vector stays a sum of images of its parts: z_i D_i, what the SAE leaves, and the image of the subtracted means, which
    counts like a concept of its own (`shift`). biased: whether the decoder bias is part of the vectors; those of concept
    space are z D alone. positions: of both among the rows the transforms were fitted on.
    RetrievalError for a vector that is zero, at the start or after a transform.
    """
    pair = np.stack([np.asarray(h_q, np.float64).ravel(), np.asarray(h_c, np.float64).ravel()])
    given = codes if codes is not None else _encode(sae, pair)
    concept_ids = np.union1d(*(ids[values != 0] for ids, values in given)).astype(np.int64)
    atoms = np.asarray(sae.dictionary[concept_ids], np.float64)
    known = getattr(sae, "bias", None) if biased else None
    bias = np.zeros(atoms.shape[1]) if known is None else np.asarray(known, np.float64)
    query, candidate = (
        _moved(h, _spread(concept_ids, *part), atoms, bias, transforms, position, name)
        for h, part, transforms, position, name in zip(
            pair, given, through, positions, ("query", "candidate"), strict=True
        )
    )
    halves = [one.activation * (one.atoms @ other.explained) for one, other in ((query, candidate), (candidate, query))]
    contribution = (halves[0] + halves[1]) / 2
    shift = float(query.shift @ candidate.explained + candidate.shift @ query.explained) / 2
    similarity = float((query.explained + query.rest) @ (candidate.explained + candidate.rest))
    order = np.argsort(-np.abs(contribution), kind="stable")
    unexplained = similarity - shift - float(contribution.sum())
    centred = query.centred or candidate.centred
    words = SHIFT_WORDS if not bias.any() else BOTH_WORDS if centred else BIAS_WORDS
    return PairAttribution(concept_ids[order], contribution[order], unexplained, similarity, shift, shift_words=words)


def _moved(
    h: np.ndarray,
    activation: np.ndarray,
    atoms: np.ndarray,
    bias: np.ndarray,
    transforms: Sequence[Transform],
    position: int | None,
    name: str,
) -> _Parts:
    """The parts of h after the transforms, each scaled as the whole is."""
    parts = np.concatenate([atoms, bias[None], (h - activation @ atoms - bias)[None]])  # ..., shift, rest
    share = np.concatenate([activation, [1.0, 1.0]])
    parts = parts / _length(share @ parts, 0.0, name)
    centred = False
    for transform in transforms:
        origin = transform.origin(position)
        centred = centred or bool(np.any(origin))
        parts[-2] -= origin
        parts = transform.linear(parts)
        parts = parts / _length(share @ parts, VOID, name)
    return _Parts(activation, parts[:-2], parts[-2], parts[-1], centred)


def _length(x: np.ndarray, least: float, name: str) -> float:
    length = float(np.sqrt(x @ x))
    if length <= least:
        raise RetrievalError(f"The {name} has no direction to explain; expected an embedding outside the subspace.")
    return length


def compare_pairs(target: PairAttribution, winner: PairAttribution) -> tuple[np.ndarray, np.ndarray]:
    """(concept ids, differences): what each concept gives the wrong winner more than the target, largest first.

    The differences, those of `shift` and those of `unexplained` add up to the difference of the similarities.
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


def signed(value: float) -> str:
    """A contribution as words say it: three significant digits under a sign."""
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")
