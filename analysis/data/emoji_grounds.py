"""What lies behind the objects of a scene: plain colours, gradients, patterns and places, drawn and named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIDE = 112  # pixels; 8 x 8 patches of 14 (Qwen2-VL) and 7 x 7 patches of 16 (CLIP)

RGB = tuple[int, int, int]
COLOURS: dict[str, RGB] = {
    "red": (205, 50, 45),
    "blue": (50, 95, 205),
    "green": (60, 150, 70),
    "yellow": (240, 210, 70),
    "purple": (130, 70, 170),
    "pink": (245, 160, 190),
    "orange": (240, 145, 50),
    "brown": (130, 90, 60),
    "gray": (140, 140, 140),
    "white": (245, 245, 245),
    "black": (25, 25, 30),
    "teal": (40, 160, 160),
}
PLACES: dict[str, tuple[str, ...]] = {
    "field": ("on a green field", "in a grassy meadow", "on the grass", "in a field"),
    "night": ("at night", "under the night sky", "in the dark with stars", "on a starry night"),
    "beach": ("on a sandy beach", "at the beach", "on the sand by the sea", "near the ocean"),
    "snow": ("in the snow", "on a snowy day", "during a snowfall", "in a winter scene"),
    "road": ("on a gray road", "on the street", "in the middle of the road", "on a city street"),
    "water": ("under water", "in the blue sea", "in the water", "below the waves"),
    "sunset": ("at sunset", "under an orange sky", "during a red sunset", "in the evening light"),
    "room": ("in a room", "on a wooden floor", "inside a house", "indoors on the floor"),
    "rain": ("in the rain", "on a rainy day", "under gray rain", "in wet weather"),
    "desert": ("in the desert", "on the dry dunes", "in a sandy desert", "among sand dunes"),
}
_STYLE_WEIGHTS = {"plain": 2, "gradient": 1, "stripes": 1, "dots": 1, "checker": 1, "place": 5}


@dataclass(frozen=True)
class Ground:
    """style: plain, gradient, stripes, dots, checker, or a place of PLACES; colours: the one or two named colours."""

    style: str
    colours: tuple[str, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """Ways to say it; the first one names everything that identifies the ground."""
        if self.style in PLACES:
            return PLACES[self.style]
        first, second = (*self.colours, "")[:2]
        a = "an" if first == "orange" else "a"
        return {
            "plain": (
                f"on {a} {first} background",
                f"in front of {a} {first} wall",
                f"against {first}",
                f"on plain {first}",
            ),
            "gradient": (
                f"on {a} {first} and {second} background",
                f"with colors from {first} to {second}",
                f"against {a} {first} to {second} gradient",
                f"on a gradient of {first} and {second}",
            ),
            "stripes": (
                f"on {first} and {second} stripes",
                f"on a striped {first} and {second} background",
                f"in front of {a} {first} and {second} striped wall",
                "on a striped background",
            ),
            "dots": (
                f"on {a} {first} background with {second} dots",
                f"on {first} with {second} dots",
                f"in front of a dotted {first} and {second} wall",
                "on a dotted background",
            ),
            "checker": (
                f"on {a} {first} and {second} checkerboard",
                f"on a checkered {first} and {second} cloth",
                f"on {first} and {second} squares",
                "on a checkered background",
            ),
        }[self.style]


def draw_ground(rng: random.Random) -> Ground:
    style = rng.choices(list(_STYLE_WEIGHTS), list(_STYLE_WEIGHTS.values()))[0]
    if style == "place":
        return Ground(rng.choice(list(PLACES)))
    colours = rng.sample(list(COLOURS), 2)
    return Ground(style, tuple(colours[:1] if style == "plain" else colours))


def render_ground(ground: Ground, rng: random.Random) -> Image.Image:
    """A SIDE x SIDE picture; shades, pattern width and clutter vary with `rng`, the named ground does not."""
    if ground.style in PLACES:
        return _PAINTERS[ground.style](rng)
    shades = [_jitter(COLOURS[name], rng) for name in ground.colours]
    if ground.style == "plain":
        return Image.new("RGB", (SIDE, SIDE), shades[0])
    if ground.style == "gradient":
        return _gradient(*shades)
    return _pattern(ground.style, shades[0], shades[1], rng)


def _jitter(colour: RGB, rng: random.Random, amount: int = 14) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-amount, amount))) for value in colour)
    return red, green, blue


def _gradient(top: RGB, bottom: RGB) -> Image.Image:
    share = np.linspace(0, 1, SIDE)[:, None, None]
    rows = np.asarray(top) * (1 - share) + np.asarray(bottom) * share
    return Image.fromarray(np.broadcast_to(rows, (SIDE, SIDE, 3)).astype(np.uint8))


def _pattern(style: str, first: RGB, second: RGB, rng: random.Random) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), first)
    pen = ImageDraw.Draw(image)
    width = rng.choice((7, 9, 12))
    if style == "stripes":
        upright = rng.random() < 0.5
        for start in range(0, SIDE, 2 * width):
            band = (start, 0, start + width - 1, SIDE) if upright else (0, start, SIDE, start + width - 1)
            pen.rectangle(band, fill=second)
    elif style == "dots":
        for y in range(0, SIDE, 2 * width):
            for x in range(0, SIDE, 2 * width):
                pen.ellipse((x + 2, y + 2, x + width, y + width), fill=second)
    else:
        for row in range(-(-SIDE // width)):
            for column in range(row % 2, -(-SIDE // width), 2):
                x, y = column * width, row * width
                pen.rectangle((x, y, x + width - 1, y + width - 1), fill=second)
    return image


def _horizon(rng: random.Random, sky: tuple[RGB, RGB], floor: tuple[RGB, RGB]) -> tuple[Image.Image, int]:
    height = rng.randint(45, 75)
    image = _gradient(_jitter(sky[0], rng), _jitter(sky[1], rng))
    image.paste(_gradient(_jitter(floor[0], rng), _jitter(floor[1], rng)), (0, height))
    return image, height


def _anywhere(rng: random.Random, top: int = 0) -> tuple[int, int]:
    return rng.randint(0, SIDE), rng.randint(top, SIDE)


def _field(rng: random.Random) -> Image.Image:
    image, height = _horizon(rng, ((150, 205, 245), (200, 230, 250)), ((95, 175, 70), (60, 135, 45)))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = _anywhere(rng, height)
        pen.line((x, y, x + rng.randint(-2, 2), y - 5), fill=(50, 115, 40))
    return image


def _night(rng: random.Random) -> Image.Image:
    image = _gradient(_jitter((10, 12, 40), rng, 8), _jitter((30, 30, 80), rng, 8))
    pen = ImageDraw.Draw(image)
    for _ in range(35):
        x, y = _anywhere(rng)
        pen.line((x, y, x + 1, y), fill=(255, 255, 220))
    return image


def _beach(rng: random.Random) -> Image.Image:
    return _horizon(rng, ((140, 200, 250), (40, 120, 200)), ((240, 220, 160), (225, 195, 130)))[0]


def _snow(rng: random.Random) -> Image.Image:
    image, _ = _horizon(rng, ((190, 205, 220), (215, 225, 235)), ((240, 245, 250), (225, 232, 240)))
    pen = ImageDraw.Draw(image)
    for _ in range(50):
        x, y = _anywhere(rng)
        pen.ellipse((x, y, x + 2, y + 2), fill=(255, 255, 255))
    return image


def _road(rng: random.Random) -> Image.Image:
    image, height = _horizon(rng, ((170, 190, 205), (190, 200, 205)), ((90, 90, 95), (70, 70, 75)))
    pen = ImageDraw.Draw(image)
    y = (height + SIDE) // 2
    for x in range(rng.randint(-10, 0), SIDE, 22):
        pen.rectangle((x, y, x + 12, y + 2), fill=(240, 240, 230))
    return image


def _water(rng: random.Random) -> Image.Image:
    image = _gradient(_jitter((60, 160, 215), rng), _jitter((15, 55, 130), rng))
    pen = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = _anywhere(rng)
        pen.arc((x, y, x + 16, y + 7), 0, 180, fill=(170, 220, 245))
    return image


def _sunset(rng: random.Random) -> Image.Image:
    image = _gradient(_jitter((110, 50, 120), rng), _jitter((250, 140, 60), rng))
    x, y = rng.randint(10, 90), rng.randint(45, 75)
    ImageDraw.Draw(image).ellipse((x, y, x + 18, y + 18), fill=(255, 210, 110))
    return image


def _room(rng: random.Random) -> Image.Image:
    image, height = _horizon(rng, ((235, 225, 205), (225, 215, 195)), ((165, 115, 70), (140, 95, 55)))
    pen = ImageDraw.Draw(image)
    for y in range(height, SIDE, 9):
        pen.line((0, y, SIDE, y), fill=(115, 75, 45))
    return image


def _rain(rng: random.Random) -> Image.Image:
    image = _gradient(_jitter((95, 105, 120), rng), _jitter((130, 140, 150), rng))
    pen = ImageDraw.Draw(image)
    for _ in range(45):
        x, y = _anywhere(rng)
        pen.line((x, y, x - 2, y + 7), fill=(195, 210, 230))
    return image


def _desert(rng: random.Random) -> Image.Image:
    image, height = _horizon(rng, ((235, 190, 120), (250, 220, 160)), ((225, 170, 95), (200, 140, 70)))
    pen = ImageDraw.Draw(image)
    for x in range(-20, SIDE, 45):
        pen.arc((x, height - 6, x + 60, height + 25), 180, 360, fill=(180, 120, 60))
    return image


_PAINTERS: dict[str, Callable[[random.Random], Image.Image]] = {
    "field": _field,
    "night": _night,
    "beach": _beach,
    "snow": _snow,
    "road": _road,
    "water": _water,
    "sunset": _sunset,
    "room": _room,
    "rain": _rain,
    "desert": _desert,
}
