"""Retrieval of a finished qwen2-vl-mini with mean-pooled last hidden states, through the ordinary processor."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from analysis.data.emoji_arrays import EmojiSplit
from analysis.demo.architectures import INSTRUCTIONS
from analysis.demo.contrastive import recall_figures

_BLOCK = 100


@torch.no_grad()
def pooled_recall(
    model: Qwen2VLForConditionalGeneration, processor: Qwen2VLProcessor, split: EmojiSplit
) -> dict[str, float]:
    """i2t and t2i R@1/5/10 in per cent: every picture against all captions of the split, the mean over all tokens of
    the chat turn without a generation prompt (the paper's base setting)."""
    was_training = model.training
    model.eval()
    pictures = [Image.fromarray(picture) for picture in split.pictures]
    embedded = [_pooled(model, processor, [""] * len(block), block) for block in _blocks(pictures)]
    texts = [_pooled(model, processor, block, None) for block in _blocks(split.captions_flat())]
    model.train(was_training)
    return recall_figures(torch.cat(embedded), torch.cat(texts))


def _pooled(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    texts: list[str],
    pictures: list[Image.Image] | None,
) -> torch.Tensor:
    modality = "text" if pictures is None else "image"
    prompts = []
    for text in texts:
        content: list[dict[str, str]] = [{"type": "text", "text": text + INSTRUCTIONS[modality][0]}]
        if pictures is not None:
            content.insert(0, {"type": "image"})
        conversation: list[dict[str, Any]] = [{"role": "user", "content": content}]
        prompts.append(processor.apply_chat_template(conversation))
    inputs = processor(text=prompts, images=pictures, padding=True, return_tensors="pt")
    hidden = model.model(**inputs, use_cache=False).last_hidden_state.float()
    mask = inputs["attention_mask"][..., None]
    return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def _blocks(items: list) -> list[list]:
    return [items[i : i + _BLOCK] for i in range(0, len(items), _BLOCK)]
