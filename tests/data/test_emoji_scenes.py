"""What EmojiScenes promises: the same data from a seed, disjoint splits, captions that are true, unique and grammatical,
files that the ordinary loaders read."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.data import emoji_arrays, emoji_scenes
from analysis.data.emoji_dataset import TASK_NUMBERS, write_dataset
from analysis.data.emoji_grounds import PLACES, SIDE, draw_ground, render_ground
from analysis.data.emoji_scenes import CHANGES, Scene, captions, render, vary_scene
from analysis.data.emoji_vocabulary import sprite, vocabulary, with_article
from analysis.data.registry import find_retrieval_tasks, load_pairs, load_retrieval


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[tuple[Scene, list[str]]]]:
    return emoji_arrays.draw_splits(3000, 600, seed=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("scenes"), n_train=40, n_test=40, seed=3, progress=False)


def test_a_seed_decides_scenes_captions_and_pixels(drawn):
    again = emoji_arrays.draw_splits(50, 600, seed=0)
    assert again["test"] == drawn["test"]
    assert again["train"] == drawn["train"][:50]
    assert emoji_arrays.draw_splits(0, 50, seed=1)["test"] != drawn["test"][:50]
    scene = drawn["test"][7][0]
    np.testing.assert_array_equal(render(scene, random.Random("a")), render(scene, random.Random("a")))
    assert (render(scene, random.Random("a")) != render(scene, random.Random("b"))).any()


def test_no_scene_is_in_both_splits_or_twice_in_one(drawn):
    scenes = [scene for split in drawn.values() for scene, _ in split]
    assert len(set(scenes)) == len(scenes) == 3600


def test_no_two_scenes_share_their_captions(drawn):
    assert len({frozenset(five) for _, five in drawn["train"]}) == 3000
    owners = Counter(caption for _, five in drawn["test"] for caption in set(five))
    assert max(owners.values()) == 1
    assert all(len(set(five)) == 5 for split in drawn.values() for _, five in split)


def test_articles_and_plurals_are_right(drawn):
    assert with_article("orange") == "an orange"
    assert with_article("orange", "big") == "a big orange"
    assert with_article("unicorn") == "a unicorn"
    assert with_article("ufo") == "a ufo"
    assert with_article("umbrella") == "an umbrella"
    assert with_article("grapes", "small") == "some small grapes"
    text = "\n".join(caption for split in drawn.values() for _, five in split for caption in five)
    wrong = re.findall(r"\b(?:a [aeio]\w+|an [^aeiou]\w+|a u(?!ni|fo)\w+)", text, re.IGNORECASE)
    assert wrong == []
    assert re.findall(r"there is (?:two|three|four|five|several|some \w*s\b(?!,))[^.]*", text, re.IGNORECASE) == []
    uncountable = [noun.word for noun in vocabulary().values() if not noun.countable]
    assert not re.search(rf"\b(?:two|three|four|five|several|an?) (?:{'|'.join(uncountable)})\b", text)


def test_every_caption_names_what_is_there(drawn):
    for scene, five in drawn["test"]:
        names = [{word, vocabulary()[word].plural} for word in scene.objects]
        for caption in five:
            words = set(re.findall(r"[a-z]+", caption.lower()))
            assert all(forms & words for forms in names), (scene, caption)
            assert any(phrase.lower() in caption.lower() for phrase in scene.ground.phrases), (scene, caption)


def test_every_layout_is_drawn(drawn):
    layouts = Counter(scene.layout for scene, _ in drawn["train"])
    assert set(layouts) == {"one", "many", "beside", "above", "sizes", "one_many", "three"}
    assert min(layouts.values()) > 100
    assert {len(scene.objects) for scene, _ in drawn["train"]} == {1, 2, 3}


def test_sprites_lie_where_the_scene_says(drawn):
    """The places of the sprites agree with relation, counts and sizes, and no sprite leaves the picture."""
    for scene, _ in drawn["test"][:300]:
        places = list(emoji_scenes._places(scene, random.Random("places")))
        assert Counter(word for word, *_ in places) == dict(zip(scene.objects, scene.counts, strict=True))
        for _, size, x, y in places:
            for centre in (x, y):
                assert size / 2 - 8 <= centre <= SIDE + 8 - size / 2
        first = places[0]
        if scene.layout in ("beside", "three"):
            assert all(before[2] < after[2] for before, after in pairwise(places))
        if scene.relation in ("above", "below"):
            assert all((first[3] < other[3]) == (scene.relation == "above") for other in places[1:])
        if scene.layout == "sizes":
            assert first[1] > 1.5 * places[1][1]


def test_every_noun_has_a_picture_of_its_own():
    pictures = {word: sprite(word).tobytes() for word in vocabulary()}
    assert 200 <= len(pictures) <= 226
    assert len(set(pictures.values())) == len(pictures)
    assert all(np.asarray(sprite(word))[..., 3].mean() > 10 for word in pictures)


def test_grounds_of_one_name_vary_and_fill_the_picture():
    rng = random.Random(5)
    styles = set()
    for _ in range(80):
        ground = draw_ground(rng)
        styles.add(ground.style)
        assert render_ground(ground, rng).size == (SIDE, SIDE)
        assert len(ground.phrases) == 4
    assert styles >= {"plain", "gradient", "stripes", "dots", "checker", *PLACES}


def test_a_change_changes_one_thing(drawn):
    seen = Counter()
    for scene, _ in drawn["test"][:200]:
        for change in CHANGES:
            varied = vary_scene(scene, change, random.Random(1))
            if varied is None:
                assert change != "ground"
                continue
            other, wish = varied
            seen[change] += 1
            assert wish.startswith("The same but ")
            assert other != scene
            if change == "ground":
                assert (other.objects, other.counts, other.layout) == (scene.objects, scene.counts, scene.layout)
                assert other.ground.style != scene.ground.style
            else:
                assert other.ground == scene.ground
            if change == "number":
                assert other.objects == scene.objects
                assert other.counts != scene.counts
            if change == "second_object":
                assert other.objects[0] == scene.objects[0]
                assert other.objects[1] != scene.objects[1]
                assert captions(other, random.Random(2))
    assert min(seen[change] for change in CHANGES) > 30
    with pytest.raises(ValueError, match="colour"):
        vary_scene(drawn["test"][0][0], "colour", random.Random(1))


def test_pairs_are_read_by_the_ordinary_loader(root):
    for split in ("train", "test"):
        pairs = load_pairs(root, split=split)
        assert not pairs.defects
        assert len(pairs.samples) == 40 * 6
        assert pairs.samples[0].picture.load().size == (SIDE, SIDE)
    truth = json.loads((root / "annotations" / "scenes_test.json").read_text())
    table = json.loads((root / "annotations" / "captions_test.json").read_text())
    assert set(table) == {"info", "licenses", "images", "annotations"}
    assert [row["image_id"] for row in truth] == [row["id"] for row in table["images"]]
    assert set(truth[0]) >= {"main", "objects", "counts", "layout", "relation", "ground", "categories"}


def test_tasks_have_the_columns_of_mbeir_and_load(root):
    places = {place.task: place for place in find_retrieval_tasks(root)}
    assert set(places) == set(TASK_NUMBERS) == {"t2i", "i2t", "i2i", "it2i", "it2it"}
    expected = {"t2i": (200, 40), "i2t": (40, 200), "i2i": (10, 40), "it2i": (10, 50), "it2it": (10, 30)}
    for task, place in places.items():
        for side in ("query", "corpus"):
            schema = pq.read_schema(place.path / f"{side}-00000-of-00001.parquet")
            assert schema.names == ["id", "modality", "text", "image"]
            assert [field.name for field in schema.field("image").type] == ["bytes", "path"]
        names = pq.read_schema(place.path / "qrels-00000-of-00001.parquet").names
        assert names == ["query-id", "corpus-id", "score"]
        found = load_retrieval(root, task=task)
        assert (len(found.queries), len(found.candidates)) == expected[task]
        assert (np.diff(found.qrels.indptr) == (5 if task == "i2t" else 1)).all()
        assert not found.defects


def test_composed_pools_hold_the_query_picture_as_a_distractor(root):
    for task in ("it2i", "it2it"):
        found = load_retrieval(root, task=task)
        pool = [candidate.picture.bytes() for candidate in found.candidates]
        for row, query in enumerate(found.queries):
            target = found.qrels[[row]].indices[0]
            assert query.picture.bytes() in pool
            assert query.picture.bytes() != pool[target]


def test_writing_again_changes_nothing(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    write_dataset(root, n_train=40, n_test=40, seed=3, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
