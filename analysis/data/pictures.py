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

from analysis.data.disk import lfs_pointer
from analysis.errors import DataError

MAX_PIXELS = 60_000_000  # above this a picture is refused before it is decoded
MAX_ASPECT = 200  # the Qwen processors raise above it, and a resize of the shorter side to 224 makes gigabytes of it
# A guard of memory, not a limit of quality: larger pictures are scaled down to it before the model's own processor sees
# them, and the build says so. It lies above what any supported processor keeps (Qwen2-VL 12.8, Qwen3-VL 16.8 megapixels).
GUARD_PIXELS = 33_554_432
# Only decoders that stay inside this process: Pillow would hand an EPS to Ghostscript. (MPO comes in as JPEG.)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
_HEAD = 512
_ORIENTATION = 0x0112  # of EXIF
_PNG = b"\x89PNG\r\n\x1a\n"
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
# What else lies among pictures, by how it begins.
_OTHERS = {
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop file",
    b"CR\x02": "a camera's raw picture",
    b"ftypcrx": "a camera's raw picture",
    b"JXL ": "a JPEG XL picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"ftyp": "a video",
    b"\x1aE\xdf\xa3": "a video",
    b"AVI LIST": "a video",
}
_ARCHIVES = (b"pk\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"rar!")
_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners use
# What Pillow's decoders raise on damaged files (seen when flipping bytes of every format above, or documented).
_DAMAGE = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, OverflowError, struct.error)


def decode(data: bytes, *, name: str = "picture", formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Bytes -> upright RGB picture: EXIF orientation applied, first frame, CMYK/LA/P/16-bit converted, transparency laid on
    white, at most GUARD_PIXELS pixels. formats: those that are taken. Raises DataError in one sentence."""
    with _plain_words(name):
        try:
            image = _loaded(data, name, formats)
        except ValueError:
            if not data.startswith(_PNG):
                raise
            image = _loaded(
                _without_texts(data), name, formats
            )  # a text chunk above Pillow's limit may stand behind the pixels
        upright = _eight_bit(_upright(image))
        if "transparency" in upright.info or upright.mode in ("P", "1"):
            upright = upright.convert("RGBA")  # before scaling: colour keys and palettes cannot be blended
        if guarded(*upright.size) != upright.size:
            upright = upright.resize(guarded(*upright.size), reducing_gap=2.0)
        return _on_white(upright)


def guarded(width: int, height: int) -> tuple[int, int]:
    """The size at which a picture is handed on: its own, or that of the same shape with GUARD_PIXELS pixels."""
    if width * height <= GUARD_PIXELS:
        return width, height
    scale = (GUARD_PIXELS / (width * height)) ** 0.5
    return max(1, int(width * scale)), max(1, int(height * scale))


def check_header(source: bytes | Path, *, name: str = "picture") -> tuple[int, int]:
    """(width, height) of a picture from its header alone; raises DataError where `decode` would refuse the header.

    A file that is cut off later passes: only decoding shows that.
    """
    with _plain_words(name):
        if isinstance(source, Path):
            with source.open("rb") as file:
                return _open(file, name).size
        return _open(source, name).size


def picture_notes(data: bytes, name: str = "your picture") -> tuple[str, ...]:
    """What `decode` does to a picture, one sentence each: scaled down, first frame of an animation, turned, CMYK."""
    with _open(data, name) as image:
        width, height = image.size
        found = []
        if width * height > GUARD_PIXELS:
            found.append(
                f"{name} has {width * height / 1e6:.0f} megapixels; it is scaled down to {GUARD_PIXELS / 1e6:.1f} first."
            )
        if getattr(image, "is_animated", False):
            found.append(f"{name} is an animation or has several pages; its first frame is used.")
        if image.mode == "CMYK":
            found.append(f"{name} is in CMYK, for print; its colours are converted to RGB.")
        if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
            found.append(f"{name} is stored turned; it is turned upright as its EXIF data say.")
    return tuple(found)


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


def _open(data: bytes | IO[bytes], name: str, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    head = stream.read(_HEAD)
    if not head:
        raise DataError(f"{name} is empty (0 bytes); expected a picture such as JPEG, PNG or WebP.")
    try:
        image = Image.open(stream, formats=_known(formats))  # goes back to the start by itself
    except UnidentifiedImageError as error:
        raise DataError(f"{name} {_what_it_is(head)}") from error
    except ValueError:
        if not head.startswith(_PNG):
            raise
        stream.seek(0)  # a text chunk or colour profile above Pillow's limit says nothing about the pixels
        image = Image.open(io.BytesIO(_without_texts(stream.read())), formats=_known(formats))
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


def _loaded(data: bytes, name: str, formats: tuple[str, ...]) -> Image.Image:
    image = _open(data, name, formats)
    size = guarded(*image.size)
    if size != image.size:
        image.draft("RGB", size)  # JPEG decodes at reduced scale; other formats ignore it
    image.load()
    return image


def _what_it_is(head: bytes) -> str:
    """The end of a sentence about bytes that no decoder takes, from how they begin."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if pointer := lfs_pointer(head):
        return pointer
    if head[4:8] == b"ftyp" and any(brand in head[8:48] for brand in _HEIC):
        return "is a HEIC picture, as phones take them, which is not read; convert it to JPEG or PNG first."
    if kind := next((kind for mark, kind in _OTHERS.items() if mark in head[:12]), ""):
        return f"is {kind}, which is not read; convert it to JPEG or PNG first."
    if start.startswith(_ARCHIVES):
        return "is not a picture but an archive; unpack it first."
    if start.startswith((b"<!doctype html", b"<html")):
        return "is not a picture but an HTML page, perhaps an error of the download; fetch it again."
    if start.startswith(b"<svg") or (start.startswith((b"<?xml", b"<!doctype svg")) and b"<svg" in start):
        return "is not a picture of pixels but an SVG drawing; convert it to PNG first."
    if start.startswith((b"{", b"<")) and (text := head.decode("utf-8", "replace")).isprintable():
        return f"is not a picture but text ({text[:60].strip()}), perhaps an error of the download; fetch it again."
    if head.startswith((_PNG, b"\xff\xd8\xff", b"GIF8", b"RIFF")):
        return "begins as a picture and is damaged behind that; fetch or save it again."
    return "is not a picture; expected JPEG, PNG, WebP, GIF, BMP or TIFF."


def _without_texts(data: bytes) -> bytes:
    """A PNG without its text chunks and colour profile, neither of which is used here. EXIF stays."""
    kept, place = [data[: len(_PNG)]], len(_PNG)
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        stop = place + 12 + length
        if data[place + 4 : place + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(data[place:stop])
        place = stop
    return b"".join(kept)


@cache
def _known(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Those that this build of Pillow has; naming another one would make `Image.open` raise KeyError."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


def _upright(image: Image.Image) -> Image.Image:
    with suppress(*_DAMAGE):  # a broken EXIF block says nothing about the pixels, which are loaded by now
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Greys of 16 bits, 32 bits or floats -> 8 bits, which convert("RGB") would clip. Integers keep the scale of their
    depth, the smallest of _DEPTHS that holds the brightest value: 65535 is white in 16 bits, 4095 in the 12 that a camera
    leaves in the low end of a 16-bit file. Floats have no scale, so they are stretched from smallest to largest value."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode.startswith("I"):
        values = np.clip(values, 0, 65535).astype(np.float64)
        white = next(2**depth - 1 for depth in _DEPTHS if values.max() < 2**depth)
        grey = np.floor(values * (255 / white) + 1e-9)
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
