"""`build --dry-run` against what a build then does."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from analysis.build.forecast import _size, forecast
from analysis.build.plan import BuildPlan, DataPlan, ModelPlan
from analysis.errors import BackboneError
from analysis.models.backbones import estimate_memory, load_backbone
from tests.build.folders import small_plan
from tests.fake_hub import serving_hub, use_hub


@pytest.fixture
def no_weights(monkeypatch):
    """Nothing may be loaded."""
    from transformers import AutoModel

    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *_, **__: pytest.fail("weights were loaded"))


def test_a_local_model_is_forecast_without_loading_it(checkpoint, coco_folder, tmp_path, no_weights):
    found = forecast(small_plan(coco_folder, checkpoint("clip"), tmp_path))
    assert found.download == 0
    assert found.memory == estimate_memory(checkpoint("clip"), "float32")
    assert found.samples == 12 + 24  # the damaged picture is found when it is decoded
    assert found.seconds is None
    assert "unknown: this backbone has not embedded anything" in "\n".join(found.lines())
    assert 0 < found.disk < found.free_disk


def test_time_is_that_of_the_store_that_is_there(built, checkpoint, coco_folder):
    store = built("clip")
    facts = json.loads((store / "manifest.json").read_text())["facts"]
    found = forecast(small_plan(coco_folder, checkpoint("clip"), store.parents[1]))
    rate = facts["seconds_extract"] / facts["counts"]["samples"]
    assert found.seconds == (pytest.approx(rate * found.samples) if facts["seconds_extract"] else None)
    written = sum(file.stat().st_size for file in (store / "embeddings").glob("*.npy"))
    assert found.disk > written


def test_a_model_of_the_hub_is_forecast_from_its_description(
    checkpoint, coco_folder, tmp_path, monkeypatch, no_weights
):
    with serving_hub(checkpoint("qwen2_vl"), "somebody/model") as server:
        use_hub(monkeypatch, server.address, tmp_path / "hub")
        plan = BuildPlan(DataPlan(str(coco_folder)), ModelPlan("somebody/model", device="cpu"), cache=tmp_path)
        found = forecast(plan)
        whole = sum(len(data) for name, data in server.files.items() if name != "config.json")
        assert found.download == pytest.approx(whole, rel=0.05)
        assert found.memory == pytest.approx(estimate_memory(checkpoint("qwen2_vl"), "float32"), rel=0.2)
        assert not server.fetched("model.safetensors")


def test_without_network_a_row_still_says_its_memory(coco_folder, tmp_path, monkeypatch, no_weights):
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub")
    plan = BuildPlan(
        DataPlan(str(coco_folder)), ModelPlan("qwen2-vl-7b", device="cpu", dtype="bfloat16"), cache=tmp_path
    )
    found = forecast(plan)
    assert found.download is None
    assert found.memory == pytest.approx(16.6e9, rel=0.01)
    assert found.disk > 12 * 3584 * 4 * 5
    assert any(line.startswith("download  unknown: ") and "hub cannot be reached" in line for line in found.lines())


def test_data_that_are_not_here_are_unknown_and_a_broken_model_is_refused(checkpoint, coco_folder, tmp_path):
    found = forecast(small_plan(tmp_path / "nowhere", checkpoint("clip"), tmp_path))
    assert (found.samples, found.disk) == (None, None)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text("{}")
    with pytest.raises(BackboneError, match="adapter"):
        forecast(small_plan(coco_folder, tmp_path / "broken", tmp_path))


def test_the_command_prints_five_lines_and_builds_nothing(checkpoint, coco_folder, tmp_path):
    from analysis.cli import main

    arguments = ["build", "--dry-run", "--device", "cpu", "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(main, [*arguments, "--backbone", str(checkpoint("clip")), "--dataset", str(coco_folder)])
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()] == ["download", "memory", "samples", "time", "disk"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("n", "text"), [(12, "12 bytes"), (1500, "1.5 kB"), (16.6e9, "16.6 GB"), (2e12, "2.0 TB")])
def test_sizes_are_readable(n, text):
    assert _size(n) == text


def test_a_row_that_is_loaded_takes_what_was_forecast(checkpoint, coco_folder, tmp_path):
    found = forecast(small_plan(coco_folder, checkpoint("clip"), tmp_path))
    loaded = load_backbone(checkpoint("clip"), device="cpu")
    taken = sum(p.numel() * p.element_size() for p in loaded._model.parameters())
    assert found.memory == pytest.approx(taken, rel=0.1)
