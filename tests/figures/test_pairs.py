"""The bars of one similarity add up to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from analysis.figures.pairs import TOTAL, pair_attribution, pair_table
from analysis.figures.palette import LOST, TARGET, rgba
from analysis.figures.style import score
from analysis.retrieval.attribution import SHIFT_WORDS
from tests.figures.checks import assert_sound


@dataclass(frozen=True)
class Pair:
    concept_ids: np.ndarray
    contribution: np.ndarray
    unexplained: float
    similarity: float
    shift: float = 0.0
    shift_words: str = SHIFT_WORDS


def pair(seed: int, n: int = 30, *, shift: float = 0.0) -> Pair:
    rng = np.random.default_rng(seed)
    contribution = rng.normal(0, 0.05, n)
    unexplained = float(rng.normal(0, 0.1))
    ids = rng.choice(60, n, replace=False)
    return Pair(ids, contribution, unexplained, float(contribution.sum() + unexplained) + shift, shift)


@pytest.mark.parametrize("shift", [0.0, -0.2])
@pytest.mark.parametrize("top", [3, 10, 100])
def test_every_column_adds_up_to_its_similarity(top, shift):
    target, wrong = pair(0, shift=shift), pair(1, shift=2 * shift)
    table = pair_table(target, wrong, names={}, top=top)
    parts, total = table.iloc[:-1], table.iloc[-1]
    assert total["label"] == TOTAL
    assert (SHIFT_WORDS in set(parts["label"])) == bool(shift)
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


def test_green_speaks_for_the_target_amber_against_and_what_is_no_concept_is_pale():
    figure = pair_attribution(pair(0), pair(1), names={}, top=4)
    assert_sound(figure)
    target, wrong, difference, *legend = figure.data
    assert [(swatch.name, swatch.marker.color) for swatch in legend] == [(target.name, TARGET), (wrong.name, LOST)]
    assert list(target.marker.color) == [TARGET] * 4 + [rgba(TARGET, 0.5)] * 2
    assert list(wrong.marker.color) == [LOST] * 4 + [rgba(LOST, 0.5)] * 2
    assert [color == TARGET for color in difference.marker.color[:4]] == [bool(v >= 0) for v in difference.x[:4]]
    assert list(target.customdata[4:]) == [-1, -1]
    assert len(target.x) == 6


def test_bars_of_a_column_share_one_scale_and_their_sum_is_said():
    one, other = pair(0), pair(1)
    figure = pair_attribution(one, other, names={}, top=4)
    assert len({bar.xaxis for bar in figure.data}) == 2
    for bar, found in zip(figure.data, (one, other), strict=False):
        assert sum(bar.x) == pytest.approx(found.similarity)
        assert score(found.similarity) in bar.name
    gap = f"{one.similarity - other.similarity:+.3f}".replace("-", "\N{MINUS SIGN}")
    assert gap in figure.layout.xaxis2.title.text


def test_removed_concepts_are_hatched_and_named():
    one, other = pair(0), pair(1)
    removed = set(pair_table(one, other, names={}, top=4)["concept"].iloc[:2])
    figure = pair_attribution(one, other, names={}, top=4, removed=removed)
    for bar in figure.data[:3]:
        assert [bool(shape) for shape in bar.marker.pattern.shape] == [i in removed for i in bar.customdata]
        assert [label.endswith("(removed)") for label in bar.y] == [i in removed for i in bar.customdata]


def test_two_pairs_without_any_concept_still_show_the_sum():
    empty = Pair(np.zeros(0, int), np.zeros(0), 0.4, 0.4)
    figure = pair_attribution(empty, empty, names={})
    assert_sound(figure)
    assert pair_table(empty, empty, names={}).iloc[-1]["target"] == pytest.approx(0.4)
