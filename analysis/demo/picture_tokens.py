"""Chameleon's tokenizer of pictures, trained before its language model sees any: a convolutional encoder whose output at
each of 6 x 6 places is the nearest of 512 codes.

A decoder that is thrown away must paint the picture from the codes, say what a trained vision tower sees at each place, and
give the tower's embedding of the whole picture. The last two stand for the perceptual loss of the real one (Gafni et al.,
Make-A-Scene, 2022), which weighs what makes an object known more than what fills much of the picture. Predicting the states
of a trained tower is Peng et al., BEiT v2 (2022); without the embedding a bag of codes told 5 of 80 objects, with it (and
three times the steps) 53. Codes follow the encoder by moving averages (van den Oord et al., 2017), and a code that is no
longer used is moved to a place that the encoder now gives: without this, few codes remain in use.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel, AutoProcessor

from analysis.data.emoji_arrays import EmojiSplit
from analysis.demo.anatomy import ChameleonAnatomy
from analysis.demo.contrastive import mean_and_std, pixel_values, shifted

COMMITMENT = 0.25  # of the distance between the encoder's output and its code, beside the two losses of the decoder
DECAY = 0.95  # of the moving averages, a step
UNUSED = 0.25  # a code met less often than this share of the average is moved
UNROUNDED = 0.2  # this first share of the training decodes what the encoder gives, not its codes, which only follow it


class Codebook(nn.Module):
    """Moving averages of how often each code is met and of what is met there; the codes themselves are the model's."""

    counts: torch.Tensor
    sums: torch.Tensor

    def __init__(self, codes: nn.Parameter):
        super().__init__()
        self.register_buffer("counts", torch.zeros(len(codes)))
        self.register_buffer("sums", torch.zeros(codes.shape))

    @torch.no_grad()
    def follow(self, codes: nn.Parameter, found: torch.Tensor, latents: torch.Tensor, rng: np.random.Generator) -> None:
        """found: (N,) the code of each of the latents (N, D). Moves `codes` in place."""
        hits = F.one_hot(found, len(codes)).float()
        self.counts.lerp_(hits.sum(0), 1 - DECAY)
        self.sums.lerp_(hits.T @ latents, 1 - DECAY)
        average = len(latents) / len(codes)
        unused = self.counts < UNUSED * average
        drawn = torch.from_numpy(rng.integers(len(latents), size=len(codes)))
        self.counts[unused] = average
        self.sums[unused] = average * latents[drawn][unused]
        codes.copy_(self.sums / self.counts[:, None])


class Decoder(nn.Module):
    """Codes (n, C, 6, 6) to pixels (n, 3, 48, 48), to what a vision tower of width W sees (n, W, 6, 6), and to its embedding
    of the picture (n, W)."""

    def __init__(self, channels: int, seen: int, width: int = 128, fine: int = 48):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU()
        )
        self.sees = nn.Conv2d(width, seen, 1)
        self.embeds = nn.Linear(width, seen)
        self.paints = nn.Sequential(
            *(nn.Conv2d(width, 16 * fine, 1), nn.PixelShuffle(4), nn.GELU()),
            *(nn.Conv2d(fine, fine, 3, padding=1), nn.GELU()),
            *(nn.Conv2d(fine, 4 * 3, 3, padding=1), nn.PixelShuffle(2)),
        )

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden = self.body(latents)
        return self.paints(hidden), self.sees(hidden), self.embeds(hidden.mean((2, 3)))


class PictureTokenTraining:
    """Stage `pictures`. tower: folder of a trained dual encoder with patches of the size of a piece."""

    def __init__(self, model: Any, processor: Any, train: EmojiSplit, test: EmojiSplit, tower: Path):
        self.train, self.test = train, test
        self.anatomy = ChameleonAnatomy(model, processor)
        self.encoder: Any = model.model.vqmodel
        self.codes = self.encoder.quantize.embedding.weight
        teacher: Any = AutoModel.from_pretrained(tower, dtype=torch.float32).eval()
        self.tower = teacher.vision_model.requires_grad_(False)
        self.mean, self.std = mean_and_std(AutoProcessor.from_pretrained(tower))
        self.decoder = Decoder(self.encoder.config.latent_channels, self.tower.config.hidden_size)
        self.codebook = Codebook(self.codes)
        for layer in self.encoder.modules():  # as transformers draws them, pictures differ in the latents by hundredths
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
        self.module = nn.ModuleDict({"encoder": self.encoder, "codebook": self.codebook, "decoder": self.decoder})

    def parameters(self) -> list[nn.Parameter]:
        """All but the codes, which follow by moving averages."""
        return [parameter for parameter in self.module.parameters() if parameter is not self.codes]

    def batch_loss(self, indices: np.ndarray, rng: np.random.Generator, progress: float) -> torch.Tensor:
        rounded, pictures = progress >= UNROUNDED, shifted(self.train.pictures[indices], rng)
        if progress == 0:
            self._spread(pictures)
        losses, found, latents = self.losses(pictures, rounded=rounded)
        self.codebook.follow(self.codes, found, latents.detach(), rng)
        decoded = losses["pixels"] + losses["sight"] + losses["whole"]
        return decoded + COMMITMENT * losses["commitment"] if rounded else decoded

    def losses(
        self, pictures: np.ndarray, *, rounded: bool = True
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Mean absolute error of the pixels (-1 to 1); shares of the variance that are missed of what the tower sees, of its
        embeddings, and of the latents by rounding them to codes; codes (N,) and the latents they stand for (N, D)."""
        pixels = self.anatomy.pixels(pictures)
        latents = self.encoder.quant_conv(self.encoder.encoder(pixels))
        quantised, _, found = self.encoder.quantize(latents)
        painted, said, whole = self.decoder(self.encoder.post_quant_conv(quantised if rounded else latents))
        (states, embeddings), (centre, variance) = self._seen(pictures), self._usual
        losses = {
            "pixels": F.l1_loss(painted, pixels),
            "sight": F.mse_loss(said.flatten(2).transpose(1, 2), states),
            "whole": (whole - (embeddings - centre)).square().sum(1).mean() / variance,
            "commitment": F.mse_loss(latents, quantised.detach()) / latents.var((0, 2, 3)).mean(),
        }
        return losses, found, latents.permute(0, 2, 3, 1).flatten(0, 2)

    @cached_property
    def _usual(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (W,) and variance of the tower's embeddings, of the first 1,000 pictures; not asked of a stage that is done."""
        pictures = self.train.pictures[:1000]
        some = torch.cat([self._seen(pictures[i : i + 100])[1] for i in range(0, len(pictures), 100)])
        return some.mean(0), some.var(0).sum()

    @torch.no_grad()
    def _seen(self, pictures: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 36, W) states of the tower, each of mean 0 and variance 1, and its embeddings (n, W), unit vectors."""
        found = self.tower(pixel_values=pixel_values(pictures, self.mean, self.std))
        states = found.last_hidden_state
        return F.layer_norm(states, states.shape[-1:]), F.normalize(found.pooler_output, dim=-1)

    @torch.no_grad()
    def measure(self) -> dict[str, Any]:
        """The losses over the first 1,000 held-out pictures, the share of the codes that occur there, and their perplexity:
        as many codes used equally often would be as hard to guess."""
        blocks = [self.losses(self.test.pictures[i : i + 100]) for i in range(0, min(1000, len(self.test)), 100)]
        figures = {name: float(np.mean([float(losses[name]) for losses, _, _ in blocks])) for name in blocks[0][0]}
        share = torch.bincount(torch.cat([found for _, found, _ in blocks]), minlength=len(self.codes)).double()
        share = share[share > 0] / share.sum()
        figures["codes_used"] = len(share) / len(self.codes)
        figures["perplexity"] = float((-(share * share.log()).sum()).exp())
        return {name: round(value, 4) for name, value in figures.items()}

    @torch.no_grad()
    def _spread(self, pictures: np.ndarray) -> None:
        """Give the latents of these pictures mean 0 and variance 1, so that the first codes lie apart."""
        latents = self.encoder.quant_conv(self.encoder.encoder(self.anatomy.pixels(pictures)))
        std, mean = torch.std_mean(latents, (0, 2, 3))
        last = self.encoder.quant_conv
        last.weight.div_(std[:, None, None, None])
        last.bias.sub_(mean).div_(std)
