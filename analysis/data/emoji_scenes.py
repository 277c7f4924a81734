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
from analysis.data.emoji_vocabulary import countable_words, is_plural, numbered, sprite, vocabulary, with_article

CHANGES = ("ground", "number", "second_object")
_LAYOUT_WEIGHTS = {"one": 2.5, "many": 1.5, "beside": 2.5, "above": 2.0, "sizes": 1.0, "one_many": 1.5, "three": 1.0}


@dataclass(frozen=True)
class Scene:
    """layout: one, many, beside, above, sizes, one_many or three. The first object is the main one: left, upper,
    bigger, or the single one beside many. `relation` is that of the first object to the second ("" without one)."""

    layout: str
    objects: tuple[str, ...]
    counts: tuple[int, ...]
    sizes: tuple[str, ...]  # small, medium or large
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
        size = rng.choice(("small", "medium", "large"))
        return Scene(layout, (rng.choice(words),), (1,), (size,), "", ground)
    if layout == "many":
        return Scene(layout, (rng.choice(countable_words()),), (rng.randint(2, 5),), ("medium",), "", ground)
    if layout == "one_many":
        many = rng.choice(countable_words())
        single = rng.choice([word for word in words if word != many])
        relation = rng.choice(("above", "below"))
        return Scene(layout, (single, many), (1, rng.randint(2, 4)), ("medium", "small"), relation, ground)
    if layout == "three":
        return Scene(layout, tuple(rng.sample(words, 3)), (1, 1, 1), ("medium",) * 3, "left of", ground)
    pair = tuple(rng.sample(words, 2))
    if layout == "sizes":
        return Scene(layout, pair, (1, 1), ("large", "small"), "bigger than", ground)
    return Scene(layout, pair, (1, 1), ("medium", "medium"), "left of" if layout == "beside" else "above", ground)


def draw_scenes(
    n: int, *, seed: int, split: str, taken: set[Scene], unique_captions: bool
) -> list[tuple[Scene, list[str]]]:
    """n scenes with their captions; none of them is in `taken` (grown in place), and no two share all five captions.

    unique_captions: also redraw a scene as soon as one of its captions was used by an earlier scene of this call. A
    retrieval gallery needs that: an identical caption of another picture is a false negative.
    """
    drawn: list[tuple[Scene, list[str]]] = []
    said: set[object] = set()
    for index in range(n):
        for attempt in count():
            rng = random.Random(f"{seed}/{split}/{index}/{attempt}")
            scene = draw_scene(rng)
            sentences = captions(scene, rng)
            used = set(sentences) if unique_captions else {frozenset(sentences)}
            if scene not in taken and not used & said:
                break
        taken.add(scene)
        said |= used
        drawn.append((scene, sentences))
    return drawn


def vary_scene(scene: Scene, change: str, rng: random.Random) -> tuple[Scene, str] | None:
    """The scene changed in one respect and the sentence that asks for it, or None where the change has no meaning.

    change: "ground" (every scene), "number" (where something is counted or can be), "second_object" (two kinds).
    """
    if change == "ground":
        ground = next(g for g in _grounds(rng) if g.style != scene.ground.style)
        return replace(scene, ground=ground), f"The same but {ground.phrases[0]}."
    if change == "number":
        counted = scene.objects[-1]
        if scene.layout not in ("one", "many", "one_many") or not vocabulary()[counted].countable:
            return None
        choices = range(2, 6) if len(scene.objects) == 1 else range(2, 5)
        number = rng.choice([k for k in choices if k != scene.counts[-1]])
        changed = replace(scene, counts=(*scene.counts[:-1], number))
        if scene.layout == "one":
            changed = replace(changed, layout="many", sizes=("medium",))
        return changed, f"The same but with {numbered(counted, number)}."
    if change == "second_object":
        if len(scene.objects) != 2:
            return None
        words = countable_words() if scene.counts[1] > 1 else tuple(vocabulary())
        other = rng.choice([word for word in words if word not in scene.objects])
        old = scene.objects[1]
        new = numbered(other, scene.counts[1])
        old_name = vocabulary()[old].plural if scene.counts[1] > 1 else old
        return replace(scene, objects=(scene.objects[0], other)), f"The same but with {new} instead of the {old_name}."
    raise ValueError(f"change {change!r} is not one of {CHANGES}")


def captions(scene: Scene, rng: random.Random) -> list[str]:
    """Five sentences about the scene; wording, ground phrase and frame vary, what they claim is true of the scene."""
    claims = _claims(scene)
    grounds = list(scene.ground.phrases)
    rng.shuffle(claims)
    rng.shuffle(grounds)
    sentences: list[str] = []
    while len(sentences) < 5:
        i = len(sentences)
        claim, ground = claims[i % len(claims)], grounds[i % len(grounds)]
        frame = rng.choices(_FRAMES, _FRAME_WEIGHTS)[0]
        sentence = frame.format(claim=claim, ground=ground, are="are" if is_plural(claim) else "is")
        sentence = sentence[0].upper() + sentence[1:] + "."
        if sentence not in sentences:
            sentences.append(sentence)
    return sentences


_FRAMES = (
    "{claim} {ground}",
    "{ground} there {are} {claim}",
    "a picture of {claim} {ground}",
    "an image showing {claim} {ground}",
    "there {are} {claim} {ground}",
    "a scene with {claim} {ground}",
    "we see {claim} {ground}",
    "{claim} can be seen {ground}",
)
_FRAME_WEIGHTS = (8, 1, 4, 4, 4, 4, 4, 4)


def _claims(scene: Scene) -> list[str]:
    first, *rest = scene.objects
    a = with_article(first)
    if scene.layout == "one":
        size = scene.sizes[0]
        return [a, a, a] if size == "medium" else [a, with_article(first, size), a]
    if scene.layout == "many":
        number, plural = numbered(first, scene.counts[0]), vocabulary()[first].plural
        if scene.counts[0] == 2:
            return [number, number, f"a pair of {plural}", number]
        return [number, number, f"several {plural}", f"a group of {number}"]
    if scene.layout == "three":
        b, c = with_article(rest[0]), with_article(rest[1])
        return [
            f"{a}, {b} and {c}",
            f"{a} and {b} and {c}",
            f"{b} between {a} and {c}",
            f"{c} to the right of {b} and {a}",
            f"{a} beside {b} and {c}",
        ]
    if scene.layout == "one_many":
        some, plural = numbered(rest[0], scene.counts[1]), vocabulary()[rest[0]].plural
        opposite = "under" if scene.relation == "above" else "over"
        return [f"{a} and {some}", f"{a} {scene.relation} {some}", f"{some} {opposite} {a}", f"{a} with {plural}"]
    b = with_article(rest[0])
    if scene.layout == "beside":
        sides = [f"{a} to the left of {b}", f"{b} to the right of {a}"]
        return [*sides, f"{a} next to {b}", f"{a} and {b} side by side", f"{a} beside {b}"]
    if scene.layout == "above":
        return [f"{a} above {b}", f"{b} below {a}", f"{a} over {b}", f"{a} and {b}", f"{b} under {a}"]
    big, small = with_article(first, "big"), with_article(rest[0], "small")
    return [f"{big} next to {small}", f"{small} beside {big}", f"{big} and {small}", f"{big} with {b}"]


def render(scene: Scene, rng: random.Random) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8. Other seeds place, scale and shade the same scene differently."""
    image = render_ground(scene.ground, rng)
    for word, size, x, y in _places(scene, rng):
        tile = sprite(word).resize((size, size), Image.Resampling.BILINEAR)
        image.paste(tile, (int(x - size / 2), int(y - size / 2)), tile)
    return np.asarray(image)


def _places(scene: Scene, rng: random.Random) -> Iterator[tuple[str, int, float, float]]:
    """(word, size, centre x, centre y) of every sprite, so that the picture shows what the scene says."""
    first, *rest = scene.objects
    if scene.layout == "one":
        low, high = {"small": (36, 48), "medium": (52, 64), "large": (72, 90)}[scene.sizes[0]]
        size = rng.randint(low, high)
        yield first, size, *_inside(rng, size, slack=4)
    elif scene.layout == "many":
        number = scene.counts[0]
        size = {2: 46, 3: 40, 4: 36, 5: 32}[number] + rng.randint(-3, 4)
        for x, y in _apart(rng, number, size):
            yield first, size, x, y
    elif scene.layout == "one_many":
        number = scene.counts[1]
        size, small = rng.randint(46, 56), rng.randint(26, 31)
        upper = scene.relation == "above"
        yield first, size, rng.randint(size // 2, SIDE - size // 2), size // 2 + 2 if upper else SIDE - size // 2 - 2
        for i in range(number):
            yield rest[0], small, (i + 0.5) * SIDE / number, SIDE - small // 2 - 3 if upper else small // 2 + 3
    elif scene.layout == "three":
        for i, word in enumerate(scene.objects):
            size = rng.randint(33, 38)
            yield word, size, (i + 0.5) * SIDE / 3, rng.randint(size // 2, SIDE - size // 2)
    elif scene.layout == "above":
        size, other = rng.randint(42, 54), rng.randint(42, 54)
        x = rng.randint(size // 2, SIDE - size // 2)
        yield first, size, x, size // 2 + rng.randint(0, 3)
        yield rest[0], other, _clip(x + rng.randint(-10, 10), other), SIDE - other // 2 - rng.randint(0, 3)
    else:
        big = scene.layout == "sizes"
        size = rng.randint(62, 72) if big else rng.randint(42, 54)
        other = rng.randint(30, 36) if big else rng.randint(42, 54)
        mirrored = big and rng.random() < 0.5
        left, right = size // 2 + rng.randint(0, 4), SIDE - other // 2 - rng.randint(0, 4)
        y = rng.randint(size // 2, SIDE - size // 2)
        yield first, size, SIDE - left if mirrored else left, y
        yield rest[0], other, SIDE - right if mirrored else right, _clip(y + rng.randint(-10, 10), other)


def _inside(rng: random.Random, size: int, *, slack: int = 0) -> tuple[int, int]:
    low, high = size // 2 - slack, SIDE - size // 2 + slack
    return rng.randint(low, high), rng.randint(low, high)


def _apart(rng: random.Random, number: int, size: int) -> list[tuple[int, int]]:
    """Centres of `number` sprites that overlap little; the demand is relaxed when a draw has painted itself in."""
    points: list[tuple[int, int]] = []
    for attempt in count():
        x, y = _inside(rng, size)
        gap = size * (0.85 if attempt < 200 else 0.5)
        if all(max(abs(x - px), abs(y - py)) > gap for px, py in points):
            points.append((x, y))
            if len(points) == number:
                break
    return points


def _clip(value: int, size: int) -> int:
    return min(max(value, size // 2), SIDE - size // 2)


def _grounds(rng: random.Random) -> Iterator[Ground]:
    while True:
        yield draw_ground(rng)
