"""COCO-Caption shards: read in place, pictures fetched when decoded."""

import base64

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from analysis.data.coco_parquet import find_pair_shards, load_coco_parquet
from analysis.errors import DataError
from tests.data.writers import PICTURE, encoded, solid, write_coco_parquet

PAIRS = [(solid(10 * i, 5, 0), [f"caption {i} a", f"caption {i} b ", f"caption {i} c"]) for i in range(9)]


def images(pairs):
    return [sample for sample in pairs.samples if sample.modality == "image"]


@pytest.mark.parametrize(("shards", "row_group_size"), [(1, 100), (3, 2), (4, 1)])
def test_every_row_is_one_pair_group(tmp_path, shards, row_group_size):
    write_coco_parquet(tmp_path, PAIRS, shards=shards, row_group_size=row_group_size)
    pairs = load_coco_parquet(tmp_path)
    assert (pairs.n_pairs, len(pairs.samples), pairs.split, pairs.defects.lines()) == (9, 36, "val", [])
    for number, image in enumerate(images(pairs)):
        assert image.sample_id == f"val/{number}"
        assert image.picture.load().getpixel((0, 0)) == (10 * number, 5, 0)
        texts = [s.text for s in pairs.samples if s.pair_id == image.pair_id and s.modality == "text"]
        assert texts == [f"caption {number} {letter}" for letter in "abc"]
    assert images(pairs)[3].licence == "CC BY 2.0"
    assert images(pairs)[3].source == "http://images.cocodataset.org/val2014/3.jpg"


def test_an_answer_may_be_a_single_string(tmp_path):
    write_coco_parquet(tmp_path, PAIRS, answer="string")
    texts = [sample.text for sample in load_coco_parquet(tmp_path).samples if sample.modality == "text"]
    assert texts == [f"caption {i} a" for i in range(9)]


def test_splits_come_from_the_shard_names(tmp_path):
    write_coco_parquet(tmp_path / "data", PAIRS, split="val", shards=2)
    write_coco_parquet(tmp_path / "data", [(solid(1, 1, 1), [])], split="test")
    assert load_coco_parquet(tmp_path, split="val").n_pairs == 9
    both = load_coco_parquet(tmp_path)
    assert both.defects.lines() == ["1 x picture without a caption, first: 0"]
    assert both.name == tmp_path.name == load_coco_parquet(tmp_path / "data").name
    with pytest.raises(DataError, match=r"no split 'train'; found test, val"):
        load_coco_parquet(tmp_path, split="train")
    with pytest.raises(DataError, match="no picture with a caption left"):
        load_coco_parquet(tmp_path, split="test")


def test_a_single_shard_is_a_dataset(tmp_path):
    paths = write_coco_parquet(tmp_path, PAIRS, shards=3)
    assert [image.sample_id for image in images(load_coco_parquet(paths[1]))] == ["val/3", "val/4", "val/5"]


def test_defects_are_counted_and_named(tmp_path):
    rows = [*PAIRS, (None, ["no picture"]), (solid(1, 1, 1), [None, "", "fine", "nan"]), (solid(1, 1, 1), None or [])]
    write_coco_parquet(tmp_path, rows, row_group_size=4)
    write_coco_parquet(tmp_path, PAIRS[:2], split="val", shards=2)[1].unlink()  # ids 0 again, in another shard
    (tmp_path / "val-00009-of-00009.parquet").write_bytes(b"PAR1")
    pairs = load_coco_parquet(tmp_path)
    assert pairs.n_pairs == 10
    assert pairs.samples[-1].text == "fine"
    assert pairs.samples[-1].sample_id == "val/10#2"
    assert pairs.defects.lines() == [
        "1 x duplicate image id, first: 0",
        "3 x empty caption, first: 0 of image 10",
        "1 x picture missing, first: 9",
        "1 x picture without a caption, first: 11",
        "1 x unreadable parquet shard, first: val-00009-of-00009.parquet",
    ]


def test_undecodable_pictures_wait_until_embedding_or_check(tmp_path):
    write_coco_parquet(tmp_path, [*PAIRS[:2], (b"these bytes are no picture", ["a caption"])])
    pairs = load_coco_parquet(tmp_path)
    assert pairs.n_pairs == 3
    with pytest.raises(DataError, match=r"COCO_val2014_000000000002\.jpg is not a picture"):
        images(pairs)[2].picture.load()
    checked = load_coco_parquet(tmp_path, check=True)
    assert checked.n_pairs == 2
    assert checked.defects.count("picture that cannot be opened") == 1


def test_the_revision_follows_the_content(tmp_path):
    revisions = []
    for captions in (["one caption"], ["another one"], ["one caption"]):
        write_coco_parquet(tmp_path, [(solid(1, 2, 3), captions)])
        revisions.append(load_coco_parquet(tmp_path).revision)
    assert revisions[0] == revisions[2] != revisions[1]


def test_other_parquet_files_are_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet has the columns a; expected image and answer"):
        load_coco_parquet(tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "query-0.parquet")
    assert [path.name for path in find_pair_shards(tmp_path)] == ["x.parquet"]


def _table(folder, **columns):
    (folder / "data").mkdir()
    pq.write_table(pa.table(columns), folder / "data" / "val-00000-of-00001.parquet")
    pairs = load_coco_parquet(folder)
    for sample in pairs.samples:
        if sample.picture is not None:
            sample.picture.load()
    return [sample.text for sample in pairs.samples if sample.modality == "text"], pairs.defects.lines()


def test_a_row_a_caption_is_one_picture_with_all_of_them(tmp_path):
    red, blue = encoded(solid(200, 0, 0)), encoded(solid(0, 0, 200))
    found = _table(
        tmp_path, image=[red, blue, red, red], image_id=[1, 2, 1, 1], caption=["red", "blue", "a red one", "red"]
    )
    assert found == (
        ["red", "a red one", "blue"],
        [
            "1 x duplicate image id, first: 1",
            "1 x row of an image that has one already (its captions joined), first: 1",
        ],
    )


@pytest.mark.parametrize("written", ["base64", "address", "list", "dictionary of paths", "jpg and txt"])
def test_pictures_in_other_kinds_of_columns(tmp_path, written):
    data = encoded(Image.effect_noise((60, 40), 80).convert("RGB"))
    text = base64.b64encode(data).decode()
    (tmp_path / "a.png").write_bytes(data)
    struct = pa.array([[{"bytes": data, "path": None}]], pa.list_(PICTURE))
    column = {
        "base64": {"image": [text]},
        "address": {"image": ["data:image/png;base64," + text]},
        "list": {"images": struct},
        "dictionary of paths": {"image": pa.array(["a.png"]).dictionary_encode()},
        "jpg and txt": {"jpg": [data]},
    }[written]
    assert _table(tmp_path, **column, **{"txt" if "txt" in written else "caption": ["noise"]}) == (["noise"], [])
