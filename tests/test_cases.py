"""Small inputs shaped like what people really have, one folder a case, with the right value of each: all of ../shared/cases.

One function a kind of case. A case that no function here knows fails `test_every_case_is_tried`, so none is forgotten.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from analysis.cli import main
from analysis.data.registry import find_retrieval_tasks, load_pairs, load_retrieval
from analysis.data.samples import PairSet, Picture
from analysis.errors import AnalysisError, BackboneError, DataError

ROOT = Path(__file__).parents[1]
CASES = next((p / "shared" / "cases" for p in ROOT.parents if (p / "shared" / "cases").is_dir()), None)
pytestmark = pytest.mark.skipif(
    CASES is None, reason="../shared/cases is not here: the cases lie beside the repository"
)

# case -> (pictures, captions, defects that are named)
PAIRS = {
    "plain-24": (24, 24, []),
    "coco-backslash": (10, 20, []),
    "coco-padded-ids": (10, 20, []),
    "coco-karpathy-file": (8, 16, []),
    "csv-excel-sep-line": (8, 8, []),
    "csv-flickr-pipe": (8, 8, ["16 x duplicate caption, first: captions.csv line 3"]),
    "csv-unquoted-commas": (12, 12, ["12 x caption with unquoted delimiters (read whole), first: captions.csv line 2"]),
    "jsonl-caption-list": (8, 24, []),
    "names-nfd": (8, 8, []),
    "names-spaces-unicode": (10, 10, []),
    "parquet-path-only": (8, 16, []),
    "recall-five-captions": (24, 120, []),
}
TASKS = {
    "mbeir-appledouble": (10, 10, []),
    "mbeir-duplicates": (
        10,
        11,
        [
            "1 x candidate with the picture and text of another (kept), first: 9:11",
            "1 x candidate without its text, first: 9:12",
            "1 x duplicate candidate id, first: 9:3",
            "1 x duplicate qrels line, first: 9:2 9:2",
        ],
    ),
}
EMBEDDED = {"pictures-one-pixel": 16, "pictures-png-text-chunk": 14}
ALONE = ("pictures-odd", "lfs-pointer", "tilde-cache", "latin1-locale", "flock-enolck")
RECIPES = ("model-hub-cache", "model-lora-folder", "model-missing-shard", "model-no-processor")
# SAE checkpoints are tried where their code is: case -> the module that names it.
ELSEWHERE = {
    "sae-bf16-safetensors": "sae/test_formats.py",
    "sae-dictionary-learning": "sae/test_formats.py",
    "sae-numpy-scalar": "sae/test_formats.py",
    "sae-whole-module": "sae/test_formats.py",
}


def folder(case: str) -> Path:
    """What a user would name: the one folder inside a case."""
    assert CASES is not None
    return next(path for path in sorted((CASES / case).iterdir()) if path.is_dir())


def run(*arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        timeout=280,
        check=False,
    )


def texts(pairs: PairSet) -> list[str]:
    return [sample.text for sample in pairs.samples if sample.modality == "text"]


def test_every_case_is_tried() -> None:
    assert CASES is not None
    here = {*PAIRS, *TASKS, *EMBEDDED, *ALONE, *RECIPES}
    assert {path.name for path in CASES.iterdir() if path.is_dir()} == here | set(ELSEWHERE)
    for case, module in ELSEWHERE.items():
        assert case in (ROOT / "tests" / module).read_text(encoding="utf-8"), f"{module} names no case {case}"


@pytest.mark.parametrize("case", PAIRS)
def test_pairs_are_read_whole(case: str) -> None:
    n_pictures, n_captions, defects = PAIRS[case]
    pairs = load_pairs(folder(case), check=True)
    assert (pairs.n_pairs, len(texts(pairs)), pairs.defects.lines()) == (n_pictures, n_captions, defects)
    for sample in pairs.samples:
        if sample.picture is not None:
            assert sample.picture.load().mode == "RGB"


def test_the_captions_are_those_of_the_pictures() -> None:
    assert texts(load_pairs(folder("csv-unquoted-commas")))[0] == "a red circle, drawn flat, on grey"
    assert texts(load_pairs(folder("jsonl-caption-list")))[:3] == ["a red circle", "one circle in red", "red shape"]
    red, *_ = load_pairs(folder("parquet-path-only")).samples
    assert red.picture is not None
    image = red.picture.load()
    r, g, b = image.getpixel((image.width // 2, image.height // 2))
    assert r > 150 > 100 > max(g, b)


def test_karpathys_splits_are_chosen_by_name() -> None:
    case = folder("coco-karpathy-file")
    splits = {image["split"] for image in json.loads((case / "dataset_coco.json").read_text())["images"]}
    assert sum(load_pairs(case, split=split).n_pairs for split in splits) == 8
    with pytest.raises(DataError, match="no split 'nothing'; found"):
        load_pairs(case, split="nothing")


@pytest.mark.parametrize("case", TASKS)
def test_retrieval_tasks_have_every_defect_counted(case: str) -> None:
    n_queries, n_candidates, defects = TASKS[case]
    places = find_retrieval_tasks(folder(case))
    assert [place.task for place in places] == ["t2i"]
    task = load_retrieval(folder(case), check=True)
    assert (len(task.queries), len(task.candidates), task.defects.lines()) == (n_queries, n_candidates, defects)
    assert task.qrels.sum(axis=1).tolist() == [1] * n_queries


def test_odd_pictures_are_what_they_should_be_or_refused_with_the_reason() -> None:
    assert CASES is not None
    expected = json.loads((CASES / "pictures-odd" / "expected.json").read_text())
    words = {
        "truncated.jpg": "truncated",
        "zero.jpg": "0 bytes",
        "html.jpg": "HTML",
        "vector.svg": "SVG",
        "phone.heic": "HEIC",
    }
    for name, right in expected.items():
        picture = Picture(path=folder("pictures-odd") / "images" / name)
        if right["ok"]:
            image = picture.load()
            assert right["size"] in (None, list(image.size)), name
            centre = image.getpixel((image.width // 2, image.height // 2))
            np.testing.assert_allclose(centre, right["centre"], atol=6, err_msg=name)
        else:
            with pytest.raises(DataError, match=words[name]) as caught:
                picture.load()
            assert str(caught.value).startswith(name)


@pytest.mark.parametrize("case", EMBEDDED)
@pytest.mark.parametrize("model", ["clip-mini", "qwen2-vl-mini"])
def test_odd_pictures_are_embedded(case: str, model: str) -> None:
    from analysis.models.backbones import load_backbone

    pictures = [sample for sample in load_pairs(folder(case)).samples if sample.modality == "image"]
    assert len(pictures) == EMBEDDED[case]
    backbone = load_backbone(str(ROOT / "assets" / "demo" / model), device="cpu")
    embedded = backbone.embed(pictures, on_error="skip")
    assert embedded.skipped == {}
    assert np.isfinite(embedded.vectors["mean"]).all()


@pytest.mark.parametrize("case", RECIPES)
def test_model_folders_are_read_or_called_by_their_name(case: str, tmp_path: Path) -> None:
    from analysis.models.backbones import load_backbone

    demo = ROOT / "assets" / "demo"
    if case == "model-hub-cache":
        outer = tmp_path / "models--me--clip-mini"
        snapshot = outer / "snapshots" / ("c" * 40)
        for folder in (outer / "blobs", outer / "refs", snapshot):
            folder.mkdir(parents=True)
        (outer / "refs" / "main").write_text("c" * 40)
        for number, file in enumerate(sorted((demo / "clip-mini").iterdir())):
            shutil.copy(file, outer / "blobs" / str(number))
            (snapshot / file.name).symlink_to(outer / "blobs" / str(number))
        assert load_backbone(snapshot, device="cpu").spec.model_type == "clip"
        wanted, given = rf"hub cache's outer folder.*{snapshot}", outer
    elif case == "model-lora-folder":
        wanted, given = "is a LoRA adapter of me/base, not a model.*merge", tmp_path
        (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "me/base", "peft_type": "LORA"}')
        (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    elif case == "model-missing-shard":
        wanted, given = "lacks 1 of its 2 weight files, first model-00002-of-00002.safetensors", tmp_path / "model"
        shutil.copytree(demo / "clip-mini", given)
        (given / "model.safetensors").rename(given / "model-00001-of-00002.safetensors")
        names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (given / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    else:
        wanted, given = "lacks the file of its image processor", tmp_path / "model"
        shutil.copytree(demo / "qwen2-vl-mini", given)
        (given / "processor_config.json").unlink()
    with pytest.raises(BackboneError, match=wanted):
        load_backbone(given, device="cpu")


def test_a_pointer_is_no_file() -> None:
    with pytest.raises(DataError, match=r"val-00000.*Git LFS pointer.*git lfs pull"):
        load_pairs(folder("lfs-pointer"))


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["list", "--cache=~/rl-cache"])
    assert done.exception is None or isinstance(done.exception, SystemExit | AnalysisError)
    assert not (tmp_path / "~").exists()
    (tmp_path / "rl-cache").mkdir()
    for store in sorted((ROOT / "cache" / "clip-mini").iterdir())[:1]:
        shutil.copytree(store, tmp_path / "rl-cache" / "clip-mini" / store.name)
    monkeypatch.setenv("RETRIEVALLENS_CACHE", "~/rl-cache")
    done = CliRunner().invoke(main, ["list"])
    assert "clip-mini" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("localedef") is None, reason="localedef is not installed")
def test_a_locale_without_greek_letters_prints_the_table(tmp_path: Path) -> None:
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / "en_US.ISO-8859-1")],
        capture_output=True,
        check=False,
    )
    if not (tmp_path / "en_US.ISO-8859-1").is_dir():
        pytest.skip(f"the locale could not be made: {made.stderr.decode(errors='replace')[:200]}")
    store = sorted(path.parent for path in (ROOT / "cache" / "clip-mini").glob("*/manifest.json"))[0]
    done = run(
        *("retrieve", str(store), "--task", "t2i", "--method", "realign:alpha=0.1"),
        env={"LOCPATH": str(tmp_path), "LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"ReAlign" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's")
def test_a_file_system_without_locks_is_one_sentence_and_works(tmp_path: Path) -> None:
    assert CASES is not None
    library = tmp_path / "flock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(CASES / "flock-enolck" / "flock.c")], check=True)
    done = run(
        "extract", "--dataset", str(folder("plain-24")), "--backbone", str(ROOT / "assets" / "demo" / "clip-mini"),
        "--cache", str(tmp_path / "new"), env={"LD_PRELOAD": str(library)},
    )  # fmt: skip
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said
    assert "Traceback" not in said
    assert "cannot be locked" in said
    assert "--cache" in said
