"""What lies behind the objects of a scene: plain colours and places, drawn and named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96  # pixels: 6 x 6 patches of 16, or 3 x 3 image tokens where an architecture merges them two by two

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
# Every phrase says the name of the place, so that one word stands for one ground.
PLACES: dict[str, tuple[str, ...]] = {
    "field": ("in a field", "in a grassy field", "on the field", "in the middle of a field"),
    "night": ("at night", "in the night", "on a starry night", "on a dark night"),
    "beach": ("at the beach", "on a sandy beach", "on the beach", "on a sunny beach"),
    "snow": ("in the snow", "on the snow", "in deep snow", "in falling snow"),
    "road": ("on the road", "on a road", "in the middle of the road", "on a long road"),
    "water": ("in the water", "under water", "in clear water", "below the water"),
    "sunset": ("at sunset", "under a sunset", "during a sunset", "in the sunset light"),
    "room": ("in a room", "inside a room", "in a living room", "on the floor of a room"),
    "rain": ("in the rain", "in heavy rain", "under the rain", "in cold rain"),
    "desert": ("in the desert", "in a dry desert", "in a sandy desert", "in the hot desert"),
}


@dataclass(frozen=True)
class Ground:
    """A plain colour or a place: `name` is one of COLOURS or of PLACES."""

    name: str

    @property
    def is_place(self) -> bool:
        return self.name in PLACES

    @property
    def phrases(self) -> tuple[str, ...]:
        """Ways to say it; the first one names everything that identifies the ground."""
        if self.is_place:
            return PLACES[self.name]
        a = "an" if self.name == "orange" else "a"
        return (
            f"on {a} {self.name} background",
            f"on plain {self.name}",
            f"in front of {a} {self.name} wall",
            f"against {a} {self.name} wall",
        )


GROUNDS = tuple(Ground(name) for name in (*PLACES, *COLOURS))


def draw_ground(rng: random.Random) -> Ground:
    """A place or a colour, as often one as the other."""
    return Ground(rng.choice(list(PLACES if rng.random() < 0.5 else COLOURS)))


def render_ground(ground: Ground, rng: random.Random) -> Image.Image:
    """A SIDE x SIDE picture; shades and clutter vary with `rng`, the named ground does not."""
    if ground.is_place:
        return _PAINTERS[ground.name](rng)
    return Image.new("RGB", (SIDE, SIDE), _jitter(COLOURS[ground.name], rng))


def _jitter(colour: RGB, rng: random.Random, amount: int = 14) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-amount, amount))) for value in colour)
    return red, green, blue


def _gradient(top: RGB, bottom: RGB) -> Image.Image:
    share = np.linspace(0, 1, SIDE)[:, None, None]
    rows = np.asarray(top) * (1 - share) + np.asarray(bottom) * share
    return Image.fromarray(np.broadcast_to(rows, (SIDE, SIDE, 3)).astype(np.uint8))


def _horizon(rng: random.Random, sky: tuple[RGB, RGB], floor: tuple[RGB, RGB]) -> tuple[Image.Image, int]:
    height = rng.randint(38, 64)
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
    x, y = rng.randint(8, 70), rng.randint(38, 64)
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
