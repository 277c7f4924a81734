"""Recall bars, tables and curves, and the movement of ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.figures import recall
from analysis.figures.palette import HATCH, method_style
from analysis.figures.style import DECORATION, Curve
from tests.figures.checks import assert_sound, trace

METHODS = ["base", "removal (attribution)", "random, 10 seeds"]


def frame(ks=(1, 5, 10)):
    rows = [
        {
            "method": method,
            "k": k,
            "recall": value * k / 10,
            "low": value * k / 10 - 0.01,
            "high": value * k / 10 + 0.02,
        }
        for k in ks
        for method, value in zip(METHODS, (0.2, 0.4, 0.1), strict=True)
    ]
    return pd.DataFrame(rows)


def curve(label="removal (attribution)", y=(0.02, 0.04, 0.01)):
    y = np.array(y)
    return Curve(label, np.array([0.001, 0.01, 0.1]), y, method_style(label), y - 0.03, y + 0.01)


def test_bars_show_one_panel_per_k_with_whiskers_and_numbers():
    figure = recall.recall_bars(frame(), data="i2t")
    assert_sound(figure)
    assert [bar.name for bar in figure.data] == ["R@1", "R@5", "R@10"]
    bar = trace(figure, "R@5")
    assert list(bar.y) == METHODS
    assert np.allclose(bar.x, [10, 20, 5])
    assert np.allclose(bar.error_x.array, 2)
    assert np.allclose(bar.error_x.arrayminus, 1)
    assert [note.text for note in figure.layout.annotations][:3] == ["2.0", "4.0", "1.0"]
    assert "%" in figure.layout.xaxis.title.text


def test_figures_that_stand_together_share_their_axes():
    low, high = frame(), frame().assign(recall=lambda rows: 3 * rows["recall"], high=lambda rows: 3 * rows["high"])
    reach = recall.furthest([low, high])
    assert reach == pytest.approx({k: high[high["k"] == k]["high"].max() for k in (1, 5, 10)})
    drawn = [recall.recall_bars(part, reach=reach) for part in (low, high)]
    for axis in ("xaxis", "xaxis2", "xaxis3"):
        ends = [figure.layout[axis].range[1] for figure in drawn]
        assert ends[0] == pytest.approx(ends[1])
        assert recall.recall_bars(low).layout[axis].range[1] < ends[0]


def test_controls_are_hatched_and_methods_are_not():
    shapes = recall.recall_bars(frame()).data[0].marker.pattern.shape
    assert list(shapes) == ["", "", HATCH]


def test_a_method_without_interval_or_number_is_a_dash_not_nan():
    rows = frame((1,))
    rows.loc[1, ["recall", "low", "high"]] = np.nan
    rows.loc[2, ["low", "high"]] = np.nan
    figure = recall.recall_bars(rows)
    assert_sound(figure)
    assert [note.text for note in figure.layout.annotations] == ["2.0", "–", "1.0"]
    assert list(figure.data[0].error_x.array)[1:] == [0, 0]


def test_no_rows_give_an_empty_picture():
    assert_sound(recall.recall_bars(frame().iloc[:0]))


def test_the_table_has_percent_interval_and_difference_to_base():
    table = recall.recall_table(frame((1,))).set_index("method")
    assert np.allclose(table["R@1 (%)"], [2, 4, 1])
    assert table.loc["base", "R@1 interval"] == "[1.0, 4.0]"
    assert np.allclose(table["R@1 change"], [0, 2, -1])


def test_a_paired_difference_wins_over_the_plain_one():
    rows = frame((1,)).assign(difference=0.5, difference_low=0.4, difference_high=0.6)
    table = recall.recall_table(rows)
    assert np.allclose(table["R@1 change"], 50)
    assert set(table["R@1 change interval"]) == {"[40.0, 60.0]"}


def test_a_sweep_becomes_a_curve_of_one_cut_off_in_order():
    table = pd.DataFrame({"x": [8, 2, 8, 2], "k": [1, 1, 5, 5], "recall": [0.3, 0.1, 0.6, 0.4]})
    table = table.assign(low=table["recall"] - 0.05, high=table["recall"] + 0.05)
    curve_ = recall.sweep_curve(table, k=5, label="removal")
    assert curve_.x.tolist() == [2, 8]
    assert curve_.y.tolist() == [0.4, 0.6]
    assert np.allclose(curve_.high, [0.45, 0.65])
    assert curve_.style == method_style("removal")


def test_the_curve_draws_methods_intervals_levels_and_the_control_band():
    control = curve("random, 10 seeds", (0.02, 0.015, 0.01))
    level = Curve("base", np.zeros(1), np.array([0.025]), method_style("base"))
    figure = recall.recall_curve(
        [curve()], title="share", percent=True, k=1, bands=[control], levels=[level], current=0.01, chosen=0.1
    )
    assert_sound(figure)
    assert [part.name for part in figure.data if part.meta != DECORATION] == [
        "random, 10 seeds",
        "base",
        "removal (attribution)",
    ]
    hatched = [part for part in figure.data if part.meta == DECORATION and part.fillpattern.shape == HATCH]
    assert [part.name for part in hatched] == ["random, 10 seeds"]
    assert figure.layout.xaxis.type == "log"
    assert np.allclose(trace(figure, "base").y, 2.5)
    assert [shape.x0 for shape in figure.layout.shapes] == [1.0, 10.0]
    assert [note.x for note in figure.layout.annotations] == pytest.approx([0, 1])  # log10 on a log axis


def test_an_interval_never_leaves_zero_to_one_hundred_percent():
    figure = recall.recall_curve([curve(y=(0.01, 0.995, 0.5))], title="share", percent=True, k=1)
    area = next(part for part in figure.data if part.meta == DECORATION)
    assert min(area.y) >= 0
    assert max(area.y) <= 100


def test_the_axis_says_what_it_is_its_unit_and_its_scale():
    figure = recall.recall_curve([curve()], title="share of concepts", percent=True, k=5)
    assert figure.layout.xaxis.title.text == "share of concepts (%), log scale"
    assert figure.layout.yaxis.title.text == "R@5 (%)"
    assert_sound(recall.recall_curve([], title="shrinkage", k=5))


def test_models_are_overlaid_side_by_side_under_the_same_masks():
    rows = [
        {"model": model, "side": side, "mask": mask, "recall": value, "low": value - 0.05, "high": value + 0.1}
        for model, start in (("clip-mini", 0.6), ("qwen2-vl-mini", 0.2))
        for side in ("both sides", "queries")
        for mask, value in (("base", start), ("w/o image", start / 2))
    ]
    rows[1] |= dict.fromkeys(("recall", "low", "high"), np.nan)  # a mask that leaves nothing out
    figure = recall.masked_recall(pd.DataFrame(rows), k=10, data="it2t")
    assert_sound(figure)
    assert [(trace.name, trace.xaxis, trace.showlegend) for trace in figure.data] == [
        ("clip-mini", "x", True), ("qwen2-vl-mini", "x", True), ("clip-mini", "x2", False), ("qwen2-vl-mini", "x2", False),
    ]  # fmt: skip
    first, second = figure.data[:2]
    np.testing.assert_allclose(first.x, [60])
    np.testing.assert_allclose(second.x, [20, 10])
    np.testing.assert_allclose(second.error_x.array, [10, 10])
    np.testing.assert_allclose(second.error_x.arrayminus, [5, 5])
    assert set(first.y).isdisjoint(second.y)  # neither hides the other
    assert first.marker.symbol != second.marker.symbol
    assert list(figure.layout.yaxis.ticktext) == ["base", "w/o image"]
    assert [shape.x0 for shape in figure.layout.shapes] == [60, 20, 60, 20]
