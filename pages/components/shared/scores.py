"""The scores of a concept in words: label, equation of the paper, one line of explanation, unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """One column of `Store.concepts` as people read it."""

    column: str
    label: str
    equation: str
    explanation: str
    axis: str  # title of an axis or a legend, with the unit
    decimals: str = "%.3g"  # printf format of a table cell

    @property
    def help(self) -> str:
        return f"{self.explanation} ({self.equation})" if self.equation else self.explanation


SCORES: dict[str, Score] = {
    score.column: score
    for score in (
        Score(
            "energy", "energy", "Eq. 3",
            "Mean activation over all samples: how loud the concept is.", "energy (mean activation, Eq. 3)",
        ),
        Score(
            "modality_score", "modality", "Eq. 4",
            "Share of the activation that comes from text: 0 fires on images only, 1 on text only.",
            "modality score (0 = image, 1 = text)", "%.2f",
        ),
        Score(
            "attribution", "attribution", "Eq. 6",
            "What the concept contributes to the similarity of matching pairs; the sum over concepts is twice the mean "
            "similarity of the reconstructions.",
            "attribution (squared length of embeddings, Eq. 6)",
        ),
        Score(
            "bridge_max", "bridge max", "Eq. 5",
            "Strongest link of the concept to one concept of the other modality: how often both fire on a pair, times the "
            "cosine of their directions; larger of row and column maximum.",
            "bridge score, max (Eq. 5)",
        ),
        Score(
            "bridge_diagonal", "bridge diagonal", "Eq. 5",
            "The concept's link to itself: it fires on the image and on the caption of one pair.",
            "bridge score, diagonal (Eq. 5)",
        ),
        Score(
            "bridge_off_diagonal", "bridge off-diagonal", "Eq. 5",
            "All links of the concept to other concepts: attribution less twice the diagonal.",
            "bridge score, off-diagonal (Eq. 5)",
        ),
        Score(
            "bridge_abs_sum", "bridge abs. sum", "Eq. 5",
            "Mean of the absolute row and column sums of the bridge matrix, as IsoEnergy counts it.",
            "bridge score, absolute sum (Eq. 5)",
        ),
        Score(
            "frequency", "frequency", "",
            "Share of all samples on which the concept is active at all.", "share of samples on which it fires", "percent",
        ),
        Score(
            "frequency_image", "fires on images", "",
            "Share of the images on which the concept is active.", "share of images on which it fires", "percent",
        ),
        Score(
            "frequency_text", "fires on captions", "",
            "Share of the captions on which the concept is active.", "share of captions on which it fires", "percent",
        ),
        Score(
            "energy_image", "energy on images", "Eq. 3", "Mean activation over the images.", "energy on images (Eq. 3)",
        ),
        Score(
            "energy_text", "energy on captions", "Eq. 3", "Mean activation over the captions.", "energy on captions (Eq. 3)",
        ),
        Score(
            "attribution_image", "attribution, image half", "Eq. 6",
            "The part of the attribution in which the concept fires on the image.", "attribution, image half (Eq. 6)",
        ),
        Score(
            "attribution_text", "attribution, text half", "Eq. 6",
            "The part of the attribution in which the concept fires on the caption.", "attribution, text half (Eq. 6)",
        ),
    )
}  # fmt: skip

BY_LABEL: dict[str, Score] = {score.label: score for score in SCORES.values()}  # labels stand in pickers and URLs

REDUCTIONS: dict[str, str] = {
    "max": "bridge_max",
    "diagonal": "bridge_diagonal",
    "off_diagonal": "bridge_off_diagonal",
    "abs_sum": "bridge_abs_sum",
}

MODALITY_WORDS = (
    (0.05, "image only"),
    (0.35, "mostly image"),
    (0.65, "both modalities"),
    (0.95, "mostly text"),
    (1.01, "text only"),
)


def modality_words(score: float) -> tuple[str, str]:
    """A modality score in words, and the interface colour that goes with it."""
    if score != score:  # NaN: never active
        return "never active", "gray"
    words = next(words for bound, words in MODALITY_WORDS if score <= bound)
    return words, "blue" if score <= 0.35 else "violet" if score <= 0.65 else "red"


def text(score: Score, value: float) -> str:
    """A value of a score as people read it: shares in percent, the rest with three significant digits."""
    if value != value:
        return "–"
    if score.decimals == "percent":
        return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
    return score.decimals % value
