"""Verdicts of the overview: agrees, disagrees or cannot tell, with what the paper prints."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.report.published import published
from pages.components.overview.sentences import ModalityShares
from pages.components.overview.verdicts import (
    AGREES,
    DISAGREES,
    UNCLEAR,
    energy_verdict,
    overlap_verdict,
    removal_verdict,
    text_verdict,
)


def shares(text: float, image: float) -> ModalityShares:
    return ModalityShares(100, 0, text, 0.5, 0.1, image)


@pytest.mark.parametrize(
    ("mllm", "dual", "word"),
    [
        ((0.7, 0.2), (0.4, 0.4), AGREES),
        ((0.3, 0.6), (0.4, 0.4), DISAGREES),
        ((0.5, 0.4), (0.1, 0.6), UNCLEAR),
    ],
)
def test_text_leans_further_in_the_mllm(mllm: tuple, dual: tuple, word: str) -> None:
    assert text_verdict([shares(*mllm), shares(*dual)], [False, True]).word == word


def test_one_kind_of_model_alone_cannot_tell() -> None:
    assert text_verdict([shares(0.9, 0.1)], [False]).word == UNCLEAR
    assert text_verdict([shares(0.9, 0.1)], [True]).word == UNCLEAR


def test_few_concepts_hold_half_of_the_energy() -> None:
    assert energy_verdict([{0.5: 5}, {0.5: 10}], [100, 100]).word == AGREES
    assert energy_verdict([{0.5: 30}], [100]).word == DISAGREES
    assert energy_verdict([{0.5: 5}, {0.5: 30}], [100, 100]).word == UNCLEAR


def test_overlap_is_held_against_the_range_of_its_kind() -> None:
    def word(value: float, *, dual: bool = False, share: float = 0.01, size: int = 7000) -> str:
        return overlap_verdict([{"energy_attribution": value}], [dual], [size], share, published("table1")).word

    assert word(0.70) == word(0.45, dual=True) == AGREES
    assert word(0.70, dual=True) == word(0.45) == DISAGREES
    assert word(0.70, share=0.05) == word(1.0, size=256) == UNCLEAR
    assert overlap_verdict([], [], [], 0.01, published("table1")).word == UNCLEAR


@pytest.mark.parametrize(
    ("interval", "word"),
    [((0.02, 0.01, 0.03), AGREES), ((-0.02, -0.03, -0.01), DISAGREES), ((0, -0.01, 0.01), UNCLEAR)],
)
def test_removal_counts_where_its_interval_leaves_out_no_change(interval: tuple, word: str) -> None:
    rows = [("removal (random)", 10, 0.5, 0.4, 0.6), ("removal (attribution)", 10, *interval)]
    table = pd.DataFrame(rows, columns=["method", "k", "difference", "difference_low", "difference_high"])
    found = removal_verdict([table], [False], 10, published("table2"))
    assert found.word == word
    assert "15.1 → 31.2 %" in found.paper
    assert removal_verdict([table], [True], 10, published("table2")).word == UNCLEAR
    assert removal_verdict([None], [False], 10, published("table2")).word == UNCLEAR
