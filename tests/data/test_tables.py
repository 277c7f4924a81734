"""Caption tables in the dialects that people have: read whole, or left out with their line named."""

import json

import pytest

from analysis.data.folder import load_folder
from analysis.errors import DataError
from tests.data.writers import encoded, solid


@pytest.fixture
def pictures(tmp_path):
    """Four pictures a.jpg ... d.jpg in images/."""
    (tmp_path / "images").mkdir()
    for number, name in enumerate("abcd"):
        (tmp_path / "images" / f"{name}.jpg").write_bytes(encoded(solid(40 * number, 0, 0), "JPEG"))
    return tmp_path


def captions(folder, table, name="captions.csv"):
    """(file -> captions, defects) of a table written as bytes or text."""
    (folder / name).write_bytes(table if isinstance(table, bytes) else table.encode())
    pairs = load_folder(folder)
    found = {}
    for sample in pairs.samples:
        if sample.modality == "text":
            found.setdefault(sample.source, []).append(sample.text)
    return found, [line for line in pairs.defects.lines() if "without a caption" not in line]


RIGHT = {"a.jpg": ["a red circle, flat"], "b.jpg": ["a blue square"]}


@pytest.mark.parametrize(
    "table",
    [
        'file,caption\na.jpg,"a red circle, flat"\nb.jpg,a blue square\n',
        "sep=;\nfile;caption\na.jpg;a red circle, flat\nb.jpg;a blue square\n",
        '"sep=|"\r\nfile|caption\r\na.jpg|a red circle, flat\r\nb.jpg|a blue square\r\n',
        "\ufefffile;caption\na.jpg;a red circle, flat\nb.jpg;a blue square\n",
        "file\tcaption\na.jpg\ta red circle, flat\nb.jpg\ta blue square\n",
        "file|caption\na.jpg|a red circle, flat\nb.jpg|a blue square\n",
        "image_name| comment_number| comment\na.jpg| 0| a red circle, flat\nb.jpg| 0|  a blue square\n",
        'image,caption\r\na.jpg,"a red circle, flat"\r\nb.jpg,a blue square\r\n',
        'file_name,text\na.jpg,"a red circle, flat"\nb.jpg,a blue square\n',
        'file,caption\ra.jpg,"a red circle, flat"\rb.jpg,a blue square\r',
        "file\tcaption\na.jpg\ta red circle, flat\nb.jpg\ta blue square\n".encode("utf-16"),
        'raw,filename,split\n"[""a red circle, flat""]",a.jpg,test\n"[\'a blue square\']",b.jpg,val\n',
        "\n\nfile,caption\n\na.jpg,\"a red circle, flat\"\n\nb.jpg,a blue square\n\x1a",
    ],
)  # fmt: skip
def test_dialects_of_one_table(pictures, table):
    assert captions(pictures, table) == (RIGHT, [])


@pytest.mark.parametrize(
    "table",
    [
        "file\tcaption\na.jpg\ta red circle, flat\nb.jpg\ta blue square\n".encode("utf-16-le"),
        "file\tcaption\na.jpg\ta red circle, flat\nb.jpg\ta blue square\n".encode("utf-16-be"),
        b"# captions of 2024\nfile;caption\na.jpg;a red circle, flat\nb.jpg;a blue square\n",
    ],
    ids=["UTF-16 without its mark", "the other byte order", "a remark before the header"],
)
def test_dialects_that_a_header_alone_does_not_show(pictures, table):
    assert captions(pictures, table) == (RIGHT, [])


def test_quotation_marks_behind_backslashes_are_read(pictures):
    table = 'file,caption\na.jpg,"he said \\"hi, you\\" there"\nb.jpg,a \\ b\n'
    assert captions(pictures, table) == ({"a.jpg": ['he said "hi, you" there'], "b.jpg": ["a \\ b"]}, [])


def test_names_without_their_ending_or_with_escapes_are_found_and_said(pictures):
    (pictures / "images" / "c d.jpg").write_bytes(encoded(solid(9, 9, 9), "JPEG"))
    found, defects = captions(pictures, "file,caption\na,red\nc%20d.jpg,dark\nIMAGES/b.jpg,blue\nx/images/d.jpg,grey\n")
    assert sorted(found.values()) == [["blue"], ["dark"], ["grey"], ["red"]]
    assert defects == ["4 x file name in another spelling (used), first: a for a.jpg"]


def test_a_name_without_its_ending_that_two_pictures_have_is_missing(pictures):
    (pictures / "images" / "a.png").write_bytes(encoded(solid(9, 9, 9)))
    found, defects = captions(pictures, "file,caption\na,red\nb.jpg,blue\n")
    assert found == {"b.jpg": ["blue"]}
    assert defects == ["1 x picture missing, first: a (2 pictures are called so but for their ending: a.jpg, a.png)"]


@pytest.mark.parametrize("caption", ["\u200b", "\u200e \u200f", "\ufeff"])
def test_a_caption_without_a_visible_character_is_empty(pictures, caption):
    found, defects = captions(pictures, f"file,caption\na.jpg,{caption}\nb.jpg,blue\n")
    assert (found, defects) == ({"b.jpg": ["blue"]}, ["1 x empty caption, first: captions.csv line 2"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.jsonl", '[{"file": "a.jpg", "caption": "red"}, {"file": "b.jpg", "caption": "blue"}]'),
        ("captions.json", '{"file": "a.jpg", "caption": "red"}\n{"file": "b.jpg", "caption": "blue"}\n'),
        ("captions.jsonl", '{"file": "a.jpg", "caption": "red"},\n{"file": "b.jpg", "caption": "blue"},\n'),
        ("captions.json", '{"a.jpg": "red", "b.jpg": ["blue"]}'),
        ("captions.json", '{"data": [{"file": "a.jpg", "caption": "red"}, {"file": "b.jpg", "caption": "blue"}]}'),
    ],
)  # fmt: skip
def test_json_is_read_by_what_it_holds_not_by_its_ending(pictures, name, content):
    assert captions(pictures, content, name) == ({"a.jpg": ["red"], "b.jpg": ["blue"]}, [])


def test_an_object_of_one_line_is_a_record(pictures):
    talk = '{"image": "a.jpg", "conversations": [{"from": "human", "value": "?"}]}'
    with pytest.raises(DataError, match="has the keys image, conversations; expected file and caption"):
        captions(pictures, talk, "captions.jsonl")


@pytest.mark.parametrize(
    "table",
    [
        "file,caption\na.jpg,a red circle, flat\nb.jpg,a blue square\n",
        "caption,file\na red circle, flat,a.jpg\na blue square,b.jpg\n",
        "id,file,caption\n1,a.jpg,a red circle, flat\n2,b.jpg,a blue square\n",
    ],
)
def test_captions_with_unquoted_commas_are_whole_and_counted(pictures, table):
    assert captions(pictures, table) == (
        RIGHT,
        ["1 x caption with unquoted delimiters (read whole), first: captions.csv line 2"],
    )


def test_where_two_columns_could_hold_the_comma_the_line_is_left_out(pictures):
    found, defects = captions(pictures, "file,caption,note\na.jpg,one, two,x\nb.jpg,a blue square,y\n")
    assert found == {"b.jpg": ["a blue square"]}
    assert defects == ["1 x unreadable line, first: captions.csv line 2 (more columns than the header)"]


def test_a_stray_quote_costs_its_own_line_and_is_named_by_its_own_number(pictures):
    table = 'file,caption\na.jpg,"never closed\nb.jpg,fine\nc.jpg,"also "inside" it"\nd.jpg,a 5" disk\n'
    found, defects = captions(pictures, table)
    assert found == {"b.jpg": ["fine"], "d.jpg": ['a 5" disk']}
    assert defects == [
        "2 x unreadable line, first: captions.csv line 2 (a quotation mark that is not closed, or stands inside)"
    ]


def test_a_quoted_caption_may_run_over_lines(pictures):
    found, defects = captions(pictures, 'file,caption\na.jpg,"one\ntwo, three"\nb.jpg,\nc.jpg,four\n')
    assert found == {"a.jpg": ["one\ntwo, three"], "c.jpg": ["four"]}
    assert defects == ["1 x empty caption, first: captions.csv line 4"]


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x85", "\x9f"])
def test_control_characters_are_replaced_and_counted(pictures, character):
    found, defects = captions(pictures, f"file,caption\na.jpg,red{character}circle\nb.jpg,a\u2028line\n")
    assert found == {"a.jpg": ["red circle"], "b.jpg": ["a\u2028line"]}
    assert defects == ["1 x caption with control characters (replaced by spaces), first: captions.csv line 2"]


def test_a_table_without_a_header_is_read_and_said(pictures):
    found, defects = captions(pictures, "a.jpg#0\ta red circle, flat\na.jpg#1\tred\nb.jpg#0\tblue\n", "captions.txt")
    assert found == {"a.jpg": ["a red circle, flat", "red"], "b.jpg": ["blue"]}
    assert defects == [
        "1 x table without a header (first column read as file, the rest as caption), first: captions.txt"
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"file": "a.jpg", "caption": ["one", "two", "three"]},
        {"image": "images/a.jpg", "captions": ["one", "two", "three"]},
        {"file_name": "a.jpg", "text": ["one", "two", "three"]},
        {"filename": "a.jpg", "sentences": [{"raw": "one"}, {"raw": "two"}, {"raw": "three"}]},
        {"image": {"path": "a.jpg", "bytes": None}, "caption": '["one", "two", "three"]'},
        {"File": "a.jpg", "Caption": ["one", "two", "three"]},
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_json_with_lists_and_other_names(pictures, record, kind):
    content = json.dumps(record) if kind == "jsonl" else json.dumps([record])
    (found,), defects = captions(pictures, content, f"captions.{kind}")[0].values(), []
    assert (found, defects) == (["one", "two", "three"], [])


def test_what_is_no_caption_in_a_list_is_counted(pictures):
    record = {"file": "a.jpg", "caption": ["one", None, 3, "", "one", "two"]}
    found, defects = captions(pictures, json.dumps(record), "captions.jsonl")
    assert found == {"a.jpg": ["one", "two"]}
    assert defects == [
        "1 x duplicate caption, first: captions.jsonl line 1",
        "3 x empty caption, first: captions.jsonl line 1",
    ]


@pytest.mark.parametrize(
    ("name", "table", "words"),
    [
        ("captions.csv", "url,label\na.jpg,x\n", "columns url, label; expected file and caption"),
        ("captions.jsonl", '{"url": "a.jpg", "label": "x"}\n', "keys url, label; expected file and caption"),
        ("captions.csv", "file,title,text\na.jpg,x,y\n", r"several columns .*: text, title; rename"),
        ("captions.csv", b"file,caption\na.jpg,caf\xe9\n", "line 2 is not UTF-8"),
        ("captions.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2000000\n", "2.0 MB.*git lfs pull"),
        ("captions.json", '"a.jpg"', "holds str; expected objects with file and caption"),
    ],
)  # fmt: skip
def test_what_is_no_table_names_what_was_found(pictures, name, table, words):
    with pytest.raises(DataError, match=words):
        captions(pictures, table, name)


def test_splits_may_stand_in_a_column(pictures):
    (pictures / "captions.csv").write_text("file,caption,split\na.jpg,one,train\nb.jpg,two,val\nc.jpg,three,val\n")
    assert load_folder(pictures, split="validation").n_pairs == 2
    assert load_folder(pictures).split == "train+val"
    with pytest.raises(DataError, match="no split 'test'; found train, val"):
        load_folder(pictures, split="test")
