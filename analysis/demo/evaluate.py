"""What a finished model embeds of the scenes of a split, through the ordinary path, and how well that retrieves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from analysis.data.emoji_arrays import EmojiSplit
from analysis.data.samples import Picture, Sample
from analysis.demo.architectures import INSTRUCTIONS
from analysis.demo.contrastive import recall_figures
from analysis.models.backbones import load_backbone
from analysis.models.embedding import Backbone


def embedded(backbone: Backbone, pictures: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) of pictures (N, S, S, 3) and (M, D) of texts: the vector of a dual encoder, of a language model the mean over
    all tokens of the prompt without an answer (the paper's base setting)."""
    images = [
        Sample(f"p{i}", "image", picture=Picture.of(Image.fromarray(picture)), instruction=INSTRUCTIONS["image"][0])
        for i, picture in enumerate(pictures)
    ]
    captions = [Sample(f"t{i}", "text", text=text, instruction=INSTRUCTIONS["text"][0]) for i, text in enumerate(texts)]
    found_images, found_captions = (backbone.embed(samples).vectors["mean"] for samples in (images, captions))
    return found_images, found_captions


def pooled_recall(folder: Path, split: EmojiSplit) -> dict[str, float]:
    """i2t and t2i R@1/5/10 in per cent: every picture against all captions of the split."""
    backbone = load_backbone(folder, device="cpu", dtype="float32")
    found = embedded(backbone, split.pictures, split.captions_flat())
    images, captions = (F.normalize(torch.from_numpy(vectors), dim=-1) for vectors in found)
    return recall_figures(images, captions)
