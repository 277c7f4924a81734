"""COCO captions JSON: several files of one split, pictures that are not there, and the real folder."""

import json
import os
from pathlib import Path

import pytest

from analysis.data.coco_json import find_annotations, load_coco_json
from analysis.errors import DataError
from tests.data.writers import encoded, solid, write_coco_json

PAIRS = [(solid(10 * i, 0, 0), [f"caption {i} a", f"caption {i} b"]) for i in range(6)]
COCO_MINI = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco-mini"
needs_coco_mini = pytest.mark.skipif(not COCO_MINI.is_dir(), reason="../shared/data/coco-mini is not there")


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def images(pairs):
    return [sample for sample in pairs.samples if sample.modality == "image"]


def test_pictures_meet_their_captions(tmp_path):
    write_coco_json(tmp_path, PAIRS)
    pairs = load_coco_json(tmp_path)
    assert (pairs.n_pairs, len(pairs.samples), pairs.split, pairs.defects.lines()) == (6, 18, "test", [])
    for number, image in enumerate(images(pairs)):
        assert image.picture.load().getpixel((0, 0)) == (10 * number, 0, 0)
        texts = [s.text for s in pairs.samples if s.pair_id == image.pair_id and s.modality == "text"]
        assert texts == [f"caption {number} a", f"caption {number} b"]
    assert images(pairs)[0].licence == "Attribution License http://creativecommons.org/licenses/by/2.0/"
    assert images(pairs)[0].source == "https://pictures.test/000001.png"


@pytest.mark.parametrize("folder", ["images", "images/val2017", "val2017", "annotations", "."])
def test_pictures_are_found_in_every_usual_place(tmp_path, folder):
    path = write_coco_json(tmp_path, PAIRS, split="val2017", folder=folder)
    for place in (tmp_path, path):
        pairs = load_coco_json(place)
        assert pairs.n_pairs == 6
        assert pairs.name == tmp_path.name


def test_splits_are_kept_apart_even_with_the_same_ids(tmp_path):
    write_coco_json(tmp_path, PAIRS, split="train2017", folder="train2017")
    write_coco_json(tmp_path, PAIRS[:2], split="val2017", folder="val2017")
    both = load_coco_json(tmp_path)
    assert (both.n_pairs, both.split) == (8, "train2017+val2017")
    assert len({sample.sample_id for sample in both.samples}) == len(both.samples)
    assert load_coco_json(tmp_path, split="val").n_pairs == 2
    assert load_coco_json(tmp_path, split="train2017").n_pairs == 6
    with pytest.raises(DataError, match=r"no split 'test'.*train2017, val2017"):
        load_coco_json(tmp_path, split="test")


def test_files_of_one_split_are_merged(tmp_path):
    write_coco_json(tmp_path, PAIRS[:2], split="val2017", folder="val2017")
    write_coco_json(tmp_path, PAIRS, split="val2017_full", folder="val2017")
    pairs = load_coco_json(tmp_path)
    assert (pairs.n_pairs, len(pairs.samples), pairs.defects.lines()) == (6, 18, [])


def test_defects_are_counted_and_named(tmp_path):
    path = write_coco_json(tmp_path, PAIRS, split="val2017", folder="val2017")
    (tmp_path / "val2017" / "000001.png").unlink()
    (tmp_path / "val2017" / "000002.png").write_bytes(b"")
    (tmp_path / "val2017" / "unnamed.png").write_bytes(encoded(solid(1, 2, 3)))
    (tmp_path / "val2017" / "notes.txt").write_text("not a picture")

    def change(content):
        content["images"].append(dict(content["images"][3]))
        content["images"].append({"id": 77})
        annotations = content["annotations"]
        annotations[4]["caption"] = float("nan")  # image 3
        annotations[5]["caption"] = "  "
        annotations.append({"image_id": 4, "id": annotations[6]["id"], "caption": "an id twice"})
        annotations.append({"image_id": 999, "id": 5000, "caption": "of nothing"})
        annotations.append("not a record")

    edit(path, change)
    pairs = load_coco_json(tmp_path)
    assert [image.sample_id for image in images(pairs)] == ["val2017/4", "val2017/5", "val2017/6"]
    assert pairs.defects.lines() == [
        "1 x caption of an unknown image id, first: 5000 of image 999",
        "1 x duplicate caption id, first: 106 of image 4",
        "1 x duplicate image id, first: 4",
        "2 x empty caption, first: 104 of image 3",
        "1 x image without a file name, first: 77",
        "1 x malformed annotation, first: not a record",
        "1 x picture missing, first: 000001.png",
        "1 x picture of 0 bytes, first: 000002.png",
        "2 x picture without a caption, first: unnamed.png",
    ]


def test_the_revision_follows_captions_and_pictures_but_not_the_clock(tmp_path):
    path = write_coco_json(tmp_path, PAIRS)
    first = load_coco_json(tmp_path).revision
    os.utime(tmp_path / "images" / "000001.png", (1, 1))
    assert load_coco_json(tmp_path, limit=2, seed=3).revision == first
    edit(path, lambda content: content["annotations"][0].update(caption="another one"))
    second = load_coco_json(tmp_path).revision
    (tmp_path / "images" / "000001.png").write_bytes(encoded(solid(1, 2, 3, size=(50, 50))))
    assert len({first, second, load_coco_json(tmp_path).revision}) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "lacks 'images' or 'annotations'"),
        ('{"images": [], "annotations": [{"bbox": []}]}', "annotations without captions"),
        ('{"images": {}, "annotations": []}', "image table is a dict"),
        ('{"images": [], "annotations": []}', "no picture with a caption left"),
        ("{", "not valid JSON"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, content, words):
    (tmp_path / "captions_val2017.json").write_text(content)
    with pytest.raises(DataError, match=words):
        load_coco_json(tmp_path)


def test_other_files_are_no_annotations(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{}")
    assert find_annotations(tmp_path) == []
    assert find_annotations(tmp_path / "none") == []


@needs_coco_mini
def test_coco_mini_has_a_caption_for_every_picture():
    pairs = load_coco_json(COCO_MINI)
    manifest = {
        (record["file"].split("/")[0], record["image_id"]): record["captions"]
        for record in json.loads((COCO_MINI / "manifest.json").read_text())
    }
    assert pairs.n_pairs == 239 == len(manifest)
    assert pairs.defects.lines() == ["4841 x picture missing, first: 000000037777.jpg"]  # the full annotation file
    for image in images(pairs):
        split, image_id = image.sample_id.split("/")
        assert image.picture.path == COCO_MINI / split / f"{int(image_id):012d}.jpg"
        texts = [s.text for s in pairs.samples if s.pair_id == image.pair_id and s.modality == "text"]
        assert sorted(texts) == sorted(caption.strip() for caption in manifest[split, int(image_id)])


@needs_coco_mini
def test_coco_mini_decodes_and_can_be_limited():
    pairs = load_coco_json(COCO_MINI, split="val", limit=3, check=True)
    assert pairs.n_pairs == 3
    for image in images(pairs):
        assert min(image.picture.load().size) > 100
        assert "License" in image.licence


def test_captions_in_a_list_and_addresses_in_place_of_names(tmp_path):
    file = write_coco_json(
        tmp_path, [(solid(200, 0, 0), ["red"]), (solid(0, 0, 200), ["blue"])], split="val", folder="val"
    )
    content = json.loads(file.read_text())
    content["annotations"][0]["caption"] = ["red", "a red one"]
    name = content["images"][1].pop("file_name")
    content["images"][1]["coco_url"] = f"http://pictures.test/coco/val/{name}"
    file.write_text(json.dumps(content))
    pairs = load_coco_json(tmp_path)
    assert [sample.text for sample in pairs.samples if sample.modality == "text"] == ["red", "a red one", "blue"]
    assert pairs.defects.lines() == [
        f"1 x file name in another spelling (used), first: http://pictures.test/coco/val/{name} for {name}"
    ]
    assert len({sample.sample_id for sample in pairs.samples}) == len(pairs.samples)
