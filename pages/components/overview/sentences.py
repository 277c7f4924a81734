"""The findings of the overview as numbers and sentences. Pure functions: every word that carries a number is computed, and
none claims more than it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.concepts.metrics import IMAGE_TO, TEXT_FROM, jaccard, top_concepts
from analysis.figures.style import percent, points

LEVELS = (0.5, 0.9, 0.99)
MAIN_METHODS = ("base", "removal", "random", "untrained", "realign")


@dataclass(frozen=True)
class ModalityShares:
    """Of one model: live concepts, dead ones, and how much belongs to text (score from TEXT_FROM) and to both modalities."""

    live: int
    dead: int
    text_share: float  # of the live concepts
    text_energy: float  # of the energy
    shared_energy: float  # of the energy: concepts between IMAGE_TO and TEXT_FROM
    image_share: float = float("nan")  # of the live concepts
    outstanding: tuple[tuple[int, float, bool], ...] = ()  # see analysis.concepts.kde.outstanding

    @property
    def lean(self) -> float:
        """Share of the live concepts that belongs to text, less the share that belongs to pictures."""
        return self.text_share - self.image_share


def modality_shares(score: np.ndarray, energy: np.ndarray) -> ModalityShares:
    """score (K,) with NaN for dead concepts, energy (K,). Without live concepts the shares are NaN."""
    live = ~np.isnan(score)
    known = np.nan_to_num(score)
    text, shared = live & (known >= TEXT_FROM), live & (known > IMAGE_TO) & (known < TEXT_FROM)
    total, count = float(energy[live].sum()), int(live.sum())

    def of_energy(part: np.ndarray) -> float:
        return float(energy[part].sum() / total) if total > 0 else float("nan")

    return ModalityShares(
        live=count, dead=int((~live).sum()), text_share=float(text.sum() / count) if count else float("nan"),
        text_energy=of_energy(text), shared_energy=of_energy(shared),
        image_share=float((live & (known <= IMAGE_TO)).sum() / count) if count else float("nan"),
    )  # fmt: skip


def overlap(energy: np.ndarray, attribution: np.ndarray, bridge: np.ndarray, share: float) -> dict[str, float]:
    """Jaccard overlaps (Eq. 7) of the top concepts; `share` in (0, 1] of all K. Keys as analysis.figures.overview.OVERLAPS."""
    e, a, b = (top_concepts(score, share) for score in (energy, attribution, bridge))
    return {
        "energy_attribution": jaccard(e, a),
        "energy_bridge": jaccard(e, b),
        "attribution_bridge": jaccard(a, b),
        "triple": jaccard(e, a, b),
    }


def text_sentence(names: Sequence[str], shares: Sequence[ModalityShares]) -> str:
    """Finding 1 in one sentence: the first model in full, the others in brackets."""
    first = shares[0]

    def beside(field: str) -> str:
        pairs = zip(names[1:], shares[1:], strict=True)
        return _in_brackets([f"{name}: {percent(getattr(share, field))}" for name, share in pairs])

    return (
        f"**{percent(first.text_share)}** of the live concepts of {names[0]} fire mainly on text{beside('text_share')}; "
        f"they hold **{percent(first.text_energy)}** of its energy{beside('text_energy')}. Concepts of both modalities hold "
        f"{percent(first.shared_energy)}{beside('shared_energy')}."
    )


def left_out(name: str, shares: ModalityShares, titles: Sequence[str]) -> str:
    """What the density of one model leaves out or shows as a peak; "" where there is nothing to say. titles: of the
    outstanding concepts."""
    known = list(zip(shares.outstanding, titles, strict=True))
    always = [f"{title} ({percent(share)} of the energy)" for (_, share, constant), title in known if constant]
    loud = [f"{title} ({percent(share)})" for (_, share, constant), title in known if not constant]
    parts = [f"never active {shares.dead:,}"] if shares.dead else []
    parts += [f"constant {', '.join(always)}"] if always else []
    text = f"{name} leaves out: {'; '.join(parts)}." if parts else ""
    return f"{text} Loud alone: {', '.join(loud)}." if loud else text


def energy_sentence(names: Sequence[str], readouts: Sequence[dict[float, int]], sizes: Sequence[int]) -> str:
    """Finding 2 in one sentence. readouts: share of the energy -> number of strongest concepts that hold it."""
    words = [f"{name}: {found[0.5]:,} of {size:,}" for name, found, size in zip(names, readouts, sizes, strict=True)]
    first = readouts[0]
    verb = "concept holds" if first[0.5] == 1 else "concepts hold"
    return (
        f"**{first[0.5]:,}** of {sizes[0]:,} {verb} half of the energy of {names[0]}{_in_brackets(words[1:])}; "
        f"**{first[0.9]:,}** hold 90 %, {first[0.99]:,} hold 99 %."
    )


def overlap_sentence(names: Sequence[str], overlaps: Sequence[dict[str, float]], share: float) -> str:
    """How many of the loudest concepts also decide the similarity."""
    value = overlaps[0]["energy_attribution"]
    others = [f"{name}: {o['energy_attribution']:.2f}" for name, o in zip(names[1:], overlaps[1:], strict=True)]
    return (
        f"The top {100 * share:g} % by energy and the top {100 * share:g} % by attribution of {names[0]} share "
        f"**{value:.2f}** of their concepts{_in_brackets(others)}."
    )


def removal_sentence(names: Sequence[str], results: Sequence[pd.DataFrame], k: int) -> str:
    """Finding 3 in one sentence per model: recall before, after removal, after its two controls."""
    parts = []
    for name, table in zip(names, results, strict=True):
        rows = table[table["k"] == k].set_index("method")
        base, removal, random, untrained, whitened = (_row(rows, word) for word in MAIN_METHODS)
        if base is None or removal is None:
            continue
        direction = "raises" if removal["recall"] > base["recall"] else "lowers"
        text = (
            f"Removing the concepts with the largest attribution **{direction}** R@{k} of {name} from "
            f"{percent(base['recall'])} to **{percent(removal['recall'])}**"
        )
        low, high = float(removal.get("difference_low", np.nan)), float(removal.get("difference_high", np.nan))
        if not np.isnan(low):
            sure = "" if low > 0 or high < 0 else ", an interval that includes no change"
            text += f" ({points(removal['difference'])} points [{points(low)}, {points(high)}]{sure})"
        if random is not None:
            text += f"; removing as many at random gives {percent(random['recall'])}"
        if untrained is not None:
            text += f", as many of an untrained SAE {percent(untrained['recall'])}"
        if whitened is not None:
            text += f"; whitening (ReAlign) gives **{percent(whitened['recall'])}**"
        parts.append(text + ".")
    return "  \n".join(parts)


def main_methods(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of base, removal, its random and untrained controls and ReAlign, order kept."""
    return table[[str(method).lower().startswith(MAIN_METHODS) for method in table["method"]]]


def _row(rows: pd.DataFrame, word: str) -> pd.Series | None:
    """The first method whose name begins with a word, "random control" and "removal (random)" both being random."""
    for method in rows.index:
        name = str(method).lower()
        if ("random" in name) == (word == "random") and (word == "random" or name.startswith(word)):
            return rows.loc[method]
    return None


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def headlines(
    names: Sequence[str],
    shares: Sequence[ModalityShares],
    readouts: Sequence[dict[float, int]],
    results: Sequence[pd.DataFrame | None],
    k: int,
) -> list[tuple[str, str, str]]:
    """(label, value of the first model, whose it is and the others') of each finding: what a meeting sees first."""

    def beside(values: Sequence[str], also: str = "") -> str:
        return (
            names[0] + also + "".join(f" · {name} {value}" for name, value in zip(names[1:], values[1:], strict=True))
        )

    lean = ["–" if np.isnan(share.lean) else f"{points(share.lean)} points" for share in shares]
    half = [f"{readout[0.5]:,}" for readout in readouts]
    recall, whitened = zip(*(_before_after(table, k) for table in results), strict=True)
    return [
        ("Text minus image concepts", lean[0], beside(lean)),
        ("Concepts with half of the energy", half[0], beside(half)),
        (f"R@{k}: base → removal", recall[0], beside(recall, f", ReAlign {whitened[0]}" if whitened[0] else "")),
    ]


def _before_after(table: pd.DataFrame | None, k: int) -> tuple[str, str]:
    """(recall before and after the removal, recall after ReAlign or "")"""
    if table is None:
        return "–", ""
    rows = table[table["k"] == k].set_index("method")
    base, removal, whitened = (_row(rows, word) for word in ("base", "removal", "realign"))
    if base is None or removal is None:
        return "–", ""
    words = f"{100 * base['recall']:.1f} → {100 * removal['recall']:.1f} %"
    return words, percent(whitened["recall"]) if whitened is not None else ""
