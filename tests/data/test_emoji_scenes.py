"""What EmojiScenes promises: the same data from a seed, disjoint splits, captions that are true, unique and grammatical,
files that the ordinary loaders read."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.data import emoji_arrays, emoji_scenes
from analysis.data.emoji_dataset import TASK_NUMBERS, write_dataset
from analysis.data.emoji_grounds import COLOURS, PLACES, SIDE, draw_ground, render_ground
from analysis.data.emoji_scenes import CHANGES, GRID, Scene, captions, render, vary_scene
from analysis.data.emoji_vocabulary import sprite, vocabulary, with_article
from analysis.data.registry import find_retrieval_tasks, load_pairs, load_retrieval


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[tuple[Scene, list[str]]]]:
    return emoji_arrays.draw_splits(2000, 300, 500, seed=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("scenes"), n_train=40, n_val=10, n_test=40, seed=3, progress=False)


def test_a_seed_decides_scenes_captions_and_pixels(drawn):
    again = emoji_arrays.draw_splits(50, 300, 500, seed=0)
    assert (again["test"], again["val"]) == (drawn["test"], drawn["val"])
    assert again["train"] == drawn["train"][:50]
    assert emoji_arrays.draw_splits(0, 0, 50, seed=1)["test"] != drawn["test"][:50]
    scene = drawn["test"][7][0]
    np.testing.assert_array_equal(render(scene, random.Random("a")), render(scene, random.Random("a")))
    assert (render(scene, random.Random("a")) != render(scene, random.Random("b"))).any()


def test_splits_share_no_scene_and_no_test_scene_recurs(drawn):
    scenes = {name: {scene for scene, _ in rows} for name, rows in drawn.items()}
    assert len(scenes["test"]) == len(drawn["test"]) == 500
    assert not scenes["test"] & (scenes["train"] | scenes["val"])
    assert not scenes["val"] & scenes["train"]


def test_no_two_test_scenes_share_a_caption(drawn):
    owners = Counter(caption for _, five in drawn["test"] for caption in set(five))
    assert max(owners.values()) == 1
    assert all(len(set(five)) == 5 for split in drawn.values() for _, five in split)


def test_articles_and_plurals_are_right(drawn):
    assert with_article("elephant") == "an elephant"
    assert with_article("elephant", "big") == "a big elephant"
    assert with_article("unicorn") == "a unicorn"
    assert with_article("umbrella") == "an umbrella"
    text = "\n".join(caption for split in drawn.values() for _, five in split for caption in five)
    wrong = re.findall(r"\b(?:a [aeio]\w+|an [^aeiou]\w+|a u(?!ni)\w+)", text, re.IGNORECASE)
    assert wrong == []
    assert re.findall(r"there is (?:two|three|four)[^.]*|there are (?:a|an)\b[^.]*", text, re.IGNORECASE) == []


def test_every_caption_names_what_is_there(drawn):
    for scene, five in drawn["test"]:
        names = [{word, vocabulary()[word].plural} for word in scene.objects]
        for caption in five:
            words = set(re.findall(r"[a-z]+", caption.lower()))
            assert all(forms & words for forms in names), (scene, caption)
            assert any(phrase.lower() in caption.lower() for phrase in scene.ground.phrases), (scene, caption)


def test_every_layout_is_drawn(drawn):
    layouts = Counter(scene.layout for scene, _ in drawn["train"])
    assert set(layouts) == {"one", "many", "beside", "above"}
    assert min(layouts.values()) > 300


def test_sprites_lie_on_the_grid_where_the_scene_says_and_never_over_each_other(drawn):
    for scene, _ in drawn["test"][:300]:
        places = list(emoji_scenes._places(scene, random.Random("places")))
        assert Counter(word for word, *_ in places) == dict(zip(scene.objects, scene.counts, strict=True))
        for word, side, left, upper in places:
            assert side % GRID == left % GRID == upper % GRID == 0
            assert side >= 40
            assert 0 <= left <= SIDE - side
            assert 0 <= upper <= SIDE - side
            for other, other_side, other_left, other_upper in places:
                if (word, left, upper) != (other, other_left, other_upper):
                    apart = max(abs(left - other_left), abs(upper - other_upper))
                    assert apart >= min(side, other_side)
        if scene.layout == "beside":
            assert places[0][2] + places[0][1] <= places[1][2]
        if scene.layout == "above":
            assert places[0][3] + places[0][1] <= places[1][3]


def test_every_noun_has_a_picture_of_its_own():
    pictures = {word: sprite(word).tobytes() for word in vocabulary()}
    assert 80 <= len(pictures) <= 120
    assert len(set(pictures.values())) == len(pictures)
    assert all(np.asarray(sprite(word))[..., 3].mean() > 10 for word in pictures)


def test_grounds_of_one_name_vary_and_fill_the_picture():
    rng = random.Random(5)
    names = set()
    for _ in range(200):
        ground = draw_ground(rng)
        names.add(ground.name)
        assert render_ground(ground, rng).size == (SIDE, SIDE)
        assert len(set(ground.phrases)) == 4
        assert all(ground.name in phrase for phrase in ground.phrases)  # one word stands for one ground
    assert names == {*PLACES, *COLOURS}


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
                assert other.ground != scene.ground
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
    for split, n in (("train", 40), ("val", 10), ("test", 40)):
        pairs = load_pairs(root, split=split)
        assert not pairs.defects
        assert len(pairs.samples) == n * 6
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
    write_dataset(root, n_train=40, n_val=10, n_test=40, seed=3, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
