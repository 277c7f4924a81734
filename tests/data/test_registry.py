"""Names and paths lead to the right loader, or to one sentence that says what to do."""

import subprocess
import sys

import pytest

from analysis.data.registry import find_retrieval_tasks, load_pairs, load_retrieval, pair_format, resolve
from analysis.errors import DataError
from tests.data.writers import (
    Item,
    encoded,
    solid,
    write_coco_json,
    write_coco_parquet,
    write_mbeir_jsonl,
    write_mbeir_parquet,
    write_plain_folder,
)

PAIRS = [(solid(10 * i, 0, 0), [f"caption {i} a", f"caption {i} b"]) for i in range(6)]
TEXTS = [Item(f"8:{i}", f"text {i}") for i in range(4)]
PICTURES = [Item(f"8:{i}", None, solid(i, 0, 0)) for i in range(4)]
BOTH = [Item(f"8:{i}", f"text {i}", solid(i, 0, 0)) for i in range(4)]
QRELS = [(f"8:{i}", f"8:{3 - i}") for i in range(4)]


@pytest.mark.parametrize("write", [write_coco_json, write_coco_parquet, write_plain_folder])
def test_one_content_in_every_format(tmp_path, write):
    write(tmp_path / "pets", PAIRS)
    pairs = load_pairs(tmp_path / "pets", limit=4, check=True)
    assert pair_format(tmp_path / "pets") is not None
    assert (pairs.name, pairs.n_pairs) == ("pets", 4)
    for image in (sample for sample in pairs.samples if sample.modality == "image"):
        number = image.picture.load().getpixel((0, 0))[0] // 10
        texts = [s.text for s in pairs.samples if s.pair_id == image.pair_id and s.modality == "text"]
        assert texts == [f"caption {number} a", f"caption {number} b"]


def test_known_names_lie_in_the_cache(tmp_path):
    write_coco_json(tmp_path / "datasets" / "emoji-scenes", PAIRS)
    assert load_pairs("emoji-scenes", cache=tmp_path).n_pairs == 6
    assert load_retrieval("emoji-scenes", task="t2i", cache=tmp_path).task == "t2i"
    with pytest.raises(DataError, match="did you mean 'emoji-scenes'"):
        load_pairs("emoji-scene", cache=tmp_path)


def test_names_and_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(DataError, match=r"not built yet: run `.venv/bin/python -m analysis demo`"):
        resolve("emoji-scenes", cache=tmp_path)
    with pytest.raises(DataError, match="neither a file or folder nor a known dataset; known names are emoji-scenes"):
        resolve("/no/such/place", cache=tmp_path)
    for odd in ("a\0b", "~nobody/x", "x" * 5000):
        with pytest.raises(DataError, match="neither a file or folder"):
            resolve(odd, cache=tmp_path)
    with pytest.raises(DataError, match="name is empty"):
        resolve(" ", cache=tmp_path)


def test_folders_without_pairs_say_what_was_found(tmp_path):
    with pytest.raises(DataError, match="holds no dataset that can be read; expected annotations/captions"):
        load_pairs(tmp_path)
    (tmp_path / "a.png").write_bytes(encoded(solid(1, 2, 3)))
    with pytest.raises(DataError, match=r"holds 1 pictures but no captions; add captions\.csv"):
        load_pairs(tmp_path)
    with pytest.raises(DataError, match=r"a\.png is no caption file"):
        load_pairs(tmp_path / "a.png")
    write_mbeir_parquet(tmp_path / "mbeir_x_task1", TEXTS, PICTURES, QRELS)
    with pytest.raises(DataError, match="holds retrieval tasks but no image-caption pairs"):
        load_pairs(tmp_path)


@pytest.fixture
def mixed(tmp_path):
    """Pairs, three parquet tasks and an M-BEIR tree in one folder."""
    write_coco_json(tmp_path, PAIRS)
    write_mbeir_parquet(tmp_path / "mbeir" / "toy_task7", BOTH, PICTURES, QRELS)
    write_mbeir_parquet(tmp_path / "mbeir" / "toy_task5", PICTURES, PICTURES, QRELS)
    write_mbeir_parquet(tmp_path / "mbeir" / "other_task5", PICTURES, PICTURES, QRELS)
    write_mbeir_jsonl(tmp_path / "published", "mbeir_toy_task1", TEXTS, TEXTS, QRELS)
    return tmp_path


def test_a_folder_may_hold_pairs_and_tasks(mixed):
    assert load_pairs(mixed).n_pairs == 6
    places = find_retrieval_tasks(mixed)
    assert [(place.name, place.task, place.layout) for place in places] == [
        ("other_task5", "i2i", "parquet"),
        ("toy_task5", "i2i", "parquet"),
        ("toy_task7", "it2i", "parquet"),
        ("mbeir_toy_task1", "t2t", "jsonl"),
    ]
    for place in places:
        task = load_retrieval(place.path, task=place.task)
        assert (task.name, task.task) == (place.name, place.task)
        assert find_retrieval_tasks(place.path) == [place]


def test_tasks_are_chosen_by_code_or_name(mixed):
    assert load_retrieval(mixed, task="it2i").name == "toy_task7"
    assert load_retrieval(mixed, task="other_task5").task == "i2i"
    assert load_retrieval(mixed, task="mbeir_toy_task1", limit_queries=2).qrels.shape == (2, 4)
    assert load_retrieval(mixed, task="i2t", limit_queries=2).qrels.shape == (2, 12)  # from the pairs
    with pytest.raises(DataError, match=r"2 tasks that fit: other_task5 \(i2i\), toy_task5 \(i2i\); name one"):
        load_retrieval(mixed, task="i2i")
    with pytest.raises(DataError, match="holds 4 tasks that fit"):
        load_retrieval(mixed)
    with pytest.raises(DataError, match=r"holds no it2it task, only other_task5 \(i2i\)"):
        load_retrieval(mixed, task="it2it")
    with pytest.raises(DataError, match="'toy_task8' is no retrieval task; did you mean 'toy_task"):
        load_retrieval(mixed, task="toy_task8")


def test_a_folder_without_tasks_has_none(tmp_path):
    write_plain_folder(tmp_path, PAIRS)
    assert find_retrieval_tasks(tmp_path) == []
    with pytest.raises(DataError, match="holds no retrieval task; expected folders with query-"):
        load_retrieval(tmp_path)


def test_loading_imports_no_deep_learning():
    code = (
        "import sys, analysis.data.registry; print(sorted({'torch', 'transformers', 'streamlit'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("files", "next_step"),
    [
        (["images/a.jpg", "train.csv"], "give the file, .*train.csv, or call it captions.csv"),
        (
            ["annotations/captions_val2017.json.gz", "val2017/a.jpg"],
            "captions_val2017.json.gz, which is packed; unpack it",
        ),
        (["data.zip"], "data.zip, which is packed"),
        (["train/cat/a.jpg", "train/dog/b.jpg"], r"holds pictures \(in train.cat\) but no table of captions"),
        (["inner/captions.csv", "inner/a.jpg"], "its folder inner does; give .*inner"),
    ],
)
def test_a_folder_that_is_nearly_a_data_set_gets_its_next_step(tmp_path, files, next_step):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = "file,caption\na.jpg,red\n"
        (tmp_path / name).write_bytes(encoded(solid(1, 2, 3), "JPEG") if name.endswith("jpg") else text.encode())
    with pytest.raises(DataError, match=next_step):
        load_pairs(tmp_path)


def test_pictures_that_lie_packed_beside_their_captions_are_named(tmp_path):
    write_coco_json(tmp_path, [(None, ["red"])])
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"1 x picture missing.*images.zip lies there packed: unpack it"):
        load_pairs(tmp_path)
