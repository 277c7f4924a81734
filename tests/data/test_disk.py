"""Reading at the edge: what is a caption, what changes a fingerprint."""

import pytest

from analysis.data.disk import clean_text, fingerprint, read_json
from analysis.data.names import listing, subfolders
from analysis.errors import DataError


@pytest.mark.parametrize("value", [None, float("nan"), 3, "", " \n\t", "nan", "NaN", ["a"]])
def test_what_is_no_caption_is_empty(value):
    assert clean_text(value) == ""


def test_captions_are_stripped_and_encodable():
    assert clean_text("  ein Hündchen \n") == "ein Hündchen"
    broken = clean_text("half a pair: \ud83d")
    assert broken.encode("utf-8")
    assert broken.startswith("half a pair: ")
    assert clean_text("banana") == "banana"


def test_a_fingerprint_depends_on_every_part_and_its_place():
    prints = {fingerprint(parts) for parts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab"], ["ab", "c", ""])}
    assert len(prints) == 5
    assert fingerprint(["ab", b"c"]) == fingerprint(iter(["ab", "c"]))


def test_bad_json_is_named(tmp_path):
    path = tmp_path / "captions_x.json"
    with pytest.raises(DataError, match=r"captions_x\.json could not be read"):
        read_json(path)
    for content in (b'{"images": [', b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"captions_x\.json is not valid JSON"):
            read_json(path)


def test_listing_and_subfolders(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "x.jpg").write_bytes(b"123")
    assert listing(tmp_path) == {"x.jpg": 3}
    assert [folder.name for folder in subfolders(tmp_path)] == ["a", "b"]
    assert listing(tmp_path / "none") == {}
    assert subfolders(tmp_path / "none") == []
