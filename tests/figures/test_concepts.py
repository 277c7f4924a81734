"""Map, histograms and bars of concepts; bridges as a graph."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from analysis.figures import bridges, concepts
from analysis.figures.palette import IMAGE, SHARED, TEXT
from analysis.figures.style import DECORATION
from tests.figures.checks import assert_sound, trace


def scatter(n=50, **changes):
    rng = np.random.default_rng(0)
    parts = {"ids": np.arange(n) + 100, "energy": rng.random(n), "color": rng.random(n)}
    x, y = rng.normal(size=(2, n))
    return concepts.concept_scatter(changes.pop("x", x), y, **(parts | changes))


@pytest.mark.parametrize(("n", "kind"), [(50, go.Scatter), (1000, go.Scatter), (1001, go.Scattergl)])
def test_the_map_turns_to_webgl_above_a_thousand_points(n, kind):
    assert type(scatter(n).data[0]) is kind


def test_the_map_sends_float32_and_concept_ids():
    points = scatter().data[0]
    assert points.x.dtype == points.y.dtype == np.float32
    assert points.customdata.dtype == np.int32
    assert set(points.customdata) == set(range(100, 150))


def test_strong_concepts_are_larger_by_the_root_of_energy():
    points = concepts.concept_scatter(
        np.arange(3.0), np.zeros(3), ids=np.arange(3), energy=np.array([1.0, 4.0, 0.0]), color=np.zeros(3)
    ).data[0]
    size = dict(zip(points.customdata.tolist(), points.marker.size.tolist(), strict=True))
    assert size[1] - size[2] == pytest.approx(2 * (size[0] - size[2]))


def test_concepts_without_a_value_are_left_out_and_counted():
    color = np.full(50, 0.5)
    color[:7] = np.nan
    figure = scatter(color=color)
    assert_sound(figure)
    assert len(figure.data[0].x) == 43
    assert "7 without a value" in figure.layout.meta["caption"]
    assert len(scatter(color=np.full(50, np.nan)).data[0].x) == 0


def test_the_modality_map_is_blue_to_red_from_zero_to_one():
    marker = scatter().data[0].marker
    assert (marker.cmin, marker.cmax) == (0, 1)
    assert [color for _, color in marker.colorscale] == [IMAGE, SHARED, TEXT]
    assert scatter(color_title="energy, Eq. 3").data[0].marker.cmin is None


def test_a_selected_concept_wears_a_ring():
    figure = scatter(highlight=[103])
    points, ring = figure.data
    place = list(points.customdata).index(103)
    assert (ring.x[0], ring.y[0]) == (points.x[place], points.y[place])
    assert ring.meta == DECORATION


def test_the_histogram_puts_image_up_in_blue_and_text_down_in_red():
    figure = concepts.concept_histogram(np.array([1.0, 2.0]), np.array([1.0, 1.1, 4.0]), n_image=10, n_text=50)
    assert_sound(figure)
    image, text = figure.data
    assert (image.marker.color, text.marker.color) == (IMAGE, TEXT)
    assert sum(image.y) == 2
    assert sum(text.y) == -3
    assert image.name == "image: 20.0 % of 10 fire"
    assert text.name == "text: 6.0 % of 50 fire"


@pytest.mark.parametrize("top", [1, 2, 9, 10, 37, 150, 1999, 25000])
def test_count_ticks_are_few_and_reach_near_the_top(top):
    ticks = concepts._nice_ticks(top)
    assert 2 <= len(ticks) <= 5
    assert top / 3 < ticks[-1] <= top


def test_a_concept_that_never_fires_is_drawn_empty():
    assert_sound(concepts.concept_histogram(np.zeros(0), np.zeros(0), n_image=0, n_text=0))
    assert_sound(concepts.concept_bars([], [], names={}, modality={}))


def test_the_score_histogram_counts_every_known_concept_once():
    values = np.array([0.0, 0.1, 0.5, 1.0, np.nan, np.nan])
    figure = concepts.score_histogram(values, title="modality score (0 = image, 1 = text), Eq. 4", marks={"here": 0.5})
    assert_sound(figure)
    assert sum(figure.data[0].y) == 4
    assert figure.data[0].marker.color[0] != figure.data[0].marker.color[-1]
    assert "2 without a value" in figure.layout.meta["caption"]
    assert figure.layout.shapes[0].x0 == 0.5


def test_a_log_axis_leaves_out_what_is_not_positive():
    figure = concepts.score_histogram(
        np.array([0.0, 1e-4, 1.0, 10.0]), title="energy, Eq. 3", log_x=True, marks={"m": 1.0}
    )
    assert_sound(figure)
    assert sum(figure.data[0].y) == 3
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.annotations[0].x == 0
    assert "1 without a positive value" in figure.layout.meta["caption"]


def test_bars_are_coloured_by_modality_and_carry_ids():
    figure = concepts.concept_bars([4, 9], [2.0, 1.0], names={4: "dog"}, modality={4: 0.0, 9: 1.0})
    assert_sound(figure)
    bar = figure.data[0]
    assert list(bar.marker.color) == [IMAGE, TEXT]
    assert list(bar.y) == ["dog · 4", "concept 9"]
    assert list(bar.customdata) == [4, 9]


def graph(**changes):
    table = pd.DataFrame({"image_concept": [1, 2, 3, 1], "text_concept": [5, 6, 5, 1], "bridge": [4.0, 1.0, 0.5, 0.1]})
    return bridges.bridge_graph(table, **({"names": {1: "dog"}} | changes))


def test_bridges_join_blue_image_nodes_with_red_text_nodes():
    figure = graph()
    assert_sound(figure)
    image, text = trace(figure, "image concepts"), trace(figure, "text concepts")
    assert (image.marker.color, text.marker.color) == (IMAGE, TEXT)
    assert set(image.customdata) == {1, 2, 3}
    assert set(text.customdata) == {5, 6, 1}
    assert all(part.line.color.startswith("rgba(138,80,238") for part in figure.data if part.mode == "lines")


def test_the_strongest_bridge_is_the_widest_line():
    drawn = [part for part in graph().data if part.mode == "lines" and len(part.x)]
    widest = max(drawn, key=lambda part: part.line.width)
    image, text = trace(graph(), "image concepts"), trace(graph(), "text concepts")
    assert widest.y[0] == image.y[list(image.customdata).index(1)]
    assert widest.y[1] == text.y[list(text.customdata).index(5)]


def test_only_the_top_bridges_are_drawn_and_none_is_an_empty_graph():
    figure = graph(top=1)
    assert list(trace(figure, "image concepts").customdata) == [1]
    empty = pd.DataFrame({"image_concept": [], "text_concept": [], "bridge": []}, dtype=float)
    assert_sound(bridges.bridge_graph(empty, names={}))


def test_partners_stand_opposite_each_other():
    pairs = pd.DataFrame({"image_concept": range(8), "text_concept": range(17, 9, -1), "bridge": np.arange(8, 0, -1.0)})
    figure = bridges.bridge_graph(pairs, names={})
    image, text = trace(figure, "image concepts"), trace(figure, "text concepts")
    assert [17 - int(i) for i in image.customdata] == [int(t) for t in text.customdata]


def test_a_click_on_the_graph_is_a_concept_or_a_pair():
    def clicked(data):
        return bridges.picked({"selection": {"points": [{"customdata": data}]}})

    figure = graph()
    line = trace(figure, "bridges") if figure.data[5].name != "bridges" else figure.data[5]
    assert clicked(list(line.customdata[0])) == (1, 5)
    assert clicked({"0": 4.0, "1": 1, "2": 5}) == (1, 5)
    assert clicked(trace(figure, "text concepts").customdata[0]) in {(5,), (6,), (1,)}
    assert clicked(None) == bridges.picked(None) == bridges.picked({"selection": {"points": []}}) == ()


def test_a_crowd_has_its_density_behind_it_and_a_few_points_have_not():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 0.05, 1800), rng.normal(2, 0.4, 400)])
    y = np.concatenate([rng.normal(0, 0.05, 1800), rng.normal(2, 0.4, 400)])

    def drawn(n):
        return concepts.concept_scatter(x[:n], y[:n], ids=np.arange(n), energy=np.ones(n), color=np.full(n, 0.5))

    figure = drawn(len(x))
    assert_sound(figure)
    crowd = figure.data[0]
    assert crowd.type == "contour"
    z = np.asarray(crowd.z)
    up, across = np.unravel_index(z.argmax(), z.shape)
    assert abs(crowd.x[across]) < 0.2
    assert abs(crowd.y[up]) < 0.2
    assert all(part.type != "contour" for part in drawn(1900).data)


def test_very_many_concepts_are_a_picture_with_the_loudest_as_points():
    """What is sent no longer grows with K: a browser without a GPU draws 30,000 points in seconds. The rings stay."""
    n = 12_000
    quiet = n - 1
    figure = scatter(n, highlight=[100 + quiet], energy=np.linspace(1, 0.1, n))
    assert_sound(figure)
    points = figure.data[0]
    assert type(points) is go.Scatter
    assert len(points.x) == concepts.LOUDEST + 1
    assert set(np.asarray(points.customdata)) == {*range(100, 100 + concepts.LOUDEST), 100 + quiet}
    assert len(figure.to_json()) < 300_000
    assert f"{n:,} concepts" in figure.layout.meta["caption"]
    assert not scatter(concepts.MANY_FROM).layout.images


def test_the_picture_of_all_has_each_concept_in_its_place_and_colour():
    """Two crowds, of 0 (image) at the lower left and of 1 (text) at the upper right."""
    n = concepts.MANY_FROM + 2
    side = np.arange(n) % 2
    figure = concepts.concept_scatter(
        side.astype(float), side.astype(float), ids=np.arange(n), energy=np.ones(n), color=side.astype(float)
    )
    (picture,) = figure.layout.images
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.source.partition(",")[2]))).convert("RGBA"))
    for x, y, colour in ((0.0, 0.0, IMAGE), (1.0, 1.0, TEXT)):
        column = int((x - picture.x) / picture.sizex * pixels.shape[1])
        row = int((picture.y - y) / picture.sizey * pixels.shape[0])
        red, green, blue, opaque = (int(part) for part in pixels[row, column])
        assert opaque > 150
        wanted = [int(colour.lstrip("#")[i : i + 2], 16) for i in (0, 2, 4)]
        assert np.abs(np.subtract((red, green, blue), wanted)).max() < 30
    assert pixels[pixels.shape[0] // 2, pixels.shape[1] // 2, 3] == 0


def test_the_plane_of_energies_loses_no_live_concept():
    image, text = np.array([1.0, 0.01, 0.0, 0.0]), np.array([0.0, 0.1, 10.0, 0.0])
    live = image + text > 0
    assert concepts.log_energy(image, live)[:3] == pytest.approx([0, -2, -3])  # the third: a decade below the faintest
    assert concepts.log_energy(text, live)[:3] == pytest.approx([-2, -1, 1])
    assert np.isnan(concepts.log_energy(image, live)[3])
    assert concepts.log_energy(text * 0, live)[0] == 0  # nothing fires on that side at all
