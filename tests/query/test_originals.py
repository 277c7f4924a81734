"""The picture that a stored embedding was made of is found again, and a changed or absent data set is noticed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from analysis.data.registry import load_pairs
from analysis.query.originals import picture_files


@dataclass(frozen=True)
class Shelf:
    """As much of a store as is asked here."""

    cache_dir: Path
    config: dict[str, Any]
    samples: pd.DataFrame


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    folder = tmp_path / "datasets" / "shapes"
    folder.mkdir(parents=True)
    for n, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (40, 40), colour).save(folder / f"{n}.png")
    (folder / "captions.csv").write_text("file,caption\n0.png,a red one\n1.png,a green one\n2.png,a blue one\n")
    pairs = load_pairs("shapes", cache=tmp_path)
    kept = [sample for sample in pairs.samples if sample.pair_id < 2]
    samples = pd.DataFrame({"sample_id": [s.sample_id for s in kept], "modality": [s.modality for s in kept]})
    data = {"name": "shapes", "split": None, "revision": pairs.revision}
    return Shelf(tmp_path, {"data": data}, samples)


def test_each_picture_of_the_store_has_its_file(shelf: Shelf) -> None:
    found = picture_files(shelf)  # type: ignore[arg-type]
    assert sorted(path.name for path in found.values()) == ["0.png", "1.png"]
    assert set(found) == set(shelf.samples["sample_id"][shelf.samples["modality"] == "image"])


def test_other_data_under_the_same_name_are_not_taken(shelf: Shelf) -> None:
    with (shelf.cache_dir / "datasets/shapes/captions.csv").open("a") as table:
        table.write("2.png,one more\n")
    assert picture_files(shelf) == {}  # type: ignore[arg-type]


def test_data_that_lie_elsewhere_are_no_error(shelf: Shelf) -> None:
    shelf.config["data"]["name"] = "coco2017"
    assert picture_files(shelf) == {}  # type: ignore[arg-type]
