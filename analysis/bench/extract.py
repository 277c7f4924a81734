"""Embedding samples: Backbone.embed against the published loop, on tiny checkpoints of two architectures.

The published loop takes one sample at a time through the whole model with its language-model head, keeps the hidden
states of every layer and averages the last one over all tokens. Both sides give the same vectors; the row says how close.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.bench.measuring import Row, compare
from analysis.data.samples import Picture, Sample
from analysis.models.prompts import instruction_for

CHAT = "qwen2_vl"
SIZES = ((112, 112), (112, 56), (60, 100), (84, 84))
WORDS = "a brown dog runs past two red kites on the wide beach while a man in blue watches the waves".split()


def run(quick: bool = False) -> Iterator[Row]:
    for case, architecture in (
        ("qwen2_tiny_vs_published_loop", CHAT),
        ("paligemma_tiny_vs_published_loop", "paligemma"),
    ):
        with tempfile.TemporaryDirectory() as folder, _quiet(), _one_thread():
            yield _row(case, architecture, Path(folder) / architecture, quick)


def samples(n: int) -> list[Sample]:
    """A third pictures, a third captions, a third both; pictures of several shapes, texts of 3 to 18 words."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        modality = ("image", "text", "image_text")[i % 3]
        start, length = rng.integers(0, len(WORDS)), rng.integers(3, len(WORDS))
        text = " ".join(np.roll(WORDS, -start)[:length].tolist()) if "text" in modality else ""
        picture = _picture(rng, SIZES[i // 3 % len(SIZES)], i) if "image" in modality else None
        instruction = instruction_for("uniform", None, None, modality)
        found.append(Sample(f"{modality}:{i}", modality, text, picture, instruction=instruction))
    return found


def published_loop(folder: Path, architecture: str) -> Callable[[list[Sample]], np.ndarray]:
    """A function samples -> (N, D) as the authors' script computes it."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)

    @torch.no_grad()
    def embed(given: list[Sample]) -> np.ndarray:
        vectors = []
        for sample in given:
            inputs = _inputs(processor, architecture, sample)
            states = model(**inputs, output_hidden_states=True).hidden_states[-1]
            vectors.append(states.mean(dim=1)[0].numpy())
        return np.stack(vectors)

    return embed


def _row(case: str, architecture: str, folder: Path, quick: bool) -> Row:
    from analysis.models.backbones import load_backbone
    from analysis.models.tiny import MAKERS

    MAKERS[architecture](folder)
    given = samples(12 if quick else 96)
    # The published loop pools the tokens of the black picture that a text alone needs in PaliGemma.
    backbone = load_backbone(folder, device="cpu", dummy_image="include")
    loop = published_loop(folder, architecture)
    results: dict[str, np.ndarray] = {}

    def ours() -> None:
        results["ours"] = backbone.embed(given).vectors["mean"]

    def baseline() -> None:
        results["loop"] = loop(given)

    row = compare("extract", case, ours, baseline, name="one sample a forward pass, language-model head, all layers")
    backbone.unload()
    off = float(np.abs(results["ours"] - results["loop"]).max() / np.abs(results["loop"]).max())
    if off > 1e-4:
        raise RuntimeError(f"the vectors of {architecture} differ by {off:.1e} of the largest entry")
    note = f"{len(given)} samples: pictures, texts and both; one torch thread; vectors differ by {off:.0e} of the largest entry"
    return replace(row, note=f"quick: {note}" if quick else note)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Layers this small gain nothing from several threads, and on a busy machine the loop, which has the smaller ones,
    loses so much by them that the ratio says nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no remarks on the tiny configurations between the rows of the table."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _inputs(processor: Any, architecture: str, sample: Sample) -> Any:
    from PIL import Image

    picture = sample.picture.load() if sample.picture else None
    words = sample.text + sample.instruction
    if architecture == CHAT:
        content = [{"type": "image"}] * (picture is not None) + [{"type": "text", "text": words}]
        prompt = processor.apply_chat_template([[{"role": "user", "content": content}]], tokenize=False)
    else:
        picture = picture or Image.new("RGB", (112, 112))
        prompt = [processor.image_token + words]
    inputs = processor(text=prompt, images=None if picture is None else [picture], return_tensors="pt")
    inputs.pop("labels", None)
    return inputs


def _picture(rng: np.random.Generator, size: tuple[int, int], number: int) -> Picture:
    from PIL import Image

    coarse = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Picture.of(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), name=f"picture-{number}")
