"""`python -m analysis.demo.agreement STORE ...`: does the belief score find the concepts that really mean something?

The generator knows what every scene holds; captions, from which names are made, say part of it in varying words. A concept
means something where one attribute of the scenes (an object, a ground, a number, a layout), chosen on one half of the
scenes, predicts on the other where it fires. How well the scores that need no ground truth tell these concepts from the
rest is their AUROC.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from analysis.cli import OneSentence
from analysis.concepts.evidence import Evidence
from analysis.concepts.held_out import HeldOut
from analysis.demo.truth import held_of_codes, scene_evidence
from analysis.errors import DataError
from analysis.sae.checkpoint import load_untrained
from analysis.sae.codes import Codes
from analysis.sae.encode import encode
from analysis.store.read import Store, open_store

MEANS_SOMETHING = 0.5  # held-out F1 of an attribute of the scenes
JUDGED = ("word_f1", "word_auroc", "word_purity", "clarity", "monosemanticity", "monosemanticity_second")


@dataclass(frozen=True)
class Agreement:
    """truth: the test of every concept with attributes of the scenes; live (K,): those with a test in both; auroc: score ->
    how well it tells concepts that mean something from others, NaN where all or none do."""

    truth: HeldOut
    live: np.ndarray
    auroc: dict[str, float]

    @property
    def meaningful(self) -> np.ndarray:
        return self.live & (np.nan_to_num(self.truth.f1) >= MEANS_SOMETHING)


def agreement(store: Store, evidence: Evidence, codes: Codes, scores: pd.DataFrame) -> Agreement:
    """scores: a column for each of JUDGED that is to be compared with the truth. codes: of the SAE that they are about."""
    truth = held_of_codes(codes, evidence)
    live = ~np.isnan(truth.f1) & scores["word_f1"].notna().to_numpy()
    good = live & (np.nan_to_num(truth.f1) >= MEANS_SOMETHING)
    return Agreement(truth, live, {name: _auroc(scores[name].to_numpy(float), good, live & ~good) for name in scores})


def _auroc(score: np.ndarray, good: np.ndarray, bad: np.ndarray) -> float:
    yes, no = (score[side & ~np.isnan(score)] for side in (good, bad))
    return float(mannwhitneyu(yes, no).statistic / (len(yes) * len(no))) if len(yes) and len(no) else float("nan")


@click.command(cls=OneSentence)
@click.argument("stores", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--scenes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("cache/datasets/emoji-scenes/annotations/scenes_test.json"),
    show_default=True,
    help="Ground truth of the pictures that the stores are about.",
)
def main(stores: tuple[Path, ...], scenes: Path) -> None:
    """Print, for the SAE of each store and the one that its training began from, how many concepts mean something, how many
    have a name, and the AUROC of each belief score for it."""
    opened = [open_store(path) for path in stores]
    try:
        table = json.loads(scenes.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{scenes} holds no JSON; expected the scenes that the generator wrote.") from error
    click.echo(f"| store | SAE | tested | mean something | named | {' | '.join(JUDGED)} |")
    click.echo("|---" * (5 + len(JUDGED)) + "|")
    for path, store in zip(stores, opened, strict=True):
        evidence = scene_evidence(store, table)
        start = load_untrained(store.cache_dir / store.config["sae"]["path"])
        kinds = [("trained", store.codes, store.concepts, str((store.concepts["name"] != "").sum()))]
        if start is not None and store.untrained is not None:
            kinds.append(("untrained", encode(start, store.embeddings()), store.untrained, ""))
        for kind, codes, scores, named in kinds:
            found = agreement(store, evidence, codes, scores[[name for name in JUDGED if name in scores]])
            numbers = " | ".join(f"{found.auroc[name]:.2f}" if name in found.auroc else "" for name in JUDGED)
            click.echo(
                f"| {path.parent.name} | {kind} | {found.live.sum()} | {found.meaningful.sum()} | {named} | {numbers} |"
            )


if __name__ == "__main__":
    main()
