"""Decoding pictures safely: one function from bytes to an upright RGB picture, with limits and plain words."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from analysis.errors import DataError

MAX_PIXELS = 60_000_000  # above this a picture is refused before it is decoded
WORK_SIDE = 2048  # longer sides are scaled down on decoding: every supported processor resizes below this anyway


def decode(data: bytes, *, name: str = "picture") -> Image.Image:
    """Bytes -> upright RGB picture: EXIF orientation applied, first frame, CMYK/LA/P/16-bit converted,
    transparency laid on white, sides bounded by WORK_SIDE. Raises DataError in one sentence."""
    if not data:
        raise DataError(f"{name} is empty (0 bytes); expected a picture such as JPEG, PNG or WebP.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit stands one line below
            image = Image.open(io.BytesIO(data))
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(
                    f"{name} has {width * height / 1e6:.0f} megapixels; at most {MAX_PIXELS / 1e6:.0f} are accepted: "
                    "scale it down first."
                )
            if max(width, height) > 200 * min(width, height):
                raise DataError(
                    f"{name} is {width} x {height} pixels; an aspect ratio above 200 is refused by the models: crop it."
                )
            image.seek(0)
            image.draft("RGB", (WORK_SIDE, WORK_SIDE))  # JPEG decodes at reduced scale; other formats ignore it
            image.load()
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is not a picture; expected JPEG, PNG, WebP, GIF, BMP or TIFF.") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} is far too large ({error}); scale it down first.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{name} is damaged ({error}); expected a complete picture: save it again.") from error
    image = ImageOps.exif_transpose(image)
    image.thumbnail((WORK_SIDE, WORK_SIDE))
    return _rgb(image)


def thumbnail_webp(image: Image.Image, *, side: int = 256, quality: int = 80) -> bytes:
    """A thumbnail of at most `side` pixels as WebP bytes; never enlarged."""
    small = image.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, format="WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16-bit and float greys: scale to 8 bit, convert("RGB") would clip
        low, high = image.getextrema()
        span = (high - low) or 1
        image = image.point(lambda value: (value - low) * (255.0 / span)).convert("L")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")
