"""Lines from the rank before to the rank after."""

from __future__ import annotations

import pytest

from analysis.figures.movement import rank_movement
from analysis.figures.palette import LOST, TARGET
from tests.figures.checks import assert_sound


def test_rank_lines_join_the_places_of_each_candidate():
    figure = rank_movement([7, 8, 9], [9, 7, 5], targets=[9], labels={7: "a <dog>", 9: "a cat"}, rank_before={5: 40})
    assert_sound(figure)
    places = {part.customdata[0]: tuple(part.y) for part in figure.data}
    beyond = pytest.approx(4.3)
    assert places[9] == (3, 1)
    assert places[7] == (1, 2)
    assert places[8] == (2, beyond)
    assert places[5] == (beyond, 3)
    target = next(part for part in figure.data if part.customdata[0] == 9)
    assert target.line.color == TARGET
    assert target.marker.symbol == "star"
    assert next(part for part in figure.data if part.customdata[0] == 8).line.color == LOST
    words = [note.text for note in figure.layout.annotations]
    assert any("▲2" in text and "a cat" in text for text in words)
    assert any("a &lt;dog&gt;" in text for text in words)


def test_a_target_beyond_the_list_keeps_its_rank_in_words():
    figure = rank_movement([1, 2], [2, 3], targets=[3], labels={}, rank_before={3: 31})
    assert any("31" in note.text for note in figure.layout.annotations)


def test_an_empty_list_is_drawn_empty():
    assert_sound(rank_movement([], [], targets=[], labels={}))
