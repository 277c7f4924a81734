"""A multimodal language model of any architecture in `anatomy.py`, trained the way real ones are made.

vision   the vision tower contrastively against bags of caption words; that text side is thrown away. paligemma2-mini has no
         such stage: it begins with the trained tower of siglip2-mini, as the real one begins with SigLIP's. That of
         chameleon-mini is in `picture_tokens.py`
text     the language model alone, on captions, captions from shuffled words and one-word answers
align    the projector alone, between two frozen halves: captioning and naming. Chameleon has no projector
joint    everything: next-token prediction of captions and one-word answers; of Chameleon everything but the encoder, which
         stays frozen as the real one's, and of pictures as well
match    qwen2-vl-contrastive-mini only, which begins with the finished qwen2-vl-mini: everything, with the loss of clip-mini on
         the mean over a prompt's tokens, as embedding models are made of captioning ones

No other stage has a loss on the embeddings that are analysed later. Trained from scratch by captioning alone, a network of
this size ignores the picture for the first 40,000 samples and retrieves at chance. PaliGemma reads image and prompt in both
directions from the joint stage on; before, its language model reads as Gemma learnt to read, from left to right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from analysis.data.emoji_arrays import EmojiSplit
from analysis.demo.anatomy import Batch, QwenAnatomy, anatomy_of, encoded
from analysis.demo.contrastive import (
    LOGIT_SCALE,
    SHORT_WEIGHT,
    SPREAD_SCALE,
    Grounds,
    match_loss,
    recall_figures,
    shifted,
    short_texts,
    truth_table,
)
from analysis.demo.conversations import IGNORED, KINDS, Conversations, caption_tokens
from analysis.demo.loop import Stage


@dataclass(frozen=True)
class Stages:
    """The stages of one model; `vision` is None where the tower comes trained, `align` where there is no projector."""

    vision: Stage | None
    text: Stage
    align: Stage | None
    joint: Stage

    def named(self, prefix: str, *, vision: bool = True) -> Stages:
        """The same stages under names of their own, from which their batches are drawn."""

        def of(stage: Stage | None) -> Any:
            return stage and replace(stage, name=f"{prefix}-{stage.name.rpartition('-')[2]}")

        return Stages(of(self.vision) if vision else None, of(self.text), of(self.align), of(self.joint))


QWEN2 = Stages(
    vision=Stage("qwen-vision", steps=2400, batch_size=96, rate=1.5e-3, warmup=60, floor=0.05),
    text=Stage("qwen-text", steps=800, batch_size=32, rate=1.5e-3, warmup=60),
    align=Stage("qwen-align", steps=300, batch_size=32, rate=1.5e-3, warmup=40),
    joint=Stage("qwen-joint", steps=4000, batch_size=32, rate=1e-3, warmup=60),
)
STAGES = {
    "qwen2-vl-mini": QWEN2,
    "qwen3-vl-mini": QWEN2.named("qwen3"),
    "paligemma2-mini": QWEN2.named("paligemma", vision=False),
    "chameleon-mini": Stages(
        vision=Stage("chameleon-pictures", steps=2400, batch_size=48, rate=2e-3, warmup=40, floor=0.05),
        text=replace(QWEN2.text, name="chameleon-text"),
        align=None,
        joint=replace(QWEN2.joint, name="chameleon-joint"),
    ),
}
MATCH = Stage("qwen-match", steps=600, batch_size=48, rate=5e-4, warmup=30)

# shares of the kinds of conversation, in the order of KINDS: describe, name_image, name_text, name_both, describe_tags
TEXT_MIX = (0.0, 0.0, 0.35, 0.0, 0.65)
ALIGN_MIX = (0.75, 0.25, 0.0, 0.0, 0.0)
JOINT_MIX = (0.55, 0.15, 0.1, 0.1, 0.1)
ALIGN_EASY = 0.3  # this first share of the alignment sees pictures of one kind of object only


class BagOfWords(nn.Module):
    """The contrastive partner of the vision tower: averaged word vectors, and two projections. It exists
    for the vision stage only and no part of it reaches the model."""

    def __init__(self, vocabulary_size: int, hidden: int, width: int = 256, projection: int = 128):
        super().__init__()
        self.words = nn.EmbeddingBag(vocabulary_size, width, mode="mean")
        self.text = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, projection))
        self.picture = nn.Linear(hidden, projection)

    def embed_texts(self, token_lists: list[list[int]]) -> torch.Tensor:
        flat = torch.tensor([token for tokens in token_lists for token in tokens])
        starts = torch.tensor([0, *np.cumsum([len(tokens) for tokens in token_lists[:-1]])])
        return F.normalize(self.text(self.words(flat, starts)), dim=-1)

    def embed_pictures(self, image_tokens: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.picture(image_tokens.mean(1)), dim=-1)


class VisionTraining:
    """Stage `vision`: mean image tokens against bags of caption words and of the short texts that are true of them, with
    the losses of `contrastive.py`."""

    def __init__(self, model: Any, processor: Any, train: EmojiSplit, test: EmojiSplit):
        self.train, self.test = train, test
        self.anatomy = QwenAnatomy(model, processor)
        self.partner = BagOfWords(len(processor.tokenizer), model.lm_head.in_features)
        self.module = nn.ModuleDict({"visual": model.model.visual, "partner": self.partner})
        self.captions = caption_tokens(processor.tokenizer, train)
        short = processor.tokenizer([texts[0] for texts in short_texts()], add_special_tokens=False)
        self.short, self.truth = short.input_ids, torch.from_numpy(truth_table(train))
        self.test_captions = caption_tokens(processor.tokenizer, test)
        self._grounds = Grounds(train)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def embed_pictures(self, pictures: np.ndarray) -> torch.Tensor:
        return self.partner.embed_pictures(self.anatomy.picture_tokens(pictures))

    def batch_loss(self, indices: np.ndarray, rng: np.random.Generator, _: float) -> torch.Tensor:
        indices = self._grounds.sometimes_few(indices, rng)
        pictures = self.embed_pictures(shifted(self.train.pictures[indices], rng))
        captions = self.partner.embed_texts([self.captions[i][rng.integers(5)] for i in indices])
        short = self.partner.embed_texts(self.short)
        matched = match_loss(LOGIT_SCALE * pictures @ captions.T, torch.eye(len(indices)))
        return matched + match_loss(LOGIT_SCALE * pictures @ short.T, self.truth[indices])

    @torch.no_grad()
    def measure(self) -> dict[str, Any]:
        """Retrieval of the thrown-away pair on the held-out split: does the tower see?"""
        blocks = [self.test.pictures[i : i + 250] for i in range(0, min(1000, len(self.test)), 250)]
        pictures = torch.cat([self.embed_pictures(block) for block in blocks])
        texts = [caption for five in self.test_captions[: len(pictures)] for caption in five]
        return recall_figures(pictures, self.partner.embed_texts(texts))


class LanguageTraining:
    """Stages `text`, `align` and `joint`: next-token prediction over a mix of conversations."""

    def __init__(self, model: Any, processor: Any, split: EmojiSplit):
        self.model, self.split = model, split
        self.anatomy = anatomy_of(model, processor)
        self.conversations = Conversations(processor.tokenizer, split, self.anatomy.turns)
        self.easy = np.array([i for i, scene in enumerate(split.scenes) if len(scene.objects) == 1])

    def parameters(self, part: str) -> list[nn.Parameter]:
        """text: all but what reads pictures; align: what hands them over; joint: everything, or as text where pictures come
        as words."""
        named = list(self.model.named_parameters())
        projector = self.anatomy.projector
        if part == "text" or (part == "joint" and projector is None):
            return [parameter for name, parameter in named if not name.startswith(self.anatomy.vision)]
        if part == "align":
            return [parameter for name, parameter in named if projector is not None and projector in name]
        return [parameter for _, parameter in named]

    def text_loss(self, indices: np.ndarray, rng: np.random.Generator, _: float) -> torch.Tensor:
        kinds = rng.choice(KINDS, size=len(indices), p=TEXT_MIX)
        return self._loss(self.conversations.batch(indices, kinds, rng, predict_user_text=True, causal=True))

    def align_loss(self, indices: np.ndarray, rng: np.random.Generator, progress: float) -> torch.Tensor:
        kinds = rng.choice(KINDS, size=len(indices), p=ALIGN_MIX)
        if progress < ALIGN_EASY:
            indices = self.easy[indices % len(self.easy)]
        return self._loss(self.conversations.batch(indices, kinds, rng, causal=True))

    def joint_loss(self, indices: np.ndarray, rng: np.random.Generator, _: float) -> torch.Tensor:
        kinds = rng.choice(KINDS, size=len(indices), p=JOINT_MIX)
        predict_pictures = self.anatomy.weights is not None
        return self._loss(self.conversations.batch(indices, kinds, rng, predict_pictures=predict_pictures))

    def predict(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits (T, V) float32, labels (T,)) of the tokens that carry a loss."""
        pictures = self.split.pictures[batch.pictures]
        batch = self.anatomy.read(batch, pictures)
        hidden = self.anatomy.hidden(batch, pictures)
        labels = batch.labels[:, 1:]
        carries = labels != IGNORED
        return self.anatomy.logits(hidden[:, :-1][carries]), labels[carries]

    def _loss(self, batch: Batch) -> torch.Tensor:
        logits, labels = self.predict(batch)
        return F.cross_entropy(logits, labels, self.anatomy.weights)

    @torch.no_grad()
    def held_out(self, *, limit: int = 300, seed: int = 0, causal: bool = False) -> dict[str, Any]:
        """Loss and token accuracy by kind of conversation over the first `limit` samples of this split."""
        figures: dict[str, Any] = {}
        for kind in KINDS:
            rng = np.random.default_rng(seed)
            losses, hits, total = 0.0, 0, 0
            for start in range(0, min(limit, len(self.split)), 100):
                indices = np.arange(start, min(start + 100, limit, len(self.split)))
                batch = self.conversations.batch(indices, [kind] * len(indices), rng, causal=causal)
                logits, labels = self.predict(batch)
                losses += float(F.cross_entropy(logits, labels, reduction="sum"))
                hits += int((logits.argmax(-1) == labels).sum())
                total += len(labels)
            figures[kind] = {"loss": round(losses / total, 4), "token_accuracy": round(hits / total, 4)}
        return figures


class MatchTraining:
    """Stage `match`: pictures against captions, and both against short texts, by the means over their prompts' tokens."""

    def __init__(self, model: Any, processor: Any, split: EmojiSplit):
        self.split = split
        self.anatomy = anatomy_of(model, processor)
        self.conversations = Conversations(processor.tokenizer, split, self.anatomy.turns)
        self.short = encoded(processor.tokenizer, [texts[0] for texts in short_texts()])
        self.truth = torch.from_numpy(truth_table(split))

    def embed_pictures(self, rows: np.ndarray, pictures: np.ndarray) -> torch.Tensor:
        return self._embed(self.conversations.prompts(pictures=rows), pictures)

    def embed_texts(self, texts: Sequence[list[int]]) -> torch.Tensor:
        return self._embed(self.conversations.prompts(texts), self.split.pictures[:0])

    def batch_loss(self, indices: np.ndarray, rng: np.random.Generator, _: float) -> torch.Tensor:
        pictures = self.embed_pictures(indices, shifted(self.split.pictures[indices], rng))
        captions = self.embed_texts([self.conversations.captions[i][rng.integers(5)] for i in indices])
        short, truth = self.embed_texts(self.short), self.truth[indices]
        matched = match_loss(SPREAD_SCALE * pictures @ captions.T, torch.eye(len(indices)))
        shorts = (match_loss(SPREAD_SCALE * side @ short.T, truth) for side in (pictures, captions))
        return matched + SHORT_WEIGHT * sum(shorts, torch.zeros(()))

    @torch.no_grad()
    def measure(self, *, limit: int = 300) -> dict[str, Any]:
        """Retrieval among the first `limit` samples of this split."""
        rows = np.arange(min(limit, len(self.split)))
        pictures = torch.cat([self.embed_pictures(part, self.split.pictures[part]) for part in np.array_split(rows, 3)])
        texts = [caption for row in rows for caption in self.conversations.captions[row]]
        blocks = [self.embed_texts(texts[start : start + 250]) for start in range(0, len(texts), 250)]
        return recall_figures(pictures, torch.cat(blocks))

    def _embed(self, batch: Batch, pictures: np.ndarray) -> torch.Tensor:
        hidden = self.anatomy.hidden(batch, pictures)
        read = (torch.arange(hidden.shape[1]) < batch.prefix[:, None])[..., None]
        return F.normalize((hidden * read).sum(1) / batch.prefix[:, None], dim=-1)
