"""EmojiScenes: what is in a scene (drawn from a seed), how it is said in five captions, and how it looks.

A Scene is symbolic ground truth. `captions` and `render` turn it into words and pixels with seeds of their own, so one
scene can be shown again with other positions, sizes and shades, or changed in one respect for composed retrieval.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count

import numpy as np
from PIL import Image

from analysis.data.emoji_grounds import SIDE, Ground, draw_ground, render_ground
from analysis.data.emoji_vocabulary import NUMBER_WORDS, is_plural, numbered, sprite, vocabulary, with_article

CHANGES = ("ground", "number", "second_object")
GRID = 8  # corners and sizes of sprites are multiples of it: half a patch, so small networks see few forms of an object

_LAYOUT_WEIGHTS = {"one": 3.0, "many": 2.0, "beside": 2.5, "above": 2.5}
_HALF = SIDE // 2
# The boxes (left, upper, width, height) of a layout; every object stands somewhere in a box of its own.
_BOXES = {
    "one": ((0, 0, SIDE, SIDE),),
    "many": tuple((x, y, _HALF, _HALF) for x in (0, _HALF) for y in (0, _HALF)),
    "beside": ((0, 0, _HALF, SIDE), (_HALF, 0, _HALF, SIDE)),
    "above": ((0, 0, SIDE, _HALF), (0, _HALF, SIDE, _HALF)),
}
_SPRITE_SIDES = {"small": (40, 48), "medium": (48, 56), "large": (72, 80)}


@dataclass(frozen=True)
class Scene:
    """layout: one, many (of a kind), beside or above. The first object is the main one: the left or the upper one.
    `relation` is that of the first object to the second ("" without one)."""

    layout: str
    objects: tuple[str, ...]
    counts: tuple[int, ...]
    sizes: tuple[str, ...]  # small where objects share the picture, else medium or large
    relation: str
    ground: Ground

    def truth(self) -> dict[str, object]:
        """The ground truth as it is written beside the annotations."""
        return {**asdict(self), "main": self.objects[0], "categories": [vocabulary()[o].category for o in self.objects]}


def draw_scene(rng: random.Random) -> Scene:
    layout = rng.choices(list(_LAYOUT_WEIGHTS), list(_LAYOUT_WEIGHTS.values()))[0]
    ground = draw_ground(rng)
    words = tuple(vocabulary())
    if layout == "one":
        return Scene(layout, (rng.choice(words),), (1,), (rng.choice(("medium", "large")),), "", ground)
    if layout == "many":
        return Scene(layout, (rng.choice(words),), (rng.choice(list(NUMBER_WORDS)),), ("small",), "", ground)
    pair = tuple(rng.sample(words, 2))
    return Scene(layout, pair, (1, 1), ("small", "small"), "left of" if layout == "beside" else "above", ground)


def draw_scenes(
    n: int, *, seed: int, split: str, taken: set[Scene], unique: bool = False
) -> list[tuple[Scene, list[str]]]:
    """n scenes with their captions; none of them is in `taken`.

    unique: also redraw a scene that was drawn before in this call, or one of whose captions was used before. A
    retrieval gallery needs that: an identical caption of another picture is a false negative. Otherwise a scene may
    recur, placed and shaded differently.
    """
    drawn: list[tuple[Scene, list[str]]] = []
    mine: set[Scene] = set()
    said: set[str] = set()
    for index in range(n):
        for attempt in count():
            rng = random.Random(f"{seed}/{split}/{index}/{attempt}")
            scene = draw_scene(rng)
            sentences = captions(scene, rng)
            if scene not in taken and not (unique and (scene in mine or said & set(sentences))):
                break
        mine.add(scene)
        said |= set(sentences)
        drawn.append((scene, sentences))
    return drawn


def vary_scene(scene: Scene, change: str, rng: random.Random) -> tuple[Scene, str] | None:
    """The scene changed in one respect and the sentence that asks for it, or None where the change has no meaning.

    change: "ground" (every scene), "number" (one kind of object), "second_object" (two kinds).
    """
    if change == "ground":
        ground = next(g for g in _grounds(rng) if g != scene.ground)
        return replace(scene, ground=ground), f"The same but {ground.phrases[0]}."
    if change == "number":
        if len(scene.objects) != 1:
            return None
        number = rng.choice([k for k in NUMBER_WORDS if k != scene.counts[0]])
        changed = replace(scene, layout="many", counts=(number,), sizes=("small",))
        return changed, f"The same but with {numbered(scene.objects[0], number)}."
    if change == "second_object":
        if len(scene.objects) != 2:
            return None
        kept, old = scene.objects
        new = rng.choice([word for word in vocabulary() if word not in scene.objects])
        return replace(scene, objects=(kept, new)), f"The same but with {with_article(new)} instead of the {old}."
    raise ValueError(f"change {change!r} is not one of {CHANGES}")


def captions(scene: Scene, rng: random.Random) -> list[str]:
    """Five sentences about the scene; wording, ground phrase and frame vary, what they claim is true of the scene."""
    claims = _claims(scene)
    grounds = list(scene.ground.phrases)
    rng.shuffle(claims)
    rng.shuffle(grounds)
    sentences: list[str] = []
    for i in count():
        claim, ground = claims[i % len(claims)], grounds[i % len(grounds)]
        frame = rng.choice(_FRAMES)
        sentence = frame.format(claim=claim, ground=ground, are="are" if is_plural(claim) else "is")
        sentence = sentence[0].upper() + sentence[1:] + "."
        if sentence not in sentences:
            sentences.append(sentence)
        if len(sentences) == 5:
            break
    return sentences


_FRAMES = (
    "{claim} {ground}",
    "a picture of {claim} {ground}",
    "a scene with {claim} {ground}",
    "there {are} {claim} {ground}",
    "{ground} there {are} {claim}",
)


def _claims(scene: Scene) -> list[str]:
    """Every claim names every object."""
    a = with_article(scene.objects[0])
    if scene.layout == "one":
        return [a, a] if scene.sizes[0] == "medium" else [a, with_article(scene.objects[0], "big")]
    if scene.layout == "many":
        number, plural = numbered(scene.objects[0], scene.counts[0]), vocabulary()[scene.objects[0]].plural
        return [number, number, f"a pair of {plural}" if scene.counts[0] == 2 else f"a group of {number}"]
    b = with_article(scene.objects[1])
    if scene.layout == "beside":
        return [f"{a} to the left of {b}", f"{b} to the right of {a}", f"{a} next to {b}", f"{a} and {b}"]
    return [f"{a} above {b}", f"{b} below {a}", f"{a} over {b}", f"{a} and {b}"]


def render(scene: Scene, rng: random.Random) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8. Other seeds place, scale and shade the same scene differently."""
    image = render_ground(scene.ground, rng)
    for word, side, left, upper in _places(scene, rng):
        tile = sprite(word).resize((side, side), Image.Resampling.BILINEAR)
        image.paste(tile, (left, upper), tile)
    return np.asarray(image)


def _places(scene: Scene, rng: random.Random) -> Iterator[tuple[str, int, int, int]]:
    """(word, side, left, upper) of every sprite, on the grid, so that the picture shows what the scene says."""
    words = [word for word, number in zip(scene.objects, scene.counts, strict=True) for _ in range(number)]
    boxes = list(_BOXES[scene.layout])
    if scene.layout == "many":
        boxes = rng.sample(boxes, len(words))
    for word, (left, upper, width, height) in zip(words, boxes, strict=True):
        side = rng.choice(_SPRITE_SIDES[scene.sizes[0]])
        yield word, side, left + _step(rng, width - side), upper + _step(rng, height - side)


def _step(rng: random.Random, room: int) -> int:
    return GRID * rng.randint(0, room // GRID)


def _grounds(rng: random.Random) -> Iterator[Ground]:
    while True:
        yield draw_ground(rng)
