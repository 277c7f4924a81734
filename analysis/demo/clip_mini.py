"""clip-mini: a `CLIPModel` trained contrastively on EmojiScenes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPModel, CLIPProcessor

from analysis.data.emoji_arrays import EmojiSplit
from analysis.demo.loop import Stage, when_trained

STAGE = Stage("clip", steps=900, batch_size=128, rate=1e-3)


class ClipTraining:
    """A CLIPModel with the tokenised split: the loss of a batch and the retrieval figures of the held-out split."""

    def __init__(self, model: CLIPModel, processor: CLIPProcessor, split: EmojiSplit, *, compiled: bool = False):
        self.model, self.split = model, split
        tokens = processor.tokenizer(split.captions_flat(), padding="max_length", truncation=True, return_tensors="np")
        lengths = tokens.attention_mask.sum(1)
        self.tokens = torch.from_numpy(tokens.input_ids[:, : lengths.max()]).view(len(split), 5, -1)
        self.lengths = torch.from_numpy(lengths).view(-1, 5)
        pictures = processor.image_processor
        self._image_features = when_trained(model.get_image_features, compiled=compiled)
        self._text_features = when_trained(model.get_text_features, compiled=compiled)
        self.mean, self.std = torch.tensor(pictures.image_mean), torch.tensor(pictures.image_std)

    def pixels(self, pictures: np.ndarray) -> torch.Tensor:
        """(B, S, S, 3) uint8 -> (B, 3, S, S) float32; equals the processor's output for pictures of this size."""
        values = (torch.from_numpy(np.array(pictures)).float() / 255 - self.mean) / self.std
        return values.permute(0, 3, 1, 2).contiguous()

    def embed_pictures(self, pictures: np.ndarray) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            embedded = self._image_features(pixel_values=self.pixels(pictures)).pooler_output
        return F.normalize(embedded.float(), dim=-1)

    def embed_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            embedded = self._text_features(input_ids=tokens).pooler_output
        return F.normalize(embedded.float(), dim=-1)

    def batch_loss(self, indices: np.ndarray, rng: np.random.Generator, _: float) -> torch.Tensor:
        """Symmetric InfoNCE of pictures and one of their five captions each."""
        chosen = torch.from_numpy(indices), torch.from_numpy(rng.integers(5, size=len(indices)))
        texts = self.embed_texts(self.tokens[chosen][:, : int(self.lengths[chosen].max())])
        return self._loss(self.embed_pictures(self.split.pictures[indices]), texts)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Contrastive loss over blocks of 100 and retrieval over the whole split."""
        pictures = torch.cat(
            [self.embed_pictures(self.split.pictures[i : i + 250]) for i in range(0, len(self.split), 250)]
        )
        texts = self.embed_texts(self.tokens.flatten(0, 1))
        blocks = [self._loss(*pair) for pair in zip(pictures.split(100), texts[::5].split(100), strict=True)]
        return {"loss": round(float(torch.stack(blocks).mean()), 4), **recall_figures(pictures, texts)}

    def _loss(self, pictures: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        logits = self.model.logit_scale.exp().clamp(max=100) * pictures @ texts.T
        target = torch.arange(len(pictures))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


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
