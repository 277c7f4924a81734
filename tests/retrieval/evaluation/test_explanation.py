"""The sentence that says what explains a change, on planted diagnostics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analysis.retrieval.evaluation.diagnostics import Diagnostics
from analysis.retrieval.evaluation.explanation import explanation

BASE = Diagnostics(0.5, 0.4, 0.2, np.ones(4) / 4, 4.0, np.ones(10, int), 5.0, 0.4, -0.1, 0.1)
GAIN, LOSS, NOTHING = (0.2, 0.1, 0.3), (-0.042, -0.06, -0.02), (0.01, -0.01, 0.03)


def test_what_moves_with_recall_can_explain_it_and_what_does_not_is_named():
    after = replace(BASE, worst_hub_share=0.02, matched_cosine=0.4, margin=-0.13)
    said = explanation(BASE, after, GAIN, 10)
    assert said == (
        "Recall@10 rises by 20.0 points. The worst hub (in 40.0 % → 2.0 % of the lists) can explain the gain; the margin "
        "(−1.00 → −1.30 spreads) moved the other way; the distance of matched from random (2.00 → 2.00 spreads) "
        "moved too little."
    )


def test_better_numbers_explain_no_loss():
    after = replace(BASE, worst_hub_share=0.1, matched_cosine=0.5, margin=0.0)
    said = explanation(BASE, after, LOSS, 5)
    assert said.startswith("Recall@5 falls by 4.2 points. None of these numbers explains the loss: the worst hub (")
    assert said.endswith("moved the other way.")


def test_worse_numbers_explain_a_loss():
    said = explanation(BASE, replace(BASE, worst_hub_share=0.9, margin=-0.3), LOSS, 10)
    causes = (
        "The worst hub (in 40.0 % → 90.0 % of the lists) and the margin (−1.00 → −3.00 spreads) can explain the loss; "
    )
    assert causes in said


def test_a_change_that_may_be_none_needs_no_explanation():
    assert "nothing for these numbers to explain" in explanation(BASE, replace(BASE, worst_hub_share=0.9), NOTHING, 10)


def test_what_is_not_defined_is_left_out():
    nan = float("nan")
    hybrid = Diagnostics(nan, nan, nan, np.empty(0), nan, BASE.occurrences, 1.0, 0.4, nan)
    said = explanation(BASE, hybrid, GAIN, 10)
    assert "distance" not in said
    assert "margin" not in said
    assert said.endswith(
        "None of these numbers explains the gain: the worst hub (in 40.0 % → 40.0 % of the lists) moved too little."
    )
    empty = replace(hybrid, worst_hub_share=nan)
    assert explanation(BASE, empty, GAIN, 10).endswith("none is defined here.")


def test_the_unit_is_the_spread_so_a_wider_space_is_not_a_better_one():
    wider = replace(BASE, matched_cosine=2.0, random_cosine=1.0, margin=-0.5, random_spread=0.5)
    said = explanation(BASE, wider, GAIN, 10)
    assert "None of these numbers explains the gain" in said


def test_a_small_hub_explains_no_large_change_and_what_is_beside_is_named():
    before, after = replace(BASE, worst_hub_share=0.009), replace(BASE, worst_hub_share=0.015)
    said = explanation(before, after, (-0.206, -0.23, -0.18), 10, "clip-mini alone")
    assert said.startswith(
        "Beside clip-mini alone, recall@10 falls by 20.6 points. None of these numbers explains the loss: "
    )
    assert "can explain the loss" in explanation(before, after, (-0.01, -0.02, -0.005), 10)
