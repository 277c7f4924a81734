"""Token strip and patch grid: every token once, in order, clickable, coloured by role."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from analysis.figures import tokens
from analysis.figures.palette import HATCH, IMAGE, TEXT, channels
from tests.figures.checks import assert_sound, trace

WORDS = ["<s>", "<img>", "<img>", "Ġa", "Ġdog", "\n", "Summarize", "<pad>"]
ROLES = np.array([1, 2, 2, 3, 3, 4, 4, 0], np.int8)


def strip(**changes):
    return tokens.token_strip(changes.pop("words", WORDS), changes.pop("roles", ROLES), **changes)


def css(color: str) -> str:
    return "rgba({},{},{}".format(*channels(color))


def test_roles_are_numbered_as_the_models_number_them():
    pooling = pytest.importorskip("analysis.models.pooling")
    assert [role.name.lower() for role in sorted(pooling.Role)] == list(tokens.ROLES)


def test_every_token_but_padding_is_one_cell_with_its_position():
    figure = strip()
    assert_sound(figure)
    assert sorted(int(i) for part in figure.data for i in part.customdata) == list(range(7))
    assert list(trace(figure, "image").customdata) == [1, 2]
    assert "7 tokens" in figure.layout.meta["caption"]


def test_image_tokens_are_blue_text_tokens_red_and_masked_ones_hatched_grey():
    masked = np.zeros(8, bool)
    masked[[2, 4]] = True
    figure = strip(masked=masked)
    assert trace(figure, "image").marker.color.startswith(css(IMAGE))
    assert trace(figure, "text").marker.color.startswith(css(TEXT))
    assert list(trace(figure, "image").customdata) == [1]
    assert list(trace(figure, "masked").customdata) == [2, 4]
    assert trace(figure, "masked").marker.pattern.shape == HATCH
    assert "2 masked" in figure.layout.meta["caption"]


def test_cells_follow_each_other_without_overlap_and_wrap_at_the_line():
    words = ["word"] * 60
    figure = strip(words=words, roles=[3] * 60, line=40)
    bar = figure.data[0]
    left, right = bar.x - bar.width / 2, bar.x + bar.width / 2
    assert right.max() <= 40
    for row in np.unique(bar.base):
        on_row = bar.base == row
        assert (left[on_row][1:] >= right[on_row][:-1]).all()
    assert len(np.unique(bar.base)) > 1


def test_words_are_written_without_subword_marks_and_without_markup():
    texts = [note.text for note in strip(words=["<b>", *WORDS[1:]]).layout.annotations]
    assert texts == ["&lt;b&gt;", "a", "dog", "⏎", "Summarize"]


def test_activation_shades_cells_from_pale_to_strong():
    activation = np.zeros(8)
    activation[[1, 4]] = [1.0, 2.0]
    figure = strip(activation=activation, concept="concept 7")
    bar = trace(figure, "concept 7")
    alpha = {int(i): float(c.rsplit(",", 1)[1][:-1]) for i, c in zip(bar.customdata, bar.marker.color, strict=True)}
    assert alpha[4] > alpha[1] > alpha[0] == alpha[3]
    assert "shaded by concept 7" in figure.layout.meta["caption"]


def test_a_very_long_input_is_bounded_and_says_so():
    figure = strip(words=["w" * 500] * 3000, roles=[3] * 3000)
    assert sum(len(part.x) for part in figure.data) == 1600
    assert len(figure.layout.annotations) == 400
    assert "the first 1600 are drawn" in figure.layout.meta["caption"]
    assert_sound(strip(words=[], roles=[]))


def grid(rows=2, columns=3, **changes):
    return tokens.patch_grid(Image.new("RGB", (60, 40), "white"), (rows, columns), **changes)


def test_patches_tile_the_picture_row_by_row():
    figure = grid(token_ids=range(10, 16))
    assert_sound(figure)
    bar = figure.data[0]
    cells = {int(i): (x - 0.5, base) for i, x, base in zip(bar.customdata, bar.x, bar.base, strict=True)}
    assert cells == {10: (0, 0), 11: (1, 0), 12: (2, 0), 13: (0, 1), 14: (1, 1), 15: (2, 1)}
    picture = figure.layout.images[0]
    assert (picture.sizex, picture.sizey) == (3, 2)
    assert picture.source.startswith("data:image/webp;base64,")
    assert figure.layout.yaxis.range == (2, 0)


def test_a_grid_over_a_part_leaves_the_rest_of_the_picture_uncovered():
    figure = tokens.patch_grid(Image.new("RGB", (80, 40), "white"), (2, 2), box=(0.25, 0, 0.75, 1))
    picture, bar = figure.layout.images[0], figure.data[0]
    assert (picture.x, picture.sizex, picture.y, picture.sizey) == (-1, 4, 0, 2)
    assert figure.layout.xaxis.range == (-1, 3)
    assert sorted(set(bar.x)) == [0.5, 1.5]
    assert figure.layout.yaxis.scaleratio == pytest.approx(1)


def test_a_patch_keeps_the_aspect_ratio_of_the_picture():
    axis = grid().layout.yaxis
    assert axis.scaleanchor == "x"
    assert axis.scaleratio == pytest.approx((40 / 2) / (60 / 3))


def test_masked_patches_are_hatched_and_keep_their_ids():
    masked = np.array([True, False, False, False, False, True])
    figure = grid(masked=masked)
    assert list(trace(figure, "masked").customdata) == [0, 5]
    assert trace(figure, "masked").marker.pattern.shape == HATCH
    assert len(trace(figure, "patches").x) == 4


def test_patches_where_the_concept_is_silent_stay_clear():
    bar = grid(activation=np.array([0, 0, 0, 0, 3.0, 0]), concept="dog").data[0]
    alpha = [float(color.rsplit(",", 1)[1][:-1]) for color in bar.marker.color]
    assert alpha.index(max(alpha)) == 4
    assert alpha[0] == 0
    assert_sound(grid(activation=np.zeros(6)))


def test_the_picture_stays_visible_below_the_strongest_patch():
    bar = grid(activation=np.array([0, 1.0, 2, 3, 4, 5]), concept="dog").data[0]
    alpha = [float(color.rsplit(",", 1)[1][:-1]) for color in bar.marker.color]
    assert alpha == sorted(alpha)
    assert max(alpha) <= 0.4
    assert list(bar.marker.line.width) == sorted(bar.marker.line.width)
    assert bar.marker.line.width[-1] > 2 * bar.marker.line.width[0]


def test_tokens_set_aside_are_dotted_and_do_not_pale_the_others():
    activation = np.array([0.0, 1, 2, 3, 4, 5, 6, 0])
    aside = np.zeros(8, bool)
    aside[6] = True
    full = trace(strip(activation=activation, concept="c"), "c")
    part = strip(activation=activation, aside=aside, concept="c")
    dotted = trace(part, "aside")
    assert list(dotted.customdata) == [6]
    assert dotted.marker.pattern.shape == "."
    shades = {
        where: dict(zip(map(int, bar.customdata), bar.marker.color, strict=True))
        for where, bar in (("full", full), ("part", trace(part, "c")))
    }
    assert shades["part"][5] == shades["full"][6]
    assert "do not count" in part.layout.meta["caption"]
