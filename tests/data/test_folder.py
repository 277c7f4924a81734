"""A plain folder of pictures with captions.csv or captions.jsonl."""

import pytest

from analysis.data.folder import find_tables, load_folder
from analysis.errors import DataError
from tests.data.writers import encoded, solid, write_plain_folder

PAIRS = [(solid(10 * i, 0, 9), [f"caption {i}, first", f'caption {i} "second"']) for i in range(5)]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_several_lines_may_name_one_picture(tmp_path, kind):
    write_plain_folder(tmp_path, PAIRS, kind=kind)
    pairs = load_folder(tmp_path)
    assert (pairs.n_pairs, len(pairs.samples), pairs.defects.lines()) == (5, 15, [])
    assert [sample.sample_id for sample in pairs.samples[:3]] == ["0.png", "0.png#0", "0.png#1"]
    assert pairs.samples[2].text == 'caption 0 "second"'
    assert pairs.samples[3].picture.load().getpixel((0, 0)) == (10, 0, 9)
    assert load_folder(tmp_path / f"captions.{kind}").samples == pairs.samples


@pytest.mark.parametrize(
    "table",
    [
        "file,caption\ncats/a.png,A cat\n",
        "\ufefffile;caption\ncats/a.png;A cat\n",
        "File,\tCaption,note\r\ncats\\a.png, A cat,x\r\n",
        'caption,file\n"A cat",cats/a.png\n',
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path, table):
    (tmp_path / "images" / "cats").mkdir(parents=True)
    (tmp_path / "images" / "cats" / "a.png").write_bytes(encoded(solid(1, 2, 3)))
    (tmp_path / "captions.csv").write_bytes(table.encode())
    pairs = load_folder(tmp_path)
    assert [sample.text for sample in pairs.samples] == ["", "A cat"]
    assert pairs.samples[0].sample_id == "cats/a.png"


def test_defects_are_counted_and_named(tmp_path):
    write_plain_folder(tmp_path, PAIRS)
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "spare.png").write_bytes(encoded(solid(1, 2, 3)))
    with (tmp_path / "captions.csv").open("a") as file:
        file.write(',"no file"\n4.png,\n4.png,nan\n"4.png","caption 4, first"\n3.png\n')
    pairs = load_folder(tmp_path)
    assert [s.sample_id for s in pairs.samples if s.modality == "image"] == ["0.png", "3.png", "4.png"]
    assert pairs.defects.lines() == [
        "1 x duplicate caption, first: captions.csv line 15",
        "3 x empty caption, first: captions.csv line 13",
        "1 x line without a file, first: captions.csv line 12",
        "1 x picture missing, first: 1.png",
        "1 x picture of 0 bytes, first: 2.png",
        "1 x picture without a caption, first: spare.png",
    ]


def test_unreadable_json_lines_are_counted(tmp_path):
    write_plain_folder(tmp_path, PAIRS, kind="jsonl")
    with (tmp_path / "captions.jsonl").open("a") as file:
        file.write('{"file": "0.png"\n\n["0.png", "a"]\n{"file": "0.png", "caption": NaN}\n')
    pairs = load_folder(tmp_path)
    assert pairs.n_pairs == 5
    assert pairs.defects.lines() == [
        "1 x empty caption, first: captions.jsonl line 14",
        "2 x unreadable line, first: captions.jsonl line 11",
    ]


def test_stray_quotes_are_counted_and_cost_no_other_line(tmp_path):
    write_plain_folder(tmp_path, PAIRS)
    with (tmp_path / "captions.csv").open("a") as file:
        file.write('0.png,"a "quoted" word"\n1.png,"' + "long " * 40_000 + '"\n2.png,"never closed\n')
    pairs = load_folder(tmp_path)
    assert len(pairs.samples) == 16
    assert max(len(sample.text) for sample in pairs.samples) == 5 * 40_000 - 1
    assert pairs.defects.count("unreadable line") == 2


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"url,label\na.png,hello\n", "has the columns url, label; expected file and caption"),
        (b"", "has the columns none"),
        (b"file,caption\n", "it is empty"),
        ("file,caption\na.png,é\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_tables_of_another_kind_are_refused(tmp_path, table, words):
    (tmp_path / "captions.csv").write_bytes(table)
    with pytest.raises(DataError, match=words):
        load_folder(tmp_path)


def test_a_plain_folder_has_no_splits(tmp_path):
    write_plain_folder(tmp_path, PAIRS)
    with pytest.raises(DataError, match="without splits"):
        load_folder(tmp_path, split="train")
    assert find_tables(tmp_path / "none") == []


def test_the_revision_follows_captions_and_sizes(tmp_path):
    write_plain_folder(tmp_path, PAIRS)
    first = load_folder(tmp_path).revision
    write_plain_folder(tmp_path, [*PAIRS[:4], (PAIRS[4][0], ["other", "words"])])
    second = load_folder(tmp_path).revision
    (tmp_path / "0.png").write_bytes(encoded(solid(0, 0, 0, size=(99, 99))))
    assert len({first, second, load_folder(tmp_path).revision}) == 3
