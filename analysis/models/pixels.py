"""Pictures as the model's pixel inputs: how many tokens a picture takes, decoding in threads, and what stands for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import PIL.Image
from PIL.Image import Image

from analysis.data.pictures import check_header
from analysis.data.samples import Picture
from analysis.errors import BackboneError, DataError
from analysis.models.families import Family
from analysis.models.layouts import PictureTokens, layout_of

if TYPE_CHECKING:
    import torch

_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
_COUNTS = ("num_patches", "num_crops", "rows", "cols")  # what processors say about pictures and models do not take


@dataclass(frozen=True)
class Pixels:
    """The pictures of one batch, in order. `inputs` are the tensors that the model takes; `patches[i]` rows of
    pixel_values belong to picture i where pictures are laid end to end (Qwen, InternVL), else each has one row;
    `pictures[i]` are its tokens."""

    inputs: dict[str, torch.Tensor]
    patches: list[int]
    pictures: list[PictureTokens]

    def __len__(self) -> int:
        return len(self.pictures)

    def part(self, start: int, stop: int) -> Pixels | None:
        """The pictures start..stop-1, or None when there are none."""
        if start == stop:
            return None
        first, last = sum(self.patches[:start]), sum(self.patches[:stop])
        inputs = {
            name: tensor[first:last] if name == "pixel_values" else tensor[start:stop]
            for name, tensor in self.inputs.items()
        }
        return Pixels(inputs, self.patches[start:stop], self.pictures[start:stop])


class PixelBuilder:
    """Turns pictures into Pixels with one image processor."""

    def __init__(self, processor: Any, config: Any, family: Family) -> None:
        self._processor = processor
        self._layout = layout_of(processor, config, family)
        self.dummy = PIL.Image.new("RGB", (112, 112))  # black, as in the authors' code
        self.dummy_tokens = self._layout.tokens(112, 112)

    def expected_tokens(self, picture: Picture) -> tuple[Picture, int]:
        """How many tokens a picture will take, from its header where that depends on its size. A picture whose bytes
        come from elsewhere is returned with its bytes, so that it is read once. Raises DataError."""
        if not self._layout.by_size:
            return picture, self._layout.tokens(0, 0)
        if picture.path is None and picture.data is None:
            picture = replace(picture, data=picture.bytes())
        source = picture.data if picture.data is not None else picture.path
        assert source is not None
        width, height = check_header(source, name=picture.label)
        return picture, self._layout.tokens(height, width)

    def build(self, pictures: Sequence[Image]) -> Pixels:
        """Pixel inputs of decoded pictures. Raises BackboneError where the processor refuses one."""
        try:
            inputs = self._processed(pictures)
        except (ValueError, TypeError, RuntimeError) as error:
            raise BackboneError(
                f"The model's image processor refuses a picture ({error}); convert or crop it."
            ) from error
        tokens, patches = self._layout.arrange(inputs, pictures)
        given = {name: value for name, value in inputs.items() if name not in _COUNTS}
        return Pixels(given, patches or [1] * len(pictures), tokens)

    def _processed(self, pictures: Sequence[Image]) -> dict[str, Any]:
        if not self._layout.whole:
            return dict(self._processor.image_processor(images=list(pictures), return_tensors="pt"))
        text = [self._processor.image_token] * len(pictures)  # beside a text each picture is a list of its own
        inputs = self._processor(
            text=text, images=[[one] for one in pictures], padding=True, return_tensors="pt", **self._layout.options
        )
        return {name: value for name, value in inputs.items() if name not in _TEXT_INPUTS}


def decode_all(pictures: Sequence[Picture]) -> list[Image | DataError]:
    """Every picture decoded, or the error that says why not. Decoding releases the interpreter lock, so threads help;
    bytes are read one after the other, because their source may be one open file."""
    if len(pictures) == 1:
        return [_decode(pictures[0])]
    return list(_pool().map(_decode, [_with_bytes(picture) for picture in pictures]))


def _with_bytes(picture: Picture) -> Picture:
    if picture.read is None or picture.data is not None:
        return picture
    try:
        return replace(picture, data=picture.bytes())
    except DataError:
        return picture  # decoding meets the same error and reports it


def _decode(picture: Picture) -> Image | DataError:
    try:
        return picture.load()
    except DataError as error:
        return error


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="decode")
