"""What is plotted comes back as rows; what is clicked comes back as ids."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from analysis.figures import concepts, overview, recall
from analysis.figures.export import figure_csv, figure_data, selected_ids
from analysis.figures.palette import method_style
from analysis.figures.style import Curve

ROWS = pd.DataFrame(
    {"method": ["base", "ReAlign"], "k": [1, 1], "recall": [0.1, 0.3], "low": [0.05, 0.2], "high": [0.2, 0.4]}
)


def test_bars_come_back_with_their_interval():
    table = figure_data(recall.recall_bars(ROWS))
    assert np.allclose(table["R@1 (%)"], [10, 30])
    assert np.allclose(table["low"], [5, 20])
    assert np.allclose(table["high"], [20, 40])
    assert list(table["y"]) == ["base", "ReAlign"]


def test_curves_come_back_with_interval_and_without_decoration():
    y = np.array([0.1, 0.2])
    curve = Curve("removal", np.array([4.0, 8.0]), y, method_style("removal"), y - 0.05, y + 0.1)
    table = figure_data(recall.recall_curve([curve], title="rank", k=1))
    assert len(table) == 2
    assert np.allclose(table["low"], [5, 15])
    assert np.allclose(table["high"], [20, 30])


def test_several_panels_are_named():
    both = pd.concat([ROWS, ROWS.assign(k=5)])
    assert set(figure_data(recall.recall_bars(both))["panel"]) == {"R@1 (%)", "R@5 (%)"}


def test_ids_and_labels_travel_with_the_points():
    figure = concepts.concept_bars([4, 9], [2.0, 1.0], names={}, modality={})
    assert list(figure_data(figure)["id"]) == [4, 9]


def test_csv_starts_with_the_caption_and_reads_back():
    figure = overview.modality_kde([Curve("clip", np.linspace(0, 1, 5), np.ones(5))], data="EmojiScenes")
    text = figure_csv(figure)
    assert text.startswith("# Modality scores")
    assert "EmojiScenes" in text.splitlines()[0]
    assert len(pd.read_csv(io.StringIO(text), comment="#")) == 5


def test_an_empty_figure_gives_an_empty_table():
    assert len(figure_data(overview.modality_kde([]))) == 0


def point(customdata):
    return {"curve_number": 0, "point_index": 3, "customdata": customdata}


def test_a_selection_becomes_ids_in_click_order_each_once():
    event = {
        "selection": {"points": [point(7), point([3, 0.5]), point({"0": 9, "1": 0.1}), point(7)], "point_indices": [3]}
    }
    assert selected_ids(event) == [7, 3, 9]


def test_no_selection_and_points_without_id_give_nothing():
    assert selected_ids(None) == []
    assert selected_ids({}) == []
    assert selected_ids({"selection": {"points": [], "box": []}}) == []
    assert selected_ids({"selection": {"points": [point(None), point(-1), {}]}}) == []
