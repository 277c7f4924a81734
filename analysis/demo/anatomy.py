"""What differs between the architectures of multimodal language models in training: how a conversation is written, how
pictures become tokens, how the language model is run over both. `language_model.py` trains any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from transformers import (
    ChameleonForConditionalGeneration,
    PaliGemmaForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from analysis.demo.architectures import IMAGE_TOKENS, PATCHES
from analysis.demo.contrastive import mean_and_std, pixel_values
from analysis.demo.qwen_vision import patchify, vision_tokens

_BLOCK_SIDE = int(IMAGE_TOKENS**0.5)
PICTURE_WEIGHT = 0.2  # of a picture's token in the loss: it has 36, an answer about 12


@dataclass(frozen=True)
class Turns:
    """How a user's turn and its answer are written: before, picture where there is one, after, what the user says, closed,
    the answer, end; where nobody answers, asked instead of closed. image_token: what stands in `picture` once for each of
    its tokens."""

    picture: str
    image_token: str
    asked: str
    closed: str
    end: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Batch:
    """B right-padded sequences. prefix: how many first tokens of each are read in both directions by an architecture that
    does so; pictures: rows of the split, in order of their rows; image_start: place of a picture's first token."""

    tokens: torch.Tensor  # (B, L) int64
    labels: torch.Tensor  # (B, L), nothing is predicted where it is negative
    prefix: torch.Tensor  # (B,) int64
    has_image: torch.Tensor  # (B,) bool
    pictures: np.ndarray
    image_start: int


class Anatomy(Protocol):
    """vision: what the names of the parameters of the parts that read pictures begin with; projector: what the names of those
    that hand pictures to the language model hold, None where nothing stands between; language: the language model without
    its head. weights: of every token in the loss, where pictures are predicted as well as words; None where they are not.
    """

    turns: Turns
    vision: tuple[str, ...]
    projector: str | None
    language: nn.Module
    weights: torch.Tensor | None

    def read(self, batch: Batch, pictures: np.ndarray) -> Batch:
        """The batch as it is read: where pictures are words of the language model, these stand in their place, and where
        a label stands for a picture's token."""
        ...

    def hidden(self, batch: Batch, pictures: np.ndarray) -> torch.Tensor:
        """(B, L, D) states behind the final norm. pictures: (n, SIDE, SIDE, 3) uint8, those of the batch."""
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor: ...


class QwenAnatomy:
    """Qwen2-VL and Qwen3-VL: a chat template, 9 merged image tokens on a grid of positions, causal attention. What Qwen3-VL's
    tower hands to the first layers of the language model besides (DeepStack) is added there."""

    turns = Turns(
        before="<|im_start|>user\n",
        picture=f"<|vision_start|>{'<|image_pad|>' * IMAGE_TOKENS}<|vision_end|>",
        image_token="<|image_pad|>",
        asked="<|im_end|>\n",
        closed="<|im_end|>\n<|im_start|>assistant\n",
        end="<|im_end|>",
    )
    vision = ("model.visual.",)
    projector = "merger"
    weights = None

    def __init__(self, model: Any, processor: Any):
        self.model, self.language = model, model.model.language_model
        self.mean, self.std = mean_and_std(processor)

    def read(self, batch: Batch, pictures: np.ndarray) -> Batch:
        return batch

    def picture_tokens(self, pictures: np.ndarray) -> torch.Tensor:
        """(n, 9, D)"""
        return self._seen(pictures)[0]

    def hidden(self, batch: Batch, pictures: np.ndarray) -> torch.Tensor:
        model = self.model.model
        embedded = model.language_model.embed_tokens(batch.tokens)
        stacked: dict[str, Any] = {}
        if len(pictures):
            image, deeper = self._seen(pictures)
            slots = batch.tokens == self.model.config.image_token_id
            embedded = embedded.masked_scatter(slots[..., None], image.to(embedded.dtype))
            if deeper:
                stacked = {"visual_pos_masks": slots, "deepstack_visual_embeds": [one.flatten(0, 1) for one in deeper]}
        positions = self.positions(batch)
        found = model.language_model(inputs_embeds=embedded, position_ids=positions, use_cache=False, **stacked)
        return found.last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model.lm_head(hidden)

    def positions(self, batch: Batch) -> torch.Tensor:
        """(3, B, L) time, row and column as `get_rope_index` gives them: the 3 x 3 image tokens share one time step and
        the text goes on after the larger side of the grid."""
        plain = np.broadcast_to(np.arange(batch.tokens.shape[1]), (3, batch.tokens.shape[1]))
        start, stop = batch.image_start, batch.image_start + IMAGE_TOKENS
        cell = np.arange(IMAGE_TOKENS)
        shown = plain.copy()
        shown[:, start:stop] = start + np.stack([cell * 0, cell // _BLOCK_SIDE, cell % _BLOCK_SIDE])
        shown[:, stop:] -= IMAGE_TOKENS - _BLOCK_SIDE
        chosen = np.where(batch.has_image.numpy()[None, :, None], shown[:, None], plain[:, None])
        return torch.from_numpy(chosen)

    def _seen(self, pictures: np.ndarray) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return vision_tokens(self.model.model.visual, patchify(pictures, self.mean, self.std))


class PaliGemmaAnatomy:
    """PaliGemma: 36 image tokens and the prompt read in both directions, the answer from left to right."""

    turns = Turns(
        picture="<image>" * PATCHES,
        image_token="<image>",
        after="<bos>",
        asked="\n",
        closed="\n",
        end="<eos>",
    )
    vision = ("model.vision_tower.", "model.multi_modal_projector.")
    projector = "multi_modal_projector"
    weights = None

    def __init__(self, model: PaliGemmaForConditionalGeneration, processor: Any):
        self.model, self.language = model, model.model.language_model
        self.mean, self.std = mean_and_std(processor)

    def read(self, batch: Batch, pictures: np.ndarray) -> Batch:
        return batch

    def hidden(self, batch: Batch, pictures: np.ndarray) -> torch.Tensor:
        suffix = torch.arange(batch.tokens.shape[1]) >= batch.prefix[:, None]
        shown = {}
        if len(pictures):
            shown = {"pixel_values": pixel_values(pictures, self.mean, self.std)}
        found = self.model.model(input_ids=batch.tokens, token_type_ids=suffix.long(), use_cache=False, **shown)
        return found.last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        cap = self.model.config.get_text_config().final_logit_softcapping
        return cap * torch.tanh(self.model.lm_head(hidden) / cap)


class ChameleonAnatomy:
    """Chameleon: a picture is 36 words of the language model's own vocabulary, which a frozen encoder finds, read and
    predicted from left to right like all others."""

    turns = Turns(
        before="<s>",
        picture=f"<racm3:break>{'<image>' * PATCHES}<eoss>",
        image_token="<image>",
        asked="<reserved08706>",
        closed="<reserved08706>",
        end="</s>",
    )
    vision = ("model.vqmodel.",)
    projector = None

    def __init__(self, model: ChameleonForConditionalGeneration, processor: Any):
        self.model: Any = model
        inner = self.model.model
        self.language = nn.ModuleDict({"embed_tokens": inner.embed_tokens, "layers": inner.layers, "norm": inner.norm})
        self.weights = torch.ones(model.config.vocab_size)
        self.weights[inner.vocabulary_mapping.image_tokens] = PICTURE_WEIGHT
        self._processor = processor

    def pixels(self, pictures: np.ndarray) -> torch.Tensor:
        """(n, SIDE, SIDE, 3) uint8 -> (n, 3, SIDE / 2, SIDE / 2) float32 by the processor itself: it scales them down."""
        loose = list(torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2))
        return self._processor.image_processor(images=loose, return_tensors="pt")["pixel_values"]

    def read(self, batch: Batch, pictures: np.ndarray) -> Batch:
        placeholder = self.model.config.image_token_id
        slots, wanted = batch.tokens == placeholder, batch.labels == placeholder
        if not slots.any():
            return batch
        with torch.no_grad():
            found = self.model.get_image_tokens(self.pixels(pictures)).long()
        per_row = torch.zeros_like(batch.tokens).masked_scatter(slots, found)
        return replace(
            batch,
            tokens=torch.where(slots, per_row, batch.tokens),
            labels=torch.where(wanted, per_row, batch.labels),
        )

    def hidden(self, batch: Batch, pictures: np.ndarray) -> torch.Tensor:
        tokens = self.read(batch, pictures).tokens
        return self.model.model(input_ids=tokens, use_cache=False).last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model.lm_head(hidden)


def anatomy_of(model: Any, processor: Any) -> Anatomy:
    kinds: dict[str, Any] = {"paligemma": PaliGemmaAnatomy, "chameleon": ChameleonAnatomy}
    return kinds.get(model.config.model_type, QwenAnatomy)(model, processor)


def encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts that stand inside a conversation: nothing is put around them."""
    return tokenizer(list(texts), add_special_tokens=False).input_ids
