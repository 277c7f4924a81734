"""The bars of one similarity add up to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from analysis.figures.pairs import TOTAL, pair_attribution, pair_table
from analysis.figures.palette import LOST, TARGET
from tests.figures.checks import assert_sound


@dataclass(frozen=True)
class Pair:
    concept_ids: np.ndarray
    contribution: np.ndarray
    unexplained: float
    similarity: float


def pair(seed: int, n: int = 30) -> Pair:
    rng = np.random.default_rng(seed)
    contribution = rng.normal(0, 0.05, n)
    unexplained = float(rng.normal(0, 0.1))
    ids = rng.choice(60, n, replace=False)
    return Pair(ids, contribution, unexplained, float(contribution.sum() + unexplained))


@pytest.mark.parametrize("top", [3, 10, 100])
def test_every_column_adds_up_to_its_similarity(top):
    target, wrong = pair(0), pair(1)
    table = pair_table(target, wrong, names={}, top=top)
    parts, total = table.iloc[:-1], table.iloc[-1]
    assert total["label"] == TOTAL
    for column, value in (("target", target.similarity), ("wrong", wrong.similarity)):
        assert total[column] == pytest.approx(value)
        assert parts[column].sum() == pytest.approx(value, abs=1e-12)
    assert parts["difference"].sum() == pytest.approx(target.similarity - wrong.similarity, abs=1e-12)


def test_the_largest_difference_stands_first():
    target, wrong = pair(0), pair(1)
    a = dict(zip(target.concept_ids.tolist(), target.contribution.tolist(), strict=True))
    b = dict(zip(wrong.concept_ids.tolist(), wrong.contribution.tolist(), strict=True))
    loop = max(a.keys() | b.keys(), key=lambda i: abs(a.get(i, 0) - b.get(i, 0)))
    assert pair_table(target, wrong, names={}).loc[0, "concept"] == loop


def test_green_speaks_for_the_target_amber_against_and_what_is_not_a_concept_is_hatched():
    figure = pair_attribution(pair(0), pair(1), names={}, top=4)
    assert_sound(figure)
    target, wrong, difference, *below = figure.data
    assert (target.marker.color, wrong.marker.color) == (TARGET, LOST)
    assert [color == TARGET for color in difference.marker.color] == [bool(v >= 0) for v in difference.x]
    assert all(bar.marker.pattern.shape for bar in below)
    assert not target.marker.pattern.shape
    assert len(target.x) == 4
    assert all(i >= 0 for i in target.customdata)
    assert all(i == -1 for i in below[0].customdata)


def test_two_pairs_without_any_concept_still_show_the_sum():
    empty = Pair(np.zeros(0, int), np.zeros(0), 0.4, 0.4)
    figure = pair_attribution(empty, empty, names={})
    assert_sound(figure)
    assert pair_table(empty, empty, names={}).iloc[-1]["target"] == pytest.approx(0.4)
