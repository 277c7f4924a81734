"""Pictures as the model's pixel inputs: how many tokens a picture takes, decoding in threads, and what stands for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
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


_AT_ONCE = 16  # pictures that are decoded together
_HELD_PIXELS = 128_000_000  # decoded pixels that are held before the processor turns them into the model's own size


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

    def prepare(self, pictures: Sequence[Picture | None]) -> tuple[Pixels | None, list[DataError | None]]:
        """Decode pictures (None = the dummy) and build their pixel inputs, a few at a time: photographs of many megapixels
        never lie in memory together. Returns the Pixels of those that can be used, and for every picture the reason why
        it cannot, or None. One that the processor refuses costs no other."""
        reasons: list[DataError | None] = []
        parts: list[Pixels] = []
        held: list[tuple[Image, str]] = []
        for start in range(0, len(pictures), _AT_ONCE):
            group = pictures[start : start + _AT_ONCE]
            decoded = iter(decode_all([picture for picture in group if picture is not None]))
            images = [self.dummy if picture is None else next(decoded) for picture in group]
            for picture, image in zip(group, images, strict=True):
                reasons.append(image if isinstance(image, DataError) else None)
                if not isinstance(image, DataError):
                    held.append((image, "" if picture is None else picture.label))
            last = start + _AT_ONCE >= len(pictures)
            if held and (last or sum(image.width * image.height for image, _ in held) > _HELD_PIXELS):
                built, refused = self._build_or_refuse(held)
                parts += built
                usable = [place for place, reason in enumerate(reasons) if reason is None][-len(held) :]
                for place, reason in zip(usable, refused, strict=True):
                    reasons[place] = reason
                held = []
        return _joined(parts), reasons

    def _build_or_refuse(self, held: Sequence[tuple[Image, str]]) -> tuple[list[Pixels], list[DataError | None]]:
        """All pictures built together; where the processor refuses that, each by itself, to learn which one it means."""
        try:
            return [self.build([image for image, _ in held])], [None] * len(held)
        except BackboneError as error:
            if len(held) == 1:
                return [], [DataError(f"{held[0][1] or 'The dummy picture'} cannot be used: {error}")]
        each = [self._build_or_refuse([one]) for one in held]
        return [part for built, _ in each for part in built], [reason for _, reasons in each for reason in reasons]

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


def _joined(parts: Sequence[Pixels]) -> Pixels | None:
    """The pictures of several parts as one, padded with zeros where they have different numbers of tiles."""
    if len(parts) < 2:
        return parts[0] if parts else None
    import torch

    inputs = {}
    for name in parts[0].inputs:
        tensors = [part.inputs[name] for part in parts]
        room = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
        for i, tensor in enumerate(tensors):
            short = [wanted - has for wanted, has in zip(room, tensor.shape[1:], strict=True)]
            tensors[i] = torch.nn.functional.pad(tensor, [n for gap in reversed(short) for n in (0, gap)])
        inputs[name] = torch.cat(tensors)
    lists = {
        f.name: [one for part in parts for one in getattr(part, f.name)] for f in fields(Pixels) if f.name != "inputs"
    }
    return Pixels(inputs=inputs, **lists)


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
