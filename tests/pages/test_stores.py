"""The stores page lists what is there, verifies on request and says what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.store import open_store
from pages.components.shared import inventory
from tests.pages.opening import open_page, sentences, words
from tests.store.tamper import replace_array
from tests.synthetic_store import make_store


def test_sound_and_damaged_stores_are_listed_with_their_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path)
    broken = make_store(tmp_path, backbone="qwen2-vl-mini")
    (broken / "samples.parquet").unlink()
    app = open_page("stores", tmp_path, monkeypatch)
    table = app.dataframe[0].value.set_index("model")
    assert table["state"].to_dict() == {"clip-mini": "ok", "qwen2-vl-mini": "problem"}
    assert table["samples"]["clip-mini"] == 120
    assert any("samples.parquet" in sentence for sentence in sentences(app))
    assert "**1** of 2 stores can be opened" in words(app)


def test_verify_button_reports_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path)
    app = open_page("stores", tmp_path, monkeypatch)
    next(button for button in app.button if button.label == "Verify").click().run()
    assert "checks passed" in app.success[0].value


def test_verify_button_names_the_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_store(tmp_path)
    array = np.load(path / "embeddings/last.npy")
    array[0] = np.nan
    replace_array(path, "embeddings/last.npy", array)
    app = open_page("stores", tmp_path, monkeypatch)
    next(button for button in app.button if button.label == "Verify").click().run()
    assert any("not finite" in sentence for sentence in sentences(app))


def test_models_without_a_store_come_with_their_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path)
    table = open_page("stores", tmp_path, monkeypatch).dataframe[-1].value
    commands = dict(zip(table["model"], table["command"], strict=True))
    assert not any("clip-mini" in command for command in commands.values())
    assert any("--backbone qwen2-vl-7b" in command for command in commands.values())
    assert any("demo --model siglip2-mini" in command for command in commands.values())


def test_missing_sae_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path)
    next(tmp_path.glob("sae/*/*/sae.json")).unlink()
    table = open_page("stores", tmp_path, monkeypatch).dataframe[1].value
    assert table["state"].tolist() == ["missing"]


def test_missing_parts_name_the_view_and_the_option(tmp_path: Path) -> None:
    mllm = open_store(make_store(tmp_path, backbone="qwen2-vl-mini", tasks=()))
    found = dict(inventory.missing_parts(mllm))
    assert found["heatmaps over patches and words on the Concept page"] == "--token-views 200"
    assert "masking the prompt in the Retrieval lab" in found
    assert any("--tasks" in option for option in found.values())
    contrastive = open_store(make_store(tmp_path, tokens=True))
    assert inventory.missing_parts(contrastive) == []


def test_builds_under_way_are_sized(tmp_path: Path) -> None:
    (tmp_path / "work/embeddings-1/shards").mkdir(parents=True)
    (tmp_path / "work/embeddings-1/shards/0.npz").write_bytes(b"x" * 1000)
    assert inventory.work_folders(tmp_path) == [inventory.Work("embeddings-1", 1000, 1)]
