"""Which diagnostics can explain what an intervention did to recall, in one sentence computed from the numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.retrieval.evaluation.diagnostics import Diagnostics
from analysis.retrieval.interventions import Intervention

_HUB_STEP = 0.005  # share of lists; smaller changes of the worst hub are noise
_HUB_PART = 0.25  # of the change of recall: a hub in fewer lists than that cannot have taken so many targets' places
_RELATIVE = 0.1  # of the larger value: what counts as a change of hubs and distance
_MARGIN_STEP = 0.1  # spreads


@dataclass(frozen=True)
class _Sign:
    """One diagnostic that says better or worse: its words with both numbers, +1 better, -1 worse, 0 about the same."""

    words: str
    moved: int


def explanation_of(
    method: Intervention, beside: Intervention, before: Diagnostics, after: Diagnostics, change: pd.Series, k: int
) -> str:
    """`explanation` of a method that is compared with `beside` (see `controls.reference`). change: a row of `recall_frame`."""
    name = beside.label if beside.steps or method.hybrid else ""
    bounds = change["difference"], change["difference_low"], change["difference_high"]
    return explanation(before, after, bounds, k, name)


def explanation(
    before: Diagnostics, after: Diagnostics, change: tuple[float, float, float], k: int, beside: str = ""
) -> str:
    """What fits the change of recall@k and what does not. change: difference to what is before and its 95 % interval,
    shares; beside: name of what is before where that is not the base.

    Three diagnostics have a better and a worse: the worst hub's share of lists (less), the distance of matched from random
    cosines and the median margin (more), both in spreads of the random cosines, so that spaces can be compared. One can
    explain a change when it moved the way that recall did, and far enough: a distance by a tenth, a margin by 0.1 spreads,
    a hub by a tenth, by half a percent of the lists and by a quarter of what recall did. Moving together is no proof of a
    cause. What is not defined (a hybrid has no embeddings) is left out.
    """
    difference, low, high = change
    start = f"Beside {beside}, recall@{k}" if beside else f"Recall@{k}"
    amount = f"{100 * abs(difference):.1f} points"
    if not (low > 0 or high < 0):
        return f"{start} does not change for sure, so there is nothing for these numbers to explain."
    way = 1 if difference > 0 else -1
    head = f"{start} {'rises' if way > 0 else 'falls'} by {amount}"
    what = "gain" if way > 0 else "loss"
    signs = _signs(before, after, abs(difference))
    fit, against, still = ([sign.words for sign in signs if sign.moved == wanted] for wanted in (way, -way, 0))
    rest = [f"{_and(against)} moved the other way"] if against else []
    rest += [f"{_and(still)} moved too little"] if still else []
    if fit:
        causes = _and(fit)
        return f"{head}. {'; '.join([f'{causes[0].upper()}{causes[1:]} can explain the {what}', *rest])}."
    return f"{head}. None of these numbers explains the {what}: {'; '.join(rest) or 'none is defined here'}."


def _signs(before: Diagnostics, after: Diagnostics, change: float) -> list[_Sign]:
    hubs = before.worst_hub_share, after.worst_hub_share
    distance = before.distance_in_spreads, after.distance_in_spreads
    margin = before.margin_in_spreads, after.margin_in_spreads
    lists = f"in {100 * hubs[0]:.1f} % → {100 * hubs[1]:.1f} % of the lists"
    found = [
        ("the worst hub", lists, hubs, -1, max(_HUB_STEP, _HUB_PART * change), _RELATIVE),
        ("the distance of matched from random", _spreads(*distance), distance, 1, 0.0, _RELATIVE),
        ("the margin", _spreads(*margin), margin, 1, _MARGIN_STEP, 0.0),
    ]  # fmt: skip
    signs = []
    for name, numbers, (old, new), better, least, relative in found:
        if np.isfinite((old, new)).all():
            enough = abs(new - old) >= max(least, relative * max(abs(old), abs(new))) and new != old
            signs.append(_Sign(f"{name} ({numbers})", better * int(np.sign(new - old)) if enough else 0))
    return signs


def _spreads(old: float, new: float) -> str:
    return f"{old:.2f} → {new:.2f} spreads".replace("-", "\N{MINUS SIGN}")


def _and(words: list[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
