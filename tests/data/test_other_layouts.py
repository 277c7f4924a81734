"""Layouts of other tools: Karpathy's splits, save_to_disk folders, WebDataset shards, pictures by path, ids of any form."""

import io
import json
import pickle
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.data.registry import load_pairs, pair_format
from analysis.data.splits import chosen_splits, split_of_file
from analysis.errors import DataError
from tests.data.writers import PICTURE, encoded, solid, write_coco_json, write_coco_parquet

PAIRS = [(solid(20 * i, 0, 0), [f"caption {i} a", f"caption {i} b"]) for i in range(4)]


def checked(pairs, numbers):
    """Each picture still has its own captions."""
    images = [sample for sample in pairs.samples if sample.modality == "image"]
    assert len(images) == len(numbers)
    for image, number in zip(images, numbers, strict=True):
        assert image.picture.load().getpixel((0, 0)) == (20 * number, 0, 0)
        assert pickle.loads(pickle.dumps(image.picture)).load().size == (12, 10)
        texts = [s.text for s in pairs.samples if s.pair_id == image.pair_id and s.modality == "text"]
        assert texts == [f"caption {number} a", f"caption {number} b"]


@pytest.mark.parametrize("image_id", [lambda i: f"{i:012d}", float, lambda i: f" {i} ", lambda i: f"{i}.0", str])
def test_ids_of_two_forms_are_joined(tmp_path, image_id):
    path = write_coco_json(tmp_path, PAIRS)
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["id"] = image_id(image["id"])
    path.write_text(json.dumps(content))
    pairs = load_pairs(tmp_path)
    checked(pairs, range(4))
    assert pairs.defects.lines() == []
    assert pairs.samples[0].sample_id == "test/1"


def test_pictures_without_captions_and_the_reverse_are_counted(tmp_path):
    path = write_coco_json(tmp_path, PAIRS)
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 2]
    content["images"] = [i for i in content["images"] if i["id"] != 3] + [{"file_name": "x.png"}]
    path.write_text(json.dumps(content))
    pairs = load_pairs(tmp_path)
    checked(pairs, [0, 3])
    assert pairs.defects.lines() == [
        "2 x caption of an unknown image id, first: 104 of image 3",
        "1 x image without an id, first: x.png",
        "1 x picture without a caption, first: 2",
    ]


def write_karpathy(root, splits=("train", "restval", "val", "test")):
    images = []
    for number, ((image, captions), split) in enumerate(zip(PAIRS, splits, strict=True)):
        folder = "val2014" if split != "train" else "train2014"
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{number}.png").write_bytes(encoded(image))
        sentences = [{"raw": text, "tokens": text.split(), "sentid": 2 * number + n} for n, text in enumerate(captions)]
        images.append(
            {"filepath": folder, "filename": f"{number}.png", "cocoid": 70 + number, "imgid": number, "split": split,
             "sentences": sentences}
        )  # fmt: skip
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return root


def test_karpathys_splits_are_those_of_the_file(tmp_path):
    root = write_karpathy(tmp_path / "coco")
    assert pair_format(root) == pair_format(root / "dataset_coco.json") == "Karpathy JSON"
    checked(load_pairs(root), range(4))
    for split, numbers in (("train", [0]), ("restval", [1]), ("train+restval", [0, 1]), ("test", [3])):
        checked(load_pairs(root, split=split), numbers)
    assert load_pairs(root, split="val").samples[0].sample_id == "val/72"
    with pytest.raises(DataError, match="no split 'dev2'; found train, restval, val, test"):
        load_pairs(root, split="dev2")


def test_a_karpathy_file_beside_cocos_own_captions_has_to_be_named(tmp_path):
    write_karpathy(tmp_path)
    write_coco_json(tmp_path, PAIRS[:2])
    assert pair_format(tmp_path) == "COCO captions JSON"
    assert load_pairs(tmp_path / "dataset_coco.json").n_pairs == 4


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("val-00000-of-00013.parquet", "val"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("test.parquet", "test"),
        ("my_data_test.parquet", "test"),
        ("train/0000.parquet", "train"),
        ("default/valid/0000.parquet", "valid"),
        ("COCO_val2014.parquet", "val2014"),
        ("part-0.parquet", ""),
        ("contest.parquet", ""),
        ("minival-00000-of-00002.parquet", "minival"),
    ],
)
def test_splits_in_file_names_as_the_hub_has_them(tmp_path, path, split):
    assert split_of_file(tmp_path / path, tmp_path) == split


def test_a_split_is_found_under_its_other_words():
    assert chosen_splits(["train2017", "val2017"], "validation", "x") == ["val2017"]
    assert chosen_splits(["validation", "test"], "dev", "x") == ["validation"]
    assert chosen_splits(["Test"], "test", "x") == ["Test"]


@pytest.mark.parametrize("name", ["train.parquet", "train/0000.parquet", "data/my-train-part.parquet"])
def test_shards_of_any_name_are_read_with_their_split(tmp_path, name):
    (shard,) = write_coco_parquet(tmp_path / "made", PAIRS)
    target = tmp_path / "set" / name
    target.parent.mkdir(parents=True)
    shard.rename(target)
    checked(load_pairs(tmp_path / "set", split="train"), range(4))


@pytest.mark.parametrize("column", ["struct", "path", "mixed"])
@pytest.mark.parametrize("place", ["beside", "above"])
def test_pictures_by_path_are_read_from_their_files(tmp_path, column, place):
    home = tmp_path / "set"
    (home / "data").mkdir(parents=True)
    pictures = home / ("data" if place == "beside" else "") / "images"
    pictures.mkdir()
    rows = []
    for number, (image, captions) in enumerate(PAIRS):
        (pictures / f"{number}.png").write_bytes(encoded(image))
        path = f"images\\{number}.png" if number == 2 else f"images/{number}.png"
        inside = column == "mixed" and number % 2 == 0
        value = path if column == "path" else {"bytes": encoded(image) if inside else None, "path": path}
        rows.append({"image": value, "caption": captions})
    rows.append({**rows[0], "image": "images/no.png" if column == "path" else {"bytes": None, "path": "images/no.png"}})
    kind = pa.string() if column == "path" else PICTURE
    schema = pa.schema([("image", kind), ("caption", pa.list_(pa.string()))])
    pq.write_table(pa.Table.from_pylist(rows, schema), home / "data" / "val-00000-of-00001.parquet")
    pairs = load_pairs(home)
    checked(pairs, range(4))
    assert pairs.defects.count("picture missing") == 1


def test_other_columns_are_named_where_they_are_not_known(tmp_path):
    pq.write_table(pa.table({"pixels": [b"x"], "label": ["y"]}), tmp_path / "val.parquet")
    with pytest.raises(DataError, match="columns label, pixels; expected image and answer"):
        load_pairs(tmp_path)


def write_saved(folder, pairs, *, split="train", kind=PICTURE):
    """What Dataset.save_to_disk writes: an Arrow stream and the state that names it."""
    folder.mkdir(parents=True)
    rows = [{"image": {"bytes": encoded(image), "path": None}, "caption": texts} for image, texts in pairs]
    table = pa.Table.from_pylist(rows, pa.schema([("image", kind), ("caption", pa.list_(pa.string()))]))
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table, max_chunksize=3)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split, "_fingerprint": "0"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def test_a_folder_of_save_to_disk_is_read_in_place(tmp_path):
    write_saved(tmp_path / "one", PAIRS)
    assert pair_format(tmp_path / "one") == "save_to_disk folder"
    pairs = load_pairs(tmp_path / "one", check=True)
    checked(pairs, range(4))
    assert pairs.split == "train"


def test_a_dictionary_of_save_to_disk_has_splits(tmp_path):
    write_saved(tmp_path / "set" / "train", PAIRS[:3])
    write_saved(tmp_path / "set" / "validation", PAIRS[3:], split="validation")
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    assert load_pairs(tmp_path / "set").n_pairs == 4
    checked(load_pairs(tmp_path / "set", split="val"), [3])


def test_rows_that_were_only_chosen_are_refused(tmp_path):
    write_saved(tmp_path / "set", PAIRS)
    state = json.loads((tmp_path / "set" / "state.json").read_text())
    (tmp_path / "set" / "state.json").write_text(json.dumps({**state, "_indices_files": [{"filename": "i.arrow"}]}))
    with pytest.raises(DataError, match=r"flatten_indices\(\)"):
        load_pairs(tmp_path / "set")


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            tar.addfile(facts, io.BytesIO(data))
    return path


def members(pairs, first=0, ending="json"):
    found = []
    for number, (image, captions) in enumerate(pairs, first):
        text = json.dumps({"caption": captions, "url": "x"}) if ending == "json" else captions[0]
        found += [(f"./{number:05d}.png", encoded(image)), (f"./{number:05d}.{ending}", text.encode())]
    return found


def test_webdataset_shards_are_read_in_place(tmp_path):
    write_tar(tmp_path / "toy-train-0000.tar", members(PAIRS[:3]))
    write_tar(tmp_path / "toy-train-0001.tar", members(PAIRS[3:]))
    write_tar(tmp_path / "toy-val-0000.tar", members(PAIRS[:1], ending="txt"))
    assert pair_format(tmp_path) == "WebDataset"
    checked(load_pairs(tmp_path, split="train", check=True), range(4))
    val = load_pairs(tmp_path, split="validation")
    assert [sample.text for sample in val.samples] == ["", "caption 0 a"]
    assert val.samples[0].sample_id == "val/toy-val-0000/00000"
    assert load_pairs(tmp_path / "toy-val-0000.tar").n_pairs == 1


def test_what_a_shard_lacks_is_counted(tmp_path):
    odd = [
        ("a.txt", b"no picture"), ("b.png", encoded(solid(1, 1, 1))), ("c.png", b""), ("c.txt", b"c"),
        ("._d.png", b"litter"), ("e.png", encoded(solid(2, 2, 2))), ("e.json", b"{"), ("f.left.png", encoded(PAIRS[0][0])),
        ("f.right.png", b"x"), ("f.cls", b"3"), ("f.txt", b"fine"),
    ]  # fmt: skip
    write_tar(tmp_path / "a.tar", odd)
    whole = write_tar(tmp_path / "b.tar", members(PAIRS[:2])).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "c.tar").write_bytes(b"no tar at all")
    pairs = load_pairs(tmp_path)
    assert {"fine"} <= {sample.text for sample in pairs.samples}
    lines = "\n".join(pairs.defects.lines())
    for words in (
        "1 x picture missing, first: a/a", "picture without a caption, first: a/b", "1 x picture of 0 bytes, first: a/c",
        "1 x unreadable JSON in a tar shard, first: a/e", "1 x second picture of one name",
        "unreadable tar shard, first: c.tar",
    ):  # fmt: skip
        assert words in lines


def test_compressed_shards_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.tar\.gz is compressed.*unpack"):
        load_pairs(tmp_path)
