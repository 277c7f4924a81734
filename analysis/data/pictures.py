"""Decoding pictures safely: one function from bytes to an upright RGB picture, with limits and plain words."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from analysis.errors import DataError

MAX_PIXELS = 60_000_000  # above this a picture is refused before it is decoded
MAX_ASPECT = 200  # the Qwen processors raise above it
WORK_SIDE = 2048  # longer sides are scaled down on decoding: every supported processor resizes below this anyway
# Only decoders that stay inside this process: Pillow would hand an EPS to Ghostscript. (MPO comes in as JPEG.)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
# What Pillow's decoders raise on damaged files (seen when flipping bytes of every format above, or documented).
_DAMAGE = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, OverflowError, struct.error)


def decode(data: bytes, *, name: str = "picture") -> Image.Image:
    """Bytes -> upright RGB picture: EXIF orientation applied, first frame, CMYK/LA/P/16-bit converted,
    transparency laid on white, sides bounded by WORK_SIDE. Raises DataError in one sentence."""
    with _plain_words(name):
        image = _open(data, name)
        image.draft("RGB", (WORK_SIDE, WORK_SIDE))  # JPEG decodes at reduced scale; other formats ignore it
        image.load()
        upright = _eight_bit(_upright(image))
        if "transparency" in upright.info or upright.mode in ("P", "1"):
            upright = upright.convert("RGBA")  # before scaling: colour keys and palettes cannot be blended
        upright.thumbnail((WORK_SIDE, WORK_SIDE))
        return _on_white(upright)


def check_header(source: bytes | Path, *, name: str = "picture") -> tuple[int, int]:
    """(width, height) of a picture from its header alone; raises DataError where `decode` would refuse the header.

    A file that is cut off later passes: only decoding shows that.
    """
    with _plain_words(name):
        if isinstance(source, Path):
            with source.open("rb") as file:
                return _open(file, name).size
        return _open(source, name).size


def thumbnail_webp(image: Image.Image, *, side: int = 256, quality: int = 80) -> bytes:
    """A thumbnail of at most `side` pixels as WebP bytes; never enlarged."""
    small = image.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, format="WEBP", quality=quality, method=4)
    return buffer.getvalue()


@contextmanager
def _plain_words(name: str) -> Iterator[None]:
    """Every way a decoder can fail becomes one DataError."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is not a picture; expected JPEG, PNG, WebP, GIF, BMP or TIFF.") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} has far more than {MAX_PIXELS / 1e6:.0f} megapixels: scale it down first.") from error
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{name} is damaged ({reason}); expected a complete picture: save it again.") from error


def _open(data: bytes | IO[bytes], name: str) -> Image.Image:
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    if not stream.read(1):
        raise DataError(f"{name} is empty (0 bytes); expected a picture such as JPEG, PNG or WebP.")
    image = Image.open(stream, formats=_known_formats())  # goes back to the start by itself
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name} has {width * height / 1e6:.0f} megapixels; at most {MAX_PIXELS / 1e6:.0f} are accepted: "
            "scale it down first."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(
            f"{name} is {width} x {height} pixels; an aspect ratio above {MAX_ASPECT} is refused by the models: crop it."
        )
    return image


@cache
def _known_formats() -> tuple[str, ...]:
    """FORMATS that this build of Pillow has; naming another one would make `Image.open` raise KeyError."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _upright(image: Image.Image) -> Image.Image:
    with suppress(*_DAMAGE):  # a broken EXIF block says nothing about the pixels, which are loaded by now
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Greys of 16 bits, 32 bits or floats -> 8 bits, which convert("RGB") would clip. Integers keep their scale
    (65535 is white); floats have none, so they are stretched from their smallest to their largest value."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode.startswith("I"):
        grey = np.clip(values, 0, 65535) // 257 if values.max() > 255 else values
    else:
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
        grey = (values - low) * (255.0 / ((high - low) or 1.0))
    return Image.fromarray(grey.astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")
