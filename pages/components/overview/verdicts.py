"""Does what is measured here agree with the paper? One verdict a finding, with what the paper prints. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.figures.style import percent, points
from pages.components.overview.sentences import ModalityShares

AGREES, DISAGREES, UNCLEAR = "agrees with the paper", "disagrees with the paper", "cannot tell"
COLORS = {AGREES: "green", DISAGREES: "orange", UNCLEAR: "gray"}
FEW = 0.1  # share of the dictionary that still counts as "few concepts"
PAPERS_SHARE = 0.01  # of Table 1
LEAST = 10  # concepts in a top set from which its overlap is a number and no coin


@dataclass(frozen=True)
class Verdict:
    """word: one of the three; why: what was compared; paper: what the paper says or prints."""

    word: str
    why: str
    paper: str

    @property
    def line(self) -> str:
        """As markdown; foreign names must be escaped before they come here."""
        return f":{COLORS[self.word]}-badge[{self.word}] {self.why} Paper: {self.paper}"


def text_verdict(shares: Sequence[ModalityShares], contrastive: Sequence[bool]) -> Verdict:
    """Concepts of MLLMs lean to text, those of contrastive models are more balanced."""
    paper = "concepts of MLLMs lean to text, those of CLIP and SigLIP2 are more balanced (Figure 2, no numbers)."
    lean = [share.lean for share in shares]
    mllm = [value for value, other in zip(lean, contrastive, strict=True) if not other and not np.isnan(value)]
    dual = [value for value, other in zip(lean, contrastive, strict=True) if other and not np.isnan(value)]
    if not mllm or not dual:
        return Verdict(UNCLEAR, "It takes a multimodal LLM and a contrastive model side by side.", paper)
    here, there = (", ".join(f"{100 * value:+.0f}" for value in values) for values in (mllm, dual))
    why = f"Text minus image concepts, in points of the live ones: multimodal LLM {here}; contrastive {there}."
    agrees = min(mllm) > 0 and min(mllm) > max(abs(value) for value in dual)
    opposite = max(mllm) <= 0 or max(mllm) <= min(dual)
    return Verdict(AGREES if agrees else DISAGREES if opposite else UNCLEAR, why, paper)


def energy_verdict(readouts: Sequence[dict[float, int]], sizes: Sequence[int]) -> Verdict:
    """Few concepts hold most of the energy, in every model."""
    paper = "few concepts hold most of the energy in every model (Figure 3, no numbers)."
    needed = [found[0.5] / size for found, size in zip(readouts, sizes, strict=True) if found[0.5]]
    if not needed:
        return Verdict(UNCLEAR, "No energy was measured.", paper)
    held = ", ".join(percent(value) for value in needed)
    why = f"Half of the energy lies in {held} of the concepts; few: up to {100 * FEW:.0f} %."
    return Verdict(
        AGREES if max(needed) <= FEW else DISAGREES if min(needed) > FEW else UNCLEAR, why, paper
    )  # fmt: skip


def overlap_verdict(
    overlaps: Sequence[dict[str, float]],
    contrastive: Sequence[bool],
    sizes: Sequence[int],
    share: float,
    published: pd.DataFrame,
) -> Verdict:
    """The loudest concepts are those that decide: J(E, A) within what the paper prints for models of its kind."""
    printed = published[published["column"] == "J(E, A)"]
    ranges = {kind: (float(part["value"].min()), float(part["value"].max())) for kind, part in printed.groupby("kind")}
    paper = (
        f"J(E, A) {ranges['mllm'][0]:.2f} to {ranges['mllm'][1]:.2f} for MLLMs, {ranges['contrastive'][0]:.2f} to "
        f"{ranges['contrastive'][1]:.2f} for contrastive models (Table 1, top 1 %)."
    )
    if abs(share - PAPERS_SHARE) > 1e-9:
        return Verdict(UNCLEAR, f"The top set here is {100 * share:g} %.", paper)
    if not sizes:
        return Verdict(UNCLEAR, "No model here is of a kind that the table lists.", paper)
    if min(sizes) * share < LEAST:
        held = max(1, int(min(sizes) * share))
        return Verdict(UNCLEAR, f"The top 1 % here is {held} concept{'s' * (held > 1)}: too few for a share.", paper)
    where = []
    for found, dual in zip(overlaps, contrastive, strict=True):
        low, high = ranges["contrastive" if dual else "mllm"]
        value = found["energy_attribution"]
        where.append("within" if low - 0.005 <= value <= high + 0.005 else "above" if value > high else "below")
    values = ", ".join(
        f"{found['energy_attribution']:.2f} ({word})" for found, word in zip(overlaps, where, strict=True)
    )
    word = AGREES if set(where) == {"within"} else DISAGREES if "within" not in where else UNCLEAR
    return Verdict(word, f"J(E, A) here: {values} the published range.", paper)


def removal_verdict(
    results: Sequence[pd.DataFrame | None], contrastive: Sequence[bool], k: int, published: pd.DataFrame
) -> Verdict:
    """Removing the concepts with the largest attribution raises the recall of MLLMs."""
    printed = published[published["column"] == f"R@{k}"].pivot_table(index="model", columns="setting", values="value")
    rises = printed["Removal"] - printed["Base"]
    paper = (
        f"R@{k} of four MLLMs rises by {rises.min():.1f} to {rises.max():.1f} points, "
        f"Qwen2-VL-7B {printed.loc['Qwen2-VL-7B', 'Base']:.1f} → {printed.loc['Qwen2-VL-7B', 'Removal']:.1f} % (Table 2)."
    )
    changes = []
    for table, dual in zip(results, contrastive, strict=True):
        if table is None or dual:
            continue
        rows = table[(table["k"] == k) & table["method"].str.lower().str.startswith("removal")]
        rows = rows[~rows["method"].str.lower().str.contains("random")]
        if len(rows):
            changes.append(
                tuple(float(rows[name].iloc[0]) for name in ("difference", "difference_low", "difference_high"))
            )
    if not changes:
        return Verdict(UNCLEAR, "No result of a multimodal LLM for this task.", paper)
    why = f"R@{k} of the multimodal LLM changes by " + ", ".join(
        f"{points(value)} [{points(low)}, {points(high)}]" for value, low, high in changes
    )
    up, down = all(low > 0 for _, low, _ in changes), all(high < 0 for _, _, high in changes)
    return Verdict(AGREES if up else DISAGREES if down else UNCLEAR, f"{why} points.", paper)
