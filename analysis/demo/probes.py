"""`python -m analysis.demo.probes MODEL ...`: do embeddings hold the objects? Linear probes by object and ground, and how
much of an embedding is their sum.

A concept of an SAE cannot be "dog" unless a linear read-out finds dogs, and will hardly be unless the embedding is about
the sum of what it holds: `additive_r2` says how far it is. Both decide whether an SAE is worth training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F

from analysis.cli import OneSentence
from analysis.data.emoji_arrays import EmojiSplit
from analysis.data.emoji_vocabulary import vocabulary
from analysis.demo.believable import BELIEVABLE
from analysis.demo.build import DemoSize
from analysis.demo.contrastive import truth_table
from analysis.demo.evaluate import embedded
from analysis.models.backbones import load_backbone
from analysis.models.embedding import Backbone

TRAINING_SCENES = 6000
_BATCH, _RATE = 2048, 2e-2


@dataclass(frozen=True)
class Labelled:
    """Embeddings (N, D) with the attributes (N, A) of 0 and 1 of what they show or say."""

    vectors: np.ndarray
    truth: np.ndarray


def probe_f1(train: Labelled, val: Labelled, test: Labelled, *, steps: int = 400, seed: int = 0) -> np.ndarray:
    """(A,) F1 on `test` of one logistic regression per attribute, fitted on `train`, thresholds chosen on `val`."""
    mean, spread = train.vectors.mean(0), train.vectors.std(0) + 1e-6
    x = torch.from_numpy((train.vectors - mean) / spread).float()
    y = torch.from_numpy(train.truth).float()
    share = y.mean(0).clamp(1e-4, 1 - 1e-4)
    weight = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = torch.log(share / (1 - share)).requires_grad_(True)
    optimizer = torch.optim.Adam([weight, bias], lr=_RATE)
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _RATE * (1 - step / steps)
        rows = torch.randint(len(x), (min(_BATCH, len(x)),), generator=order)
        loss = F.binary_cross_entropy_with_logits(x[rows] @ weight + bias, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    read = weight.detach().numpy()
    scores = [(part.vectors - mean) / spread @ read for part in (val, test)]
    return threshold_f1(scores[0], val.truth, scores[1], test.truth)


def threshold_f1(
    val_scores: np.ndarray, val_truth: np.ndarray, test_scores: np.ndarray, test_truth: np.ndarray
) -> np.ndarray:
    """(A,) F1 on the test rows of "score >= t", where t is the best threshold on the val rows. Scores (N, A)."""
    order = np.argsort(-val_scores, axis=0)
    hits = np.cumsum(np.take_along_axis(val_truth, order, 0), 0)
    f1 = 2 * hits / (np.arange(1, len(order) + 1)[:, None] + val_truth.sum(0))
    best = np.take_along_axis(order, f1.argmax(0)[None], 0)
    said = test_scores >= np.take_along_axis(val_scores, best, 0)
    return 2 * (said * test_truth).sum(0) / np.maximum(said.sum(0) + test_truth.sum(0), 1)


def additive_r2(train: Labelled, test: Labelled) -> float:
    """R² on `test` of the least-squares sum of one vector per attribute and a constant, fitted on `train`."""

    def design(part: Labelled) -> np.ndarray:
        return np.column_stack([part.truth, np.ones(len(part.truth))]).astype(np.float64)

    parts, *_ = np.linalg.lstsq(design(train), train.vectors.astype(np.float64), rcond=None)
    left = np.square(test.vectors - design(test) @ parts).sum()
    return float(1 - left / np.square(test.vectors - test.vectors.mean(0)).sum())


def labelled(backbone: Backbone, split: EmojiSplit, limit: int | None = None) -> tuple[Labelled, Labelled]:
    """Pictures and their first captions, the first `limit` scenes of a split, as a model embeds them."""
    n = len(split) if limit is None else min(limit, len(split))
    truth = truth_table(split)[:n]
    found = embedded(backbone, split.pictures[:n], [five[0] for five in split.captions[:n]])
    return Labelled(found[0], truth), Labelled(found[1], truth)


@click.command(cls=OneSentence)
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("cache/datasets/emoji-scenes"),
    show_default=True,
    help="The scenes, as `python -m analysis demo --only data` writes them.",
)
def main(models: tuple[str, ...], data: Path) -> None:
    """Print a line for the pictures and one for the captions of each model (a demo model's name or a folder)."""
    backbones = [load_backbone(name, device="cpu", dtype="float32") for name in models]
    splits, objects = DemoSize().splits(data), len(vocabulary())
    click.echo("| model | side | objects with F1 >= .7 | mean F1, objects | grounds | R² of a sum |")
    click.echo("|---|---|---|---|---|---|")
    for name, backbone in zip(models, backbones, strict=True):
        parts = [
            labelled(backbone, split, limit) for split, limit in zip(splits, (TRAINING_SCENES, None, None), strict=True)
        ]
        for side, (train, val, test) in zip(("pictures", "captions"), zip(*parts, strict=True), strict=True):
            f1 = probe_f1(train, val, test)
            click.echo(
                f"| {name} | {side} | {(f1[:objects] >= BELIEVABLE).sum()} of {objects} | {f1[:objects].mean():.2f} "
                f"| {f1[objects:].mean():.2f} | {additive_r2(train, test):.2f} |"
            )


if __name__ == "__main__":
    main()
