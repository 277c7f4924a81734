"""What differs between the architectures of multimodal language models in training: how a conversation is written, how
pictures become tokens, how the language model is run over both. `language_model.py` trains any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PaliGemmaForConditionalGeneration, PreTrainedTokenizerBase

from analysis.demo.architectures import IMAGE_TOKENS, PATCHES
from analysis.demo.contrastive import mean_and_std, pixel_values
from analysis.demo.qwen_vision import patchify, vision_tokens

_BLOCK_SIDE = int(IMAGE_TOKENS**0.5)


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
    that hand pictures to the language model hold."""

    turns: Turns
    vision: tuple[str, ...]
    projector: str

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

    def __init__(self, model: Any, processor: Any):
        self.model = model
        self.mean, self.std = mean_and_std(processor)

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

    def __init__(self, model: PaliGemmaForConditionalGeneration, processor: Any):
        self.model = model
        self.mean, self.std = mean_and_std(processor)

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


def anatomy_of(model: Any, processor: Any) -> Anatomy:
    kind: Any = PaliGemmaAnatomy if isinstance(model, PaliGemmaForConditionalGeneration) else QwenAnatomy
    return kind(model, processor)


def encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts that stand inside a conversation: nothing is put around them."""
    return tokenizer(list(texts), add_special_tokens=False).input_ids
