"""Samples for the tests of the model package."""

from __future__ import annotations

import numpy as np
from PIL import Image

from analysis.data.samples import Picture, Sample
from analysis.models.prompts import instruction_for

TILED = ("idefics3", "smolvlm", "llava_next", "llava_onevision", "internvl")
MLLMS = ("qwen2_vl", "qwen3_vl", "paligemma", "chameleon", "qwen2_5_vl", "gemma3", *TILED)
DUAL = ("clip", "siglip", "siglip2", "metaclip_2")


def picture(width: int, height: int, seed: int = 0) -> Picture:
    """Noise: every patch differs from every other."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Picture.of(Image.fromarray(pixels), name=f"noise-{seed}")


def sample(name: str, text: str = "", size: tuple[int, int] | None = None, seed: int = 0) -> Sample:
    """A sample whose modality follows from what it is given, with the uniform instruction."""
    modality = "image_text" if text and size else "image" if size else "text"
    found = Sample(name, modality, text=text, picture=picture(*size, seed) if size else None)
    return found.with_instruction(instruction_for("uniform", None, None, modality))


def mixed_samples() -> list[Sample]:
    """Every modality, pictures of several shapes, short and long texts, in no order of length."""
    return [
        sample("text-short", "a cat"),
        sample("image-wide", size=(112, 56), seed=1),
        sample("both", "the same in the snow, with two dogs", size=(60, 100), seed=2),
        sample("text-long", "two dogs play in the snow near a blue house and a man rides a horse past them. " * 2),
        sample("image-small", size=(20, 20), seed=3),
        sample("text-accents", "Ein Bär läuft über die Straße 🐻, naïve café"),
        sample("both-square", "is it red?", size=(96, 96), seed=4),
    ]


def single_modality_samples() -> list[Sample]:
    """What a dual encoder reads without a fusion."""
    return [found for found in mixed_samples() if found.modality != "image_text"]
