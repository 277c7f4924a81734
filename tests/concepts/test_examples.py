from pathlib import Path

import numpy as np
from PIL import Image

from analysis.concepts.examples import (
    IMAGE,
    OTHER,
    TEXT,
    Firing,
    around,
    at_random,
    distinct,
    distinct_pictures,
    kinds,
    paired_share,
    split,
    tiny,
)

FIRING = Firing(np.arange(100, 120), np.linspace(2, 0.1, 20))


def test_only_paired_samples_are_pictures_or_captions():
    modality = np.array(["image", "text", "image_text", "image", "text"])
    assert kinds(modality, np.array([0, 0, 0, -1, -1])).tolist() == [IMAGE, TEXT, OTHER, OTHER, OTHER]


def test_split_keeps_the_order_of_strength():
    kind = np.array([IMAGE, TEXT, OTHER, IMAGE, TEXT], np.int8)
    pictures, captions = split(np.array([3, 1, 2, 0, 4]), np.array([5.0, 4.0, 3.0, 2.0, 1.0]), kind)
    assert (pictures.rows.tolist(), pictures.values.tolist()) == ([3, 0], [5.0, 2.0])
    assert (captions.rows.tolist(), captions.values.tolist()) == ([1, 4], [4.0, 1.0])


def test_captions_that_say_the_same_are_shown_once():
    texts = np.array(["Two cats.", "two  CATS", "cats, two!", "a dog", "", " "])
    found = distinct(Firing(np.array([1, 0, 2, 3, 4, 5]), np.arange(6.0)[::-1]), texts, 10)
    assert found.rows.tolist() == [1, 3, 4]
    assert distinct(FIRING, np.array([f"caption number {i}" for i in range(200)]), 3).rows.tolist() == [100, 101, 102]


def test_pictures_that_look_the_same_are_shown_once(tmp_path: Path):
    """The same picture larger, worse compressed and a little brighter is no news; its mirror image, other colours in the same
    shape and two plain colours are."""
    rng = np.random.default_rng(0)
    first = Image.fromarray(np.kron(rng.integers(0, 230, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8))
    files = {
        "first.png": first,
        "larger.png": first.resize((400, 300)),
        "worse.jpg": first,
        "brighter.png": Image.fromarray((np.asarray(first, int) + 2).astype(np.uint8)),
        "mirrored.png": first.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "recoloured.png": Image.fromarray(np.asarray(first)[..., ::-1].copy()),
        "red.png": Image.new("RGB", (30, 30), "crimson"),
        "blue.png": Image.new("RGB", (30, 30), "steelblue"),
    }
    for name, picture in files.items():
        picture.save(tmp_path / name, **({"quality": 40} if name.endswith("jpg") else {}))
    (tmp_path / "none.png").write_text("no picture")
    names = [*files, "none.png", "none.png"]
    firing = Firing(np.arange(len(names)), np.linspace(2, 1, len(names)))
    found = distinct_pictures(firing, lambda row: tiny(tmp_path / names[row]), 7)
    assert found.rows.tolist() == [0, 4, 5, 6, 7, 8, 9]
    assert found.values.tolist() == firing.values[found.rows].tolist()
    assert distinct_pictures(firing, lambda row: tiny(tmp_path / names[row]), 2).rows.tolist() == [0, 4]


def test_quantiles_lie_where_they_should():
    assert around(FIRING, 1.0, 4).rows.tolist() == [100, 101, 102, 103]
    assert around(FIRING, 0.0, 4).rows.tolist() == [116, 117, 118, 119]
    middle = around(FIRING, 0.5, 4).values
    assert middle.min() < np.median(FIRING.values) < middle.max()
    assert len(around(FIRING[:0], 0.5, 4)) == 0


def test_random_examples_are_seeded_and_without_repeats():
    one, again, other = (at_random(FIRING, 6, seed) for seed in (1, 1, 2))
    assert one.rows.tolist() == again.rows.tolist() != other.rows.tolist()
    assert len(set(one.rows.tolist())) == 6
    assert (np.diff(one.values) < 0).all()
    assert len(at_random(FIRING[:3], 6, 0)) == 3


def test_paired_share_counts_captions_of_the_top_pictures():
    pair_id = np.array([0, 1, 0, 0, 1, 1])  # rows 0 and 1 are pictures, two captions each
    sizes = np.array([2, 2])
    assert paired_share(np.array([0]), np.array([2, 4]), pair_id, sizes) == 0.5
    assert paired_share(np.array([0, 1]), np.array([2, 3, 4, 5]), pair_id, sizes) == 1.0
    assert np.isnan(paired_share(np.array([], int), np.array([2]), pair_id, sizes))
