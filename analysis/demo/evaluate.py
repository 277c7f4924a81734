"""Retrieval of a finished multimodal language model with mean-pooled hidden states, through the ordinary path."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from analysis.data.emoji_arrays import EmojiSplit
from analysis.data.samples import Picture, Sample
from analysis.demo.architectures import INSTRUCTIONS
from analysis.demo.contrastive import recall_figures
from analysis.models.backbones import load_backbone


def pooled_recall(folder: Path, split: EmojiSplit) -> dict[str, float]:
    """i2t and t2i R@1/5/10 in per cent: every picture against all captions of the split, the mean over all tokens of
    the prompt without an answer (the paper's base setting)."""
    backbone = load_backbone(folder, device="cpu", dtype="float32")
    pictures = [
        Sample(f"p{i}", "image", picture=Picture.of(Image.fromarray(picture)), instruction=INSTRUCTIONS["image"][0])
        for i, picture in enumerate(split.pictures)
    ]
    texts = [
        Sample(f"t{i}", "text", text=text, instruction=INSTRUCTIONS["text"][0])
        for i, text in enumerate(split.captions_flat())
    ]
    images, captions = (
        F.normalize(torch.from_numpy(backbone.embed(samples).vectors["mean"]), dim=-1) for samples in (pictures, texts)
    )
    return recall_figures(images, captions)
