"""Hubness, spectrum and gap, before and after."""

from __future__ import annotations

import numpy as np

from analysis.figures.diagnostics import diagnostic_panels
from analysis.retrieval.evaluation.diagnostics import Diagnostics
from tests.figures.checks import assert_sound


def state(seed: int = 0) -> Diagnostics:
    occurrences = np.random.default_rng(seed).poisson(8, 500)
    return Diagnostics(0.81, 0.6, 0.4, np.geomspace(1, 1e-4, 32), 12.3, occurrences, 2.5, 0.1, 0.02)


def test_three_panels_with_two_states_each():
    figure = diagnostic_panels({"base": state(), "ReAlign": state(1)})
    assert_sound(figure)
    assert [part.name for part in figure.data] == ["base"] * 3 + ["ReAlign"] * 3
    assert sum(part.showlegend is not False for part in figure.data) == 2
    titles = [note.text for note in figure.layout.annotations]
    assert titles[1] == "Effective rank 12.3 → 12.3"


def test_every_candidate_is_counted_and_the_spectrum_sums_to_one_hundred():
    before = state()
    hubs, spectrum, _ = diagnostic_panels({"base": before}).data
    assert sum(hubs.customdata) == before.occurrences.size
    assert np.isclose(sum(spectrum.y), 100)
    assert (np.diff(spectrum.y) <= 0).all()


def test_nothing_retrieved_nothing_measured_and_a_flat_space_are_drawn():
    nan = float("nan")
    flat = Diagnostics(nan, nan, nan, np.zeros(3), nan, np.zeros(4, int), nan, nan, nan)
    figure = diagnostic_panels({"zero": flat})
    assert_sound(figure)
    assert figure.layout.annotations[1].text == "Effective rank –"
    assert_sound(diagnostic_panels({}))


def test_a_hybrid_has_hubs_and_dashes_and_no_spectrum():
    nan = float("nan")
    hybrid = Diagnostics(nan, nan, nan, np.empty(0), nan, state(2).occurrences, 1.6, 0.01, nan)
    figure = diagnostic_panels({"base": state(), "fused": hybrid})
    assert_sound(figure)
    hubs, spectrum, bars = figure.data[3:]
    assert sum(hubs.customdata) == 500
    assert len(spectrum.x) == 0
    assert list(bars.text) == ["–"] * 3
    assert figure.layout.annotations[1].text == "Effective rank 12.3 → –"


def test_labels_of_bars_are_short_and_have_one_kind_of_minus():
    small = Diagnostics(0.674, 0.00371, -0.103, np.ones(3) / 3, 3.0, np.ones(4, int), 0.0, 0.1, 0.02)
    assert list(diagnostic_panels({"base": small}).data[2].text) == ["0.67", "0.00", "\N{MINUS SIGN}0.10"]
