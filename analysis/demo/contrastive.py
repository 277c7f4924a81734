"""Contrastive training of a dual encoder on EmojiScenes, so that its embeddings hold every object.

A picture is matched with one of its captions and, because real caption data hold short ones too, with the short texts
that are true of it: "a dog", "on the beach". So are captions. Without them telling 128 scenes apart needs no more than
the grounds and a few groups of objects, and embeddings hold no more (docs/log.md).

softmax (CLIP)    cross-entropy over the batch in both directions
sigmoid (SigLIP)  binary cross-entropy of every pair, with a learnt bias

First objects are learnt, at a scale of the logits that lets pairs become certain; then embeddings are spread, at one so low
that no pair ever is, which keeps all they hold apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPModel, ProcessorMixin, SiglipModel

from analysis.data.emoji_arrays import EmojiSplit
from analysis.data.emoji_grounds import GROUNDS
from analysis.data.emoji_scenes import GRID
from analysis.data.emoji_vocabulary import vocabulary, with_article
from analysis.demo.loop import Stage

SOFTMAX = (
    Stage("clip-contrastive", steps=1800, batch_size=96, rate=1.5e-3, warmup=60),
    Stage("clip-spread", steps=2200, batch_size=96, rate=1.5e-3, warmup=60),
)
SIGMOID = (
    Stage("siglip-contrastive", steps=1800, batch_size=96, rate=1.5e-3, warmup=60),
    Stage("siglip-spread", steps=2200, batch_size=96, rate=1.5e-3, warmup=60),
)
LOGIT_SCALE = 8.0  # of softmax in its first stage, fixed
SPREAD_SCALE = 4.0  # of either in its second, fixed
SIGMOID_START = (10.0, -8.0)  # scale and bias of sigmoid, learnt in its first stage
SPREAD_START = (SPREAD_SCALE, -4.5)  # with the bias that sigmoid begins with there: about one pair in 96 is a match
SHORT_WEIGHT = 0.5  # of each of the two losses of short texts
GROUPED = 0.5  # share of batches whose scenes lie on few grounds, so that only objects tell them apart
GROUNDS_A_BATCH = 4


class ContrastiveTraining:
    """A dual encoder with a tokenised split: the loss of a batch and the retrieval figures of the split."""

    def __init__(self, model: CLIPModel | SiglipModel, processor: ProcessorMixin, split: EmojiSplit):
        self.model: Any = model
        self.split = split
        self.sigmoid = isinstance(model, SiglipModel)
        self._tokenizer: Any = processor.tokenizer
        self.tokens, self.lengths = self._tokenised(split.captions_flat())
        self.tokens, self.lengths = self.tokens.view(len(split), 5, -1), self.lengths.view(-1, 5)
        self.mean, self.std = mean_and_std(processor)
        tokens, _ = self._tokenised([text for texts in short_texts() for text in texts])
        self.short_tokens = tokens.view(len(short_texts()), -1, tokens.shape[1])
        self.truth = torch.from_numpy(truth_table(split))
        self._grounds = Grounds(split)

    def begin(self, *, spread: bool) -> None:
        """The logit scale, and of sigmoid the bias, that a stage begins with."""
        scale, bias = SPREAD_START if spread else SIGMOID_START if self.sigmoid else (LOGIT_SCALE, None)
        self.model.logit_scale.data.fill_(math.log(scale))
        if self.sigmoid:
            self.model.logit_bias.data.fill_(bias)

    def parameters(self, *, spread: bool) -> list[torch.nn.Parameter]:
        """All that a stage trains. Only sigmoid learns its logit scale, and not while embeddings are spread."""
        fixed = ("logit_scale",) if spread or not self.sigmoid else ()
        return [parameter for name, parameter in self.model.named_parameters() if name not in fixed]

    def pixels(self, pictures: np.ndarray) -> torch.Tensor:
        """(B, S, S, 3) uint8 -> (B, 3, S, S) float32; equals the processor's output for pictures of this size."""
        return pixel_values(pictures, self.mean, self.std).contiguous()

    def embed_pictures(self, pictures: np.ndarray) -> torch.Tensor:
        return F.normalize(self._of_pictures(pictures), dim=-1)

    def embed_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.normalize(self._of_texts(tokens), dim=-1)

    def batch_loss(self, indices: np.ndarray, rng: np.random.Generator, _: float) -> torch.Tensor:
        """Pictures against one of their five captions each; pictures and captions against every short text."""
        indices = self._grounds.sometimes_few(indices, rng)
        chosen = torch.from_numpy(indices), torch.from_numpy(rng.integers(5, size=len(indices)))
        wordings = torch.from_numpy(rng.integers(self.short_tokens.shape[1], size=len(self.short_tokens)))
        captions = self._cut(self.tokens[chosen], self.lengths[chosen])
        short = self.short_tokens[torch.arange(len(wordings)), wordings]
        pictures = self.embed_pictures(shifted(self.split.pictures[indices], rng))
        texts, shorts = self.embed_texts(captions), self.embed_texts(short)
        truth = self.truth[indices]
        matched = self._loss(pictures, texts, torch.eye(len(indices)))
        return matched + SHORT_WEIGHT * (self._loss(pictures, shorts, truth) + self._loss(texts, shorts, truth))

    @property
    def stages(self) -> tuple[Stage, Stage]:
        """The one that learns objects and the one that spreads embeddings."""
        return SIGMOID if self.sigmoid else SOFTMAX

    @torch.no_grad()
    def level(self, *, limit: int = 1000) -> None:
        """Give texts the mean length of pictures, over the first `limit` scenes, by the last layer of the text side. The loss
        and retrieval see directions alone and leave lengths to chance; an SAE sees both, and codes of the longer side would
        hide when a concept fires on the other."""
        pictures, texts = self.features(limit=limit)
        long, short = (side.norm(dim=-1).mean() for side in (pictures, texts[::5]))
        last = self.model.text_model.head if self.sigmoid else self.model.text_projection
        for parameter in last.parameters():
            parameter.mul_(long / short)

    @torch.no_grad()
    def embed(self, *, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit rows of the first `limit` pictures (n, D) and of their captions (5 n, D)."""
        pictures, texts = self.features(limit=limit)
        return F.normalize(pictures, dim=-1), F.normalize(texts, dim=-1)

    @torch.no_grad()
    def features(self, *, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model gives for the same, with its lengths."""
        n = len(self.split) if limit is None else min(limit, len(self.split))
        pictures = [self._of_pictures(self.split.pictures[i : min(i + 250, n)]) for i in range(0, n, 250)]
        texts = [self._of_texts(block) for block in self.tokens[:n].flatten(0, 1).split(500)]
        return torch.cat(pictures), torch.cat(texts)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Loss of pictures and captions over blocks of 100, and retrieval over the first 1,000 of the split."""
        pictures, texts = self.embed(limit=1000)
        pairs = list(zip(pictures.split(100), texts[::5].split(100), strict=True))
        loss = torch.stack([self._loss(*pair, torch.eye(len(pair[0]))) for pair in pairs]).mean()
        return {"loss": round(float(loss), 4), **recall_figures(pictures, texts)}

    def _of_pictures(self, pictures: np.ndarray) -> torch.Tensor:
        return self.model.get_image_features(pixel_values=self.pixels(pictures)).pooler_output

    def _of_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model.get_text_features(input_ids=tokens).pooler_output

    def _loss(self, rows: torch.Tensor, columns: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """truth (R, C): 1 where row and column belong together; every row has a partner."""
        logits = self.model.logit_scale.exp() * rows @ columns.T
        if isinstance(self.model, SiglipModel):
            each = F.binary_cross_entropy_with_logits(logits + self.model.logit_bias, truth, reduction="none")
            return each.sum(1).mean()
        return match_loss(logits, truth)

    def _tokenised(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids, as the processor pads them for this model, and lengths."""
        found = self._tokenizer(texts, padding="max_length", truncation=True, return_tensors="np")
        lengths = (found.input_ids != self._tokenizer.pad_token_id).sum(1)
        width = found.input_ids.shape[1] if self.sigmoid else found.attention_mask.sum(1).max()
        return torch.from_numpy(found.input_ids[:, :width]), torch.from_numpy(lengths)

    def _cut(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """CLIP pools at the end token, so padding behind the longest text is cut; SigLIP pools at its last position."""
        return tokens if self.sigmoid else tokens[:, : int(lengths.max()) + 1]


class Grounds:
    """The scenes of a split by the ground they stand on."""

    def __init__(self, split: EmojiSplit):
        ground = np.array([GROUNDS.index(scene.ground) for scene in split.scenes])
        self._rows = [rows for g in range(len(GROUNDS)) if len(rows := np.flatnonzero(ground == g))]

    def sometimes_few(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A batch as it is or, in a share GROUPED of all draws, as many scenes of few grounds instead."""
        if rng.random() >= GROUPED:
            return indices
        grounds = rng.choice(len(self._rows), min(GROUNDS_A_BATCH, len(self._rows)), replace=False)
        parts = np.array_split(np.arange(len(indices)), len(grounds))
        return np.concatenate(
            [
                rng.choice(self._rows[g], len(part), replace=len(self._rows[g]) < len(part))
                for g, part in zip(grounds, parts, strict=True)
            ]
        )


def short_texts() -> list[tuple[str, ...]]:
    """Four ways to say each noun and each ground alone; the columns of `truth_table` have their order."""
    nouns = [(*[with_article(noun.word)] * 3, noun.plural) for noun in vocabulary().values()]
    return [*nouns, *(ground.phrases for ground in GROUNDS)]


def truth_table(split: EmojiSplit) -> np.ndarray:
    """(N, number of nouns + grounds) float32: 1 where the scene has the object or the ground."""
    words = {word: column for column, word in enumerate(vocabulary())}
    table = np.zeros((len(split), len(words) + len(GROUNDS)), np.float32)
    for row, scene in enumerate(split.scenes):
        table[row, [words[word] for word in scene.objects]] = 1
        table[row, len(words) + GROUNDS.index(scene.ground)] = 1
    return table


def mean_and_std(processor: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(3,) and (3,) by which a processor makes pixels comparable."""
    return torch.tensor(processor.image_processor.image_mean), torch.tensor(processor.image_processor.image_std)


def pixel_values(pictures: np.ndarray, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32."""
    return ((torch.from_numpy(np.array(pictures)).float() / 255 - mean) / std).permute(0, 3, 1, 2)


def shifted(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every picture moved by up to one step of the grid in each direction; edges are repeated."""
    padded = np.pad(pictures, ((0, 0), (GRID, GRID), (GRID, GRID), (0, 0)), mode="edge")
    side = pictures.shape[1]
    moves = GRID * rng.integers(3, size=(len(pictures), 2))
    return np.stack([p[y : y + side, x : x + side] for p, (y, x) in zip(padded, moves, strict=True)])


def recall_figures(pictures: torch.Tensor, texts: torch.Tensor) -> dict[str, float]:
    """Unit rows, five texts a picture in order -> i2t and t2i R@1/5/10 in per cent."""
    similarity = pictures @ texts.T
    owner = torch.arange(len(texts)) // 5
    found_texts = owner[similarity.topk(10, dim=1).indices] == torch.arange(len(pictures))[:, None]
    found_pictures = similarity.T.topk(10, dim=1).indices == owner[:, None]
    figures = {}
    for name, hits in (("i2t", found_texts), ("t2i", found_pictures)):
        for k in (1, 5, 10):
            figures[f"{name}@{k}"] = round(100 * float(hits[:, :k].any(1).float().mean()), 2)
    return figures


def match_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy of logits (R, C) where truth (R, C) is 1 for partners, which share the probability
    equally. With one partner each it is InfoNCE. Rows and columns without a partner do not count."""
    return (_one_way(logits, truth) + _one_way(logits.T, truth.T)) / 2


def _one_way(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    partners = truth.sum(1)
    wanted = (truth * logits.log_softmax(1)).sum(1)[partners > 0] / partners[partners > 0]
    return -wanted.mean()
