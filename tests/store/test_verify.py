"""`verify` passes a sound store and names what is wrong with any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.store import open_store, verify
from tests.store.tamper import copy_of, edit_manifest, replace_array, table
from tests.synthetic_store import make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cache"), tokens=True)


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    return copy_of(path, tmp_path / "cache")


def problems(path: Path) -> str:
    report = verify(path)
    assert not report.ok
    return " / ".join(report.problems)


def test_sound_store_passes_every_check(path: Path) -> None:
    report = verify(path)
    assert report.ok
    assert len(report.checks) >= 9
    assert report.problems == []


@pytest.mark.parametrize("name", ["codes/values.npy", "postings/rows.npy", "embeddings/last.npy"])
def test_one_changed_byte_is_found(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[-3] ^= 1
    (copy / name).write_bytes(data)
    assert f"altered: {name}" in problems(copy)


def test_truncated_store_does_not_open(copy: Path) -> None:
    table(copy, "concepts.parquet").write_bytes(b"PAR1")
    assert "concepts.parquet" in problems(copy)


def test_other_schema_does_not_open(copy: Path) -> None:
    edit_manifest(copy, schema=0)
    assert "schema 0" in problems(copy)


def test_folder_name_must_be_the_hash_of_the_configuration(copy: Path) -> None:
    renamed = copy.with_name("synthetic-000000000000")
    copy.rename(renamed)
    assert "configuration hashes to" in problems(renamed)


def test_changed_configuration_is_found(copy: Path) -> None:
    config = open_store(copy).config
    edit_manifest(copy, config={**config, "prompts": "others"})
    assert "key:" in problems(copy)


def test_file_that_nobody_listed_is_found(copy: Path) -> None:
    (copy / "codes/extra.npy").write_bytes(b"x")
    assert "extra.npy (not in the manifest)" in problems(copy)


def test_missing_thumbnail_is_found(copy: Path) -> None:
    pictures = open_store(copy).thumbs
    next(pictures.iterdir()).unlink()
    found = problems(copy)
    assert "altered: thumbs/" in found
    assert "1 thumbnails are missing" in found
    assert f"expected in thumbs/{pictures.name}/" in found


def test_postings_out_of_order_are_found(copy: Path) -> None:
    values = np.load(copy / "postings/values.npy")
    offsets = np.load(copy / "postings/offsets.npy")
    start, stop = offsets[0], offsets[1]
    values[start:stop] = values[start:stop][::-1]
    replace_array(copy, "postings/values.npy", values)
    assert "postings: a concept's postings are not sorted" in problems(copy)


def test_codes_that_disagree_with_postings_are_found(copy: Path) -> None:
    values = np.load(copy / "codes/values.npy")
    values[0, 0] = 0
    replace_array(copy, "codes/values.npy", values)
    assert "another number of activations" in problems(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i, v: (i, -v), "negative"),
        (lambda i, v: (np.full_like(i, 999), v), "outside 0..31"),
        (lambda i, v: (np.zeros_like(i), np.ones_like(v)), "twice in one sample"),
        (lambda i, v: (i, np.full_like(v, np.nan)), "not finite"),
    ],
)
def test_impossible_codes_are_found(copy: Path, change, words: str) -> None:  # type: ignore[no-untyped-def]
    indices, values = change(np.load(copy / "codes/indices.npy"), np.load(copy / "codes/values.npy"))
    replace_array(copy, "codes/indices.npy", indices)
    replace_array(copy, "codes/values.npy", values)
    assert words in problems(copy)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "not finite"), (0.0, "zero vector")])
def test_embedding_without_direction_is_found(copy: Path, value: float, words: str) -> None:
    array = np.load(copy / "embeddings/last.npy")
    array[5] = value
    replace_array(copy, "embeddings/last.npy", array)
    assert words in problems(copy)


def test_task_that_points_outside_is_found(copy: Path) -> None:
    queries = np.load(copy / "retrieval/i2t/queries.npy")
    queries[0] = 10_000
    replace_array(copy, "retrieval/i2t/queries.npy", queries)
    assert "retrieval/i2t/queries.npy" in problems(copy)


def test_query_without_target_must_be_declared(copy: Path) -> None:
    qrels = np.load(copy / "retrieval/t2i/qrels.npy")
    replace_array(copy, "retrieval/t2i/qrels.npy", qrels[1:])
    assert "1 queries without target" in problems(copy)


def test_folder_that_is_no_store_is_a_problem_not_an_error(tmp_path: Path) -> None:
    assert "not a store" in problems(tmp_path)
