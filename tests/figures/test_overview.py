"""Modality scores, cumulative energy and the overlap table, on planted numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.figures import overview
from analysis.figures.palette import IMAGE, TEXT, backbone_styles
from analysis.figures.style import DECORATION, Curve
from analysis.report.published import published
from tests.figures.checks import assert_sound, trace

GRID = np.linspace(0, 1, 65)


def curves(names=("clip-mini", "qwen2-vl-mini")):
    return [
        Curve(name, GRID, 1 + GRID * i, style)
        for i, (name, style) in enumerate(zip(names, backbone_styles(names), strict=True))
    ]


def energies(*shares):
    return [Curve(f"model {i}", np.arange(1, len(s) + 1), np.asarray(s, float)) for i, s in enumerate(shares)]


def test_modality_curves_are_overlaid_and_the_axis_says_which_end_is_text():
    figure = overview.modality_kde(curves(), data="EmojiScenes test")
    assert_sound(figure)
    assert [part.name for part in figure.data] == ["clip-mini", "qwen2-vl-mini"]
    assert "0 = image, 1 = text" in figure.layout.xaxis.title.text
    assert "Eq. 4" in figure.layout.xaxis.title.text
    assert [part.line.dash for part in figure.data] == ["solid", "dash"]
    ends = {note.x: note.font.color for note in figure.layout.annotations}
    assert ends == {0.0: IMAGE, 1.0: TEXT}


def test_the_two_weightings_are_told_apart():
    plain, weighted = (overview.modality_kde(curves(), weighting=w) for w in ("concepts", "energy"))
    assert plain.layout.yaxis.title.text != weighted.layout.yaxis.title.text
    assert "energy" in weighted.layout.meta["caption"]


def test_no_model_chosen_gives_an_empty_picture_with_axes():
    assert_sound(overview.modality_kde([]))
    assert_sound(overview.cumulative_energy([]))


def test_readouts_are_the_first_n_that_reach_the_level():
    energy = np.array([50.0, 30.0, 15.0, 4.0, 1.0])
    share = np.cumsum(energy) / energy.sum()
    loop = {
        level: next(n for n in range(1, 6) if energy[:n].sum() / 100 >= level - 1e-12) for level in (0.5, 0.9, 0.99)
    }
    assert overview.energy_readout(share) == loop == {0.5: 1, 0.9: 3, 0.99: 4}
    assert overview.energy_readout(np.array([0.2, 0.4])) == {0.5: 0, 0.9: 0, 0.99: 0}


def test_energy_is_drawn_on_a_log_axis_with_its_readouts_marked():
    figure = overview.cumulative_energy(energies([0.5, 0.8, 0.95, 0.99, 1.0]))
    assert_sound(figure)
    assert figure.layout.xaxis.type == "log"
    marks = next(part for part in figure.data if part.meta == DECORATION)
    assert list(marks.x) == [1, 3, 4]
    assert list(marks.y) == [50, 90, 99]
    assert "%" in figure.layout.yaxis.title.text


def test_relative_ranks_compare_dictionaries_of_different_size():
    figure = overview.cumulative_energy(energies([0.5, 1.0], [0.25, 0.5, 0.75, 1.0]), relative=True)
    assert [part.x[-1] for part in figure.data if part.meta != DECORATION] == [100, 100]


def test_a_long_curve_is_thinned_but_keeps_its_ends():
    share = np.linspace(1 / 32768, 1, 32768)
    drawn = overview.cumulative_energy(energies(share)).data[0]
    assert len(drawn.x) <= 400
    assert (drawn.x[0], drawn.x[-1]) == (1, 32768)
    assert np.allclose(drawn.y, 100 * drawn.x / 32768)


def test_energy_table_has_one_row_per_model():
    table = overview.energy_table(energies([0.5, 1.0]))
    assert table.to_dict("records") == [
        {"model": "model 0", "50% of the energy": 1, "90% of the energy": 2, "99% of the energy": 2, "concepts": 2}
    ]


def test_measured_and_published_overlaps_never_share_a_frame():
    record = {"model": "clip-mini", "share": 0.01, "reduction": "max", "energy_attribution": 0.5, "triple": 0.25}
    tables = overview.jaccard_table([record], published("table1"))
    assert list(tables.measured["model"]) == ["clip-mini"]
    assert "clip-mini" not in set(tables.published["model"])
    assert list(tables.published.columns[2:]) == list(overview.OVERLAPS.values())
    qwen = tables.published.set_index("model").loc["Qwen2-VL-7B-Instruct"]
    assert qwen["J(E, B)"] == pytest.approx(0.7957)
    assert set(tables.published["source"]) == {"paper, Table 1"}
    assert pd.isna(tables.measured.loc[0, "J(E, B)"])


def test_curves_are_named_in_the_legend():
    assert trace(overview.modality_kde(curves()), "clip-mini").line.width > 0


def test_readouts_stand_on_the_outer_side_of_curves_that_cross():
    n = np.arange(1, 101)
    early = Curve("early", n, np.minimum(1, 0.5 + 0.5 * n / 100))  # half of it at once, the rest slowly
    late = Curve("late", n, np.minimum(1, n / 40))  # slower to half, first to all
    figure = overview.cumulative_energy([early, late])
    marks = {t.name: t for t in figure.data if t.mode == "markers+text"}
    assert list(marks["early"].x) == [1, 80, 98]
    assert list(marks["late"].x) == [20, 36, 40]
    assert list(marks["early"].textposition) == ["top left", "bottom right", "bottom right"]
    assert list(marks["late"].textposition) == ["bottom right", "top left", "top left"]
