"""Files are found under the name that was meant, whoever wrote it, and nothing else is taken for it."""

import os
import unicodedata

import pytest

from analysis.data.defects import Defects, printable
from analysis.data.folder import load_folder
from analysis.data.names import Finder, files_of, is_litter, listing, subfolders
from analysis.data.registry import find_retrieval_tasks, load_pairs
from analysis.errors import DataError
from tests.data.writers import Item, encoded, solid, write_coco_json, write_mbeir_jsonl

PNG = encoded(solid(1, 2, 3))


def folder_of(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    return root


def found(root, *names):
    """(name asked for -> file below root, defects)."""
    defects = Defects()
    hits = Finder([root, root / "images"], defects).find_all(list(names))
    return {name: path.relative_to(root).as_posix() for name, (path, _) in hits.items()}, defects.lines()


def nfd(text):
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("on_disk", "asked"),
    [
        ("images/a.png", "a.png"),
        ("images/a.png", "./a.png"),
        ("sub/a.png", "sub\\a.png"),
        (nfd("images/café.png"), "café.png"),
        ("images/café.png", nfd("café.png")),
        (nfd("Übung/señal.png"), "Übung/señal.png"),
        ("a b #1 100%.png", "a b #1 100%.png"),
        ("back\\slash.png", "back\\slash.png"),
    ],
)
def test_one_name_in_several_spellings(tmp_path, on_disk, asked):
    folder_of(tmp_path, on_disk)
    assert found(tmp_path, asked) == ({asked: on_disk}, [])


@pytest.mark.parametrize(
    ("on_disk", "asked"),
    [
        ("images/a.JPG", "A.jpg"),
        ("val2017/a.png", "/home/me/coco/val2017/a.png"),
        ("val2017/a.png", "C:\\Users\\me\\val2017\\a.png"),
        ("val2017/a b.png", "http://images.test/val2017/a%20b.png"),
    ],
)
def test_a_name_that_had_to_be_guessed_is_counted(tmp_path, on_disk, asked):
    folder_of(tmp_path, on_disk)
    hits, defects = found(tmp_path, asked)
    assert hits == {asked: on_disk}
    assert defects == [f"1 x file name in another spelling (used), first: {asked} for {os.path.basename(on_disk)}"]


def test_names_that_differ_in_case_only_are_two_names(tmp_path):
    folder_of(tmp_path, "A.png", "a.png")
    assert found(tmp_path, "A.png", "a.png") == ({"A.png": "A.png", "a.png": "a.png"}, [])


def test_a_file_that_another_line_names_is_not_taken_for_a_second_name(tmp_path):
    folder_of(tmp_path, "a.png")
    hits, defects = found(tmp_path, "A.png", "a.png")
    assert hits == {"a.png": "a.png"}
    assert defects == ["1 x picture missing, first: A.png (only a.png lies there, which another line names)"]


def test_a_name_that_fits_two_files_is_not_guessed(tmp_path):
    folder_of(tmp_path, "cat.png", "Cat.png")
    hits, defects = found(tmp_path, "CAT.png")
    assert hits == {}
    assert "2 files differ from it in case only: Cat.png, cat.png" in defects[0]


def test_a_relative_name_never_loses_its_folder(tmp_path):
    folder_of(tmp_path, "val2017/1.png", "images/1.png")
    assert found(tmp_path, "train2017/1.png") == ({}, ["1 x picture missing, first: train2017/1.png"])


def test_two_spellings_of_one_file_are_one_picture(tmp_path):
    folder_of(tmp_path, nfd("café.png"))
    (tmp_path / "captions.csv").write_text(f"file,caption\ncafé.png,one\n{nfd('café.png')},two\n", encoding="utf-8")
    pairs = load_folder(tmp_path)
    assert [sample.text for sample in pairs.samples] == ["", "one", "two"]
    assert pairs.defects.lines() == []


def test_names_that_are_no_utf8_are_found_and_printable(tmp_path):
    raw = b"caf\xe9.png"
    with open(os.path.join(os.fsencode(tmp_path), raw), "wb") as file:
        file.write(PNG)
    (tmp_path / "captions.csv").write_bytes(b"file,caption\n" + raw + b",one\n")
    pairs = load_folder(tmp_path)
    assert pairs.samples[0].sample_id == "caf\\xe9.png"
    assert pairs.samples[0].picture.load().size == (12, 10)
    (tmp_path / "captions.csv").write_text("file,caption\ncafé.png,one\n", encoding="utf-8")
    assert load_folder(tmp_path).n_pairs == 1  # the same name, as a Western Windows meant it
    assert printable(os.fsdecode(raw)).encode()


LITTER = ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini")


def test_what_systems_leave_behind_is_no_data(tmp_path):
    write_coco_json(tmp_path, [(solid(9, 9, 9), ["one"])], split="val2017", folder="val2017")
    for name in LITTER:
        (tmp_path / "val2017" / name).write_bytes(b"\0\5\x16\7 of another kind")
    (tmp_path / "annotations" / "._captions_val2017.json").write_bytes(b"\0\5\x16\7")
    for name in ("@eaDir", "__MACOSX"):
        folder_of(tmp_path, f"{name}/query/x.png", f"{name}/cand_pool/x.png")
    pairs = load_pairs(tmp_path)
    assert (pairs.n_pairs, pairs.defects.lines()) == (1, [])
    assert all(map(is_litter, (*LITTER, "@eaDir")))
    assert [folder.name for folder in subfolders(tmp_path)] == ["annotations", "val2017"]
    assert files_of(tmp_path / "annotations", suffix=".json") == [tmp_path / "annotations" / "captions_val2017.json"]


def test_twins_of_macos_are_no_tasks(tmp_path):
    items = [Item(f"9:{i}", f"text {i}") for i in range(3)]
    file = write_mbeir_jsonl(tmp_path, "mbeir_toy_task1", items, items, [(i.id, i.id) for i in items])
    file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
    assert [place.name for place in find_retrieval_tasks(tmp_path)] == ["mbeir_toy_task1"]


def test_links_are_followed_and_dead_ones_named(tmp_path):
    folder_of(tmp_path / "elsewhere", "a.png")
    root = tmp_path / "data"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "elsewhere")
    (root / "b.png").symlink_to(tmp_path / "nothing")
    (root / "loop").symlink_to(root / "loop")
    assert found(root, "a.png", "b.png") == (
        {"a.png": "images/a.png"},
        ["1 x picture missing, first: b.png (a symbolic link that leads nowhere)"],
    )
    assert listing(root) == {}


def test_a_folder_that_may_not_be_opened_is_one_sentence(tmp_path, monkeypatch):
    """Refused as the system would refuse it to a user; the tests may run as one who may do everything."""
    folder_of(tmp_path, "images/a.png", "private/b.png")
    (tmp_path / "captions.csv").write_text("file,caption\na.png,one\n")
    scan, may = os.scandir, os.access

    def refuse(name):
        def scandir(path):
            if os.path.basename(path) == name:
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", scandir)
        monkeypatch.setattr(os, "access", lambda path, mode: os.path.basename(path) != name and may(path, mode))

    refuse("images")
    with pytest.raises(DataError, match=r"folder images could not be read \(Permission denied\).*permissions"):
        load_pairs(tmp_path)
    refuse("private")
    assert load_pairs(tmp_path).n_pairs == 1
    assert find_retrieval_tasks(tmp_path) == []


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000 + "/a.png", "", " ", "../a.png", "/", "C:\\"])
def test_names_that_cannot_be_are_missing(tmp_path, name):
    folder_of(tmp_path, "b.png")
    assert found(tmp_path, name)[0] == {}
