"""What a finding says about then and now, and what may be kept of an uploaded picture."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.errors import StoreError
from analysis.store import open_store
from analysis.store.finding import (
    PICTURE_BYTES,
    PICTURE_SIDE,
    Finding,
    Lists,
    RankedList,
    Table,
    compare,
    downscaled,
    from_json,
    store_digest,
    table_part,
    to_json,
)
from tests.synthetic_store import make_store

THEN = Finding("retrieval_lab", "t", {}, facts={"R@10": 15.8, "names": ["a"]}, stores={"clip/x": "00"})


def test_the_same_numbers_of_the_same_store_need_no_word() -> None:
    assert compare(THEN, replace(THEN, note="other", facts={"R@10": 15.8 + 1e-12})) == ""


def test_a_changed_number_stands_with_both_values() -> None:
    live = replace(THEN, facts={"R@10": 16.1}, stores={"clip/x": "11"})
    assert compare(THEN, live) == "The store has changed since: R@10 15.8 then, 16.1 now."
    close = replace(live, facts={"R@10": 15.8004})
    assert "15.8 then, 15.8004 now" in compare(THEN, close)
    nested = replace(THEN, facts={"clip": {"R@1": 1.0}})
    assert "clip R@1 1 then, 2 now" in compare(nested, replace(nested, facts={"clip": {"R@1": 2.0}}))


def test_other_bytes_with_the_same_numbers_say_so_and_so_does_a_number_that_is_gone() -> None:
    assert "numbers of this view are the same" in compare(THEN, replace(THEN, stores={"clip/x": "11"}))
    assert "R@10 15.8 then, not measured now" in compare(THEN, replace(THEN, facts={}))


def test_a_store_that_is_gone_is_named() -> None:
    for live in (None, replace(THEN, stores={})):
        assert "clip/x is not in the cache" in compare(THEN, live)


def test_the_digest_changes_with_the_numbers_of_a_store(tmp_path: Path) -> None:
    first, same, other = (
        store_digest(open_store(make_store(tmp_path / name, seed=seed)))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert len(first) == 64
    assert first == same != other


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    image = Image.fromarray(noise)
    exif = image.getexif()
    exif[0x010E] = "taken at home"
    image.save(out, kind, exif=exif)
    return out.getvalue()


def test_an_upload_is_kept_small_and_without_its_metadata() -> None:
    small = downscaled(picture(1600, 900), consent=True)
    image = Image.open(io.BytesIO(small))
    assert image.size == (PICTURE_SIDE, 576)
    assert len(small) <= PICTURE_BYTES
    assert not image.getexif()


@pytest.mark.parametrize(
    ("upload", "consent", "words"),
    [
        (picture(8, 8), False, "consent"),
        (b"no picture", True, "is not a picture"),
        (b"x" * 30_000_001, True, "30,000,001"),
    ],
)
def test_what_may_not_be_kept_is_refused(upload: bytes, consent: bool, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        downscaled(upload, consent=consent)


def test_json_loses_nothing_and_refuses_what_is_no_finding() -> None:
    whole = replace(
        THEN, parts=(table_part(pd.DataFrame({"a": [1.5, np.nan]})), Lists((RankedList("x", ()),))), picture=b"p"
    )
    assert from_json(to_json(whole)) == whole
    assert whole.parts[0] == Table(("a",), ((1.5,), (None,)))
    for wrong in ({}, {"page": "a", "title": "b", "params": {}, "parts": [{"kind": "virus"}]}):
        with pytest.raises(StoreError):
            from_json(wrong)
