"""Hubness, spectrum and gap, before and after."""

from __future__ import annotations

import numpy as np

from analysis.figures.diagnostics import DiagnosticSet, diagnostic_panels
from tests.figures.checks import assert_sound


def state(label: str, seed: int = 0) -> DiagnosticSet:
    rng = np.random.default_rng(seed)
    return DiagnosticSet(label, rng.poisson(8, 500), np.geomspace(1, 1e-4, 32), 12.3, 2.5, 0.81, 0.6, 0.4)


def test_three_panels_with_two_states_each():
    figure = diagnostic_panels([state("base"), state("ReAlign", 1)])
    assert_sound(figure)
    assert [part.name for part in figure.data] == ["base"] * 3 + ["ReAlign"] * 3
    assert sum(part.showlegend is not False for part in figure.data) == 2
    titles = [note.text for note in figure.layout.annotations]
    assert titles[1] == "Effective rank 12.3 → 12.3"


def test_every_candidate_is_counted_and_the_spectrum_sums_to_one_hundred():
    before = state("base")
    hubs, spectrum, _ = diagnostic_panels([before]).data
    assert sum(hubs.customdata) == before.occurrences.size
    assert np.isclose(sum(spectrum.y), 100)
    assert (np.diff(spectrum.y) <= 0).all()


def test_nothing_retrieved_and_a_flat_space_are_drawn():
    flat = DiagnosticSet("zero", np.zeros(4, int), np.zeros(3), 0.0, 0.0, 0.0, 0.0, 0.0)
    assert_sound(diagnostic_panels([flat]))
    assert_sound(diagnostic_panels([]))
