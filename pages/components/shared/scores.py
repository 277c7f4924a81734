"""Scores of a concept as pages show them. The scores themselves are rows of `analysis.concepts.scores`; here are words for
a modality score, and the reductions of a bridge matrix that the overview lets one choose from."""

from __future__ import annotations

from analysis.concepts.metrics import IMAGE_TO, TEXT_FROM
from analysis.concepts.scores import SCORES, Score, at, by_label

__all__ = ["MODALITY_WORDS", "REDUCTIONS", "SCORES", "Score", "at", "by_label", "modality_words"]

REDUCTIONS: dict[str, str] = {
    "max": "bridge_max",
    "diagonal": "bridge_diagonal",
    "off_diagonal": "bridge_off_diagonal",
    "abs_sum": "bridge_abs_sum",
}

MODALITY_WORDS = (
    (0.05, "image only"),
    (IMAGE_TO, "mostly image"),
    (TEXT_FROM, "both modalities"),
    (0.95, "mostly text"),
    (1.01, "text only"),
)


def modality_words(score: float) -> tuple[str, str]:
    """A modality score in words, and the interface colour that goes with it."""
    if score != score:  # NaN: never active
        return "never active", "gray"
    words = next(words for bound, words in MODALITY_WORDS if score <= bound)
    return words, "blue" if score <= IMAGE_TO else "violet" if score <= TEXT_FROM else "red"
