"""Pictures stand beside their own bars, and the chart is otherwise what it was."""

from __future__ import annotations

import pytest

from analysis.figures.concepts import concept_bars
from analysis.figures.export import figure_csv
from analysis.figures.palette import ADAPTIVE_INK
from analysis.figures.thumbnails import ROOM, beside_bars
from tests.figures.checks import assert_sound

PICTURE = "data:image/webp;base64,UklGRg=="


def bars():
    return concept_bars([4, 9, 7], [2.0, 1.5, 1.0], names={4: "dog"}, modality={4: 0.0, 9: 1.0})


def test_each_picture_stands_in_the_row_of_its_concept_and_right_of_the_bars() -> None:
    figure = beside_bars(bars(), {9: PICTURE + "nine", 4: PICTURE + "four", 7: "", 100: PICTURE})
    assert [(image.y, image.source) for image in figure.layout.images] == [(0, PICTURE + "four"), (1, PICTURE + "nine")]
    assert all(image.x > figure.layout.xaxis.domain[1] for image in figure.layout.images)
    assert figure.layout.xaxis.domain[1] == pytest.approx(1 - ROOM)
    assert_sound(figure)


def test_what_is_measured_stays_the_same() -> None:
    assert figure_csv(beside_bars(bars(), {9: PICTURE})) == figure_csv(bars())


def test_without_pictures_the_chart_is_untouched() -> None:
    assert beside_bars(bars(), {9: ""}) == bars()
    assert beside_bars(concept_bars([], [], names={}, modality={}), {1: PICTURE}) == concept_bars(
        [], [], names={}, modality={}
    )


def test_a_clicked_bar_leaves_the_numbers_of_the_others_readable_and_names_both_states() -> None:
    (trace,) = bars().data
    assert (
        trace.unselected.textfont.color == trace.selected.textfont.color == ADAPTIVE_INK
    )  # one alone breaks the click
