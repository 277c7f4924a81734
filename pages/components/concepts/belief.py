"""May this concept be believed? In words: what its name predicts on samples that did not choose it, beside the untrained SAE.
Pure functions, no Streamlit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.concepts.held_out import SUPPORTED_F1, place_of
from analysis.concepts.metrics import CONSTANT, DENSE
from analysis.concepts.names import same_noun
from analysis.concepts.twins import TWINS
from pages.components.shared import safe

NO_NAME = "no shared meaning found"
TWO_MEANINGS = 0.7  # polysemanticity from which the strongest samples fall into two groups that have little in common
_CLEAR = 0.15  # clarity below which they have nothing in common at all, so there is not even one meaning
_PLACES = ("pictures", "captions", "samples")


def sentence(row: pd.Series, named: bool, untrained: float | None) -> str:
    """What the held-out test says of a concept (row of the concept table), for the Concept page. named: it has an automatic
    name; untrained: the same F1 of the untrained SAE (its median), None where there is none."""
    f1, auroc = float(row["word_f1"]), float(row["word_auroc"])
    where = _PLACES[int(place_of(np.asarray([row["modality_score"]], float))[0])]
    if np.isnan(f1):
        return "Its name could not be tested: it fires on too few samples with words."
    control = "" if untrained is None or np.isnan(untrained) else f", untrained SAE {untrained:.2f}"
    if named:
        return f"Its name predicts on which unseen {where} it fires: F1 **{f1:.2f}**, AUROC {auroc:.2f}{control}."
    why = f"no word predicts on which unseen {where} it fires (F1 {f1:.2f}{control})"
    if f1 >= SUPPORTED_F1:
        why = (
            f"no word holds on both halves of the {where}, though the best of each has F1 {f1:.2f} on average{control}"
        )
    return f"**No shared meaning found**: {why}. It may still stand for something that captions do not say."


def second_sentence(row: pd.Series, untrained: float | None) -> str:
    """What a second, contrastive model would call the concept (soft-WPMI), beside its name; "" where none was asked. untrained:
    the standing of names in it for the untrained SAE (its median)."""
    word, name, stands = str(row["second_word"] or ""), str(row["name"] or ""), float(row["word_second"])
    if not word:
        return ""
    model, said = safe.words(row["second_model"], 60), safe.words(word, 60)
    if not name:
        return f"A second model ({model}) would say **{said}**, which is no name: no word holds on unseen samples."
    words = name.split(", ")
    if any(same_noun(word, one) for one in words):
        return f"A second model ({model}) agrees: of all words **{said}** fits best what it fires on."
    control = "" if untrained is None or np.isnan(untrained) else f" (untrained SAE {100 * untrained:.0f} %)"
    place = (
        ""
        if np.isnan(stands)
        else f"; “{safe.words(words[0], 60)}” fits it better than {100 * stands:.0f} % of the words{control}"
    )
    return f"A second model ({model}) would rather say **{said}**{place}."


def label_sentence(text: str, author: str, f1: float) -> str:
    """What the words of a label predict, whoever gave it: of the half of the samples that no model is shown."""
    who = f" by {safe.words(author, 60)}" if author else ""
    said = f"The label “{safe.words(text, 60)}”{who}"
    if np.isnan(f1):
        return f"{said} could not be tested: the captions hold none of its words, or it fires on too few samples."
    verdict = "" if f1 >= SUPPORTED_F1 else ": not supported"
    return f"{said} predicts on which unseen samples it fires: F1 **{f1:.2f}**{verdict}."


def true_sentence(attribute: str, f1: float, untrained: float) -> str:
    """What a concept stands for by the ground truth of generated data; attribute "" where it could not be tested; untrained:
    the median F1 of the untrained SAE, NaN without one."""
    if not attribute or np.isnan(f1):
        return "Ground truth: not tested, it fires on too few scenes."
    verdict = "" if f1 >= SUPPORTED_F1 else ": no attribute of the scenes predicts where it fires"
    control = "" if np.isnan(untrained) else f" (untrained SAE {untrained:.2f})"
    best = f"its best attribute is **{attribute}**, F1 **{f1:.2f}** on unseen scenes{control}"
    return f"Ground truth of the scenes: {best}{verdict}."


def stable_sentence(other: int, correlation: float, whose: str) -> str:
    """Whether a second SAE of the same data has the concept too. whose: that store, escaped."""
    if other < 0:
        return f"Seed stability: nothing in {whose} can be compared with it."
    word = "found again" if correlation >= TWINS else "not found again"
    return f"Seed stability: **{word}** in {whose}, its concept {other} correlates {correlation:.2f} with it."


def flags(row: pd.Series) -> list[str]:
    """Words of warning: "constant" or "dense" where it fires on most samples, "two meanings?" where its strongest samples
    fall into two groups."""
    found = []
    often = max(float(np.nan_to_num(row["frequency_image"])), float(np.nan_to_num(row["frequency_text"])))
    if often > CONSTANT:
        found.append("constant")
    elif often > DENSE:
        found.append("dense")
    if float(row["polysemanticity"]) > TWO_MEANINGS and float(row["clarity"]) > _CLEAR:
        found.append("two meanings?")
    return found


FLAG_HELP = (
    f"constant: fires on more than {100 * CONSTANT:.0f} % of the pictures or captions and says nothing of one of them; "
    f"dense: on more than {100 * DENSE:.0f} %; two meanings?: its 20 strongest samples fall into two groups "
    "of which each resembles itself and not the other."
)
