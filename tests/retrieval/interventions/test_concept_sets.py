"""Which concepts a removal means."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import RetrievalError
from analysis.retrieval.interventions import Removal
from analysis.retrieval.interventions.concept_sets import concept_ids

TABLE = {
    "energy": np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.5, 0.4, 0.3]),
    "attribution": np.array([0.0, 7.0, 9.0, 7.0, -1.0, np.nan, 0.0, 2.0, 2.0, 2.0]),
    "modality_score": np.array([0.5, 1.0, 0.0, 1.0, 0.2, np.nan, np.nan, 0.9, 0.0, 0.6]),
}


def ids(removal: Removal) -> list[int]:
    return concept_ids(removal, lambda name: TABLE[name]).tolist()


@pytest.mark.parametrize(
    ("removal", "expected"),
    [
        (Removal(share=0.1), [2]),
        (Removal(share=0.35), [2, 1, 3]),  # equal scores: the stronger concept first
        (Removal(share=0.01), [2]),  # at least one
        (Removal(share=0.6), [2, 1, 3, 7, 8, 9]),
        (Removal(share=1.0), [2, 1, 3, 7, 8, 9, 0, 6, 4]),  # NaN never
        (Removal(share=1.0, base="live"), [2, 1, 3, 7, 8, 9, 0, 4]),  # 6 never fires
        (Removal("energy", share=0.3), [0, 1, 2]),
        (Removal("modality_text", share=0.2), [1, 3]),
        (Removal("modality_image", share=0.2), [2, 8]),
        (Removal("concepts", concepts=(9, 3, 9)), [3, 9]),
    ],
)
def test_the_chosen_concepts(removal, expected):
    assert ids(removal) == expected


def test_the_share_is_of_all_or_of_live_concepts():
    assert len(ids(Removal("energy", share=0.5))) == 5
    assert len(ids(Removal("energy", share=0.5, base="live"))) == 4


def test_a_share_that_is_exact_in_decimals_is_not_rounded_down():
    energy = np.arange(1.0, 101.0)
    for percent in range(1, 101):
        assert len(concept_ids(Removal("energy", share=percent / 100), lambda name: energy)) == percent


def test_random_concepts_are_live_and_depend_on_the_seed_only():
    drawn = [ids(Removal("random", share=0.4, seed=seed)) for seed in range(50)]
    assert drawn[7] == ids(Removal("random", share=0.4, seed=7))
    assert all(len(set(found)) == 4 and not set(found) & {5, 6} for found in drawn)
    assert len({tuple(found) for found in drawn}) > 20
    assert set().union(*drawn) == {0, 1, 2, 3, 4, 7, 8, 9}


def test_no_scored_concept_is_refused():
    with pytest.raises(RetrievalError, match="No concept has a score"):
        concept_ids(Removal(), lambda name: np.full(4, np.nan))
