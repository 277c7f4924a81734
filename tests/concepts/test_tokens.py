"""Concepts on tokens: aggregation, spikes on tokens that say nothing of a sample, what fires on one token and where else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from analysis.concepts.tokens import MAX, MEAN, concepts_at, elsewhere, lay_out, set_apart, spike, strengths
from analysis.sae.codes import Codes

PAD, TEMPLATE, IMAGE, TEXT, INSTRUCTION = range(5)


@dataclass(frozen=True)
class Sample:
    row: int
    roles: np.ndarray
    codes: Codes


def sample(row: int, roles: list[int], dense: list[list[float]]) -> Sample:
    values = np.asarray(dense, np.float32)
    indices = np.tile(np.arange(values.shape[1], dtype=np.int32), (len(values), 1))
    return Sample(row, np.asarray(roles, np.int8), Codes(indices, values, values.shape[1]))


# Columns: concept 0 spikes on the template, 1 lives on one word, 2 on the second sample alone.
FIRST = sample(7, [PAD, TEMPLATE, TEXT, TEXT, INSTRUCTION], [[9, 9, 9], [8, 0, 0], [1, 0, 0], [0, 4, 0], [0, 1, 0]])
SECOND = sample(9, [TEXT, IMAGE, IMAGE], [[5, 0, 0], [0, 2, 3], [2, 0, 6]])
TOKENS = lay_out([FIRST, SECOND])


def test_padding_is_no_token_and_the_first_token_is_set_apart_whatever_its_role() -> None:
    assert set_apart(FIRST.roles).tolist() == [False, True, False, False, True]
    assert set_apart(SECOND.roles).tolist() == [True, False, False]
    assert len(TOKENS.sample) == 7
    assert TOKENS.position.tolist() == [1, 2, 3, 4, 0, 1, 2]


@pytest.mark.parametrize(
    ("concept", "how", "everything", "expected"),
    [
        (0, MAX, True, [8, 5]),
        (0, MAX, False, [1, 2]),
        (0, MEAN, True, [9 / 4, 7 / 3]),
        (0, MEAN, False, [1 / 2, 1]),
        (2, MAX, False, [0, 6]),
    ],
)
def test_aggregations_are_those_of_a_loop(concept: int, how: str, everything: bool, expected: list[float]) -> None:
    assert strengths(TOKENS, concept, how, everything=everything) == pytest.approx(expected)


def test_a_spike_is_named_where_the_template_is_louder_than_all_content() -> None:
    found = spike(TOKENS, 0)
    assert found is not None
    assert (TOKENS.sample[found.token], TOKENS.position[found.token]) == (0, 1)
    assert found.times == pytest.approx(4)
    assert spike(TOKENS, 1) is None
    assert spike(TOKENS, 2) is None


def test_a_token_gives_its_concepts_and_they_the_other_samples() -> None:
    assert concepts_at(TOKENS, 9, 1) == [(2, 3.0), (1, 2.0)]
    assert concepts_at(TOKENS, 9, 40) == concepts_at(TOKENS, 1, 0) == []
    assert elsewhere(TOKENS, 1, but=7, everything=False) == [(9, 1, 2.0)]
    assert elsewhere(TOKENS, 0, but=9, everything=True) == [(7, 1, 8.0)]
    assert elsewhere(TOKENS, 0, but=9, everything=False) == [(7, 2, 1.0)]
    assert elsewhere(TOKENS, 2, but=9, everything=True) == []


def test_no_views_give_no_tokens() -> None:
    none = lay_out([])
    assert not len(none.activation(0))
    assert spike(none, 0) is None
