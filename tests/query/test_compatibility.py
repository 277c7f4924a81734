"""A query is compared only with candidates that were embedded in the same way; every difference is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.data.samples import Picture
from analysis.errors import BackboneError
from analysis.models.backbones import Backbone
from analysis.query.compatibility import (
    check_compatible,
    check_request,
    fusion_note,
    mismatches,
    precision_note,
    request_for,
)
from analysis.query.query import LiveQuery, embed_query
from analysis.query.slot import ModelRequest, load_request
from analysis.store import Store
from tests.query.live_store import make_checkpoint


@pytest.fixture(scope="module")
def query(mllm: Backbone) -> LiveQuery:
    return embed_query(mllm, text="a dog")


def test_the_stores_own_backbone_fits(stores: dict[str, Store], query: LiveQuery) -> None:
    check_compatible(stores["qwen2_vl"], query)
    assert precision_note(stores["qwen2_vl"], query) == ""


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("revision", "local-0000", "revision of the weights"),
        ("tap", "pre_norm", "tap"),
        ("fusion", "sum_of_unit_vectors", "join image and text"),
        ("dummy_image", "include", "dummy picture"),
    ],
)
def test_every_difference_is_refused_by_name(
    stores: dict[str, Store], query: LiveQuery, field: str, value: str, words: str
) -> None:
    other = replace(query, model={**query.model, field: value})
    with pytest.raises(BackboneError, match=words):
        check_compatible(stores["qwen2_vl"], other)


def test_other_prompts_and_another_model_are_refused(stores: dict[str, Store], query: LiveQuery) -> None:
    with pytest.raises(BackboneError, match="prompts"):
        check_compatible(stores["qwen2_vl"], replace(query, prompts="paper"))
    with pytest.raises(BackboneError, match="architecture"):
        check_compatible(stores["clip"], query)
    assert mismatches(stores["clip"].config, {**stores["clip"].config["backbone"]}, "paper") == []  # reads no prompt


def test_another_number_format_is_said_not_refused(stores: dict[str, Store], query: LiveQuery) -> None:
    half = replace(query, model={**query.model, "dtype": "bfloat16"})
    check_compatible(stores["qwen2_vl"], half)
    assert "float32" in precision_note(stores["qwen2_vl"], half)


def test_how_picture_and_text_were_joined_is_said(query: LiveQuery) -> None:
    both = replace(query, sample=replace(query.sample, modality="image_text", picture=Picture(data=b"p", name="p")))
    joined = replace(both, model={**both.model, "fusion": "sum_of_unit_vectors"})
    assert "sum of unit vectors" in fusion_note(joined)
    assert fusion_note(both) == ""
    assert fusion_note(replace(query, model=joined.model)) == ""


def test_a_stores_request_loads_its_own_backbone(stores: dict[str, Store]) -> None:
    backbone = load_request(request_for(stores["qwen2_vl"], device="cpu", dtype="float32"))
    check_compatible(stores["qwen2_vl"], embed_query(backbone, text="a cat"))
    backbone.unload()


def test_a_request_of_the_stores_own_backbone_fits(stores: dict[str, Store]) -> None:
    for store in stores.values():
        check_request(store, request_for(store))


def test_a_model_of_another_width_is_refused_from_its_config_alone(stores: dict[str, Store], tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "wide")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = 96
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        BackboneError, match=r"wide is not loaded.*the width is 96, the store's is 64.*own backbone, tiny-q"
    ):
        check_request(stores["qwen2_vl"], ModelRequest(str(folder)))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"tap": "pre_norm"}, "tap"), ({"dummy_image": "include"}, "dummy picture"), ({"fusion": "x"}, "join image")],
)
def test_a_request_run_in_another_way_is_refused_before_loading(
    stores: dict[str, Store], change: dict[str, str], words: str
) -> None:
    with pytest.raises(BackboneError, match=words):
        check_request(stores["qwen2_vl"], replace(request_for(stores["qwen2_vl"]), **change))


def test_what_is_refused_before_loading_is_what_would_be_refused_after(
    stores: dict[str, Store], query: LiveQuery
) -> None:
    with pytest.raises(BackboneError) as before:
        check_request(stores["clip"], request_for(stores["qwen2_vl"]))
    with pytest.raises(BackboneError) as after:
        check_compatible(stores["clip"], query)
    reasons = [str(error.value).split("same way: ")[1].split(". ")[0] for error in (before, after)]
    assert reasons[0].split("; ") == [reason for reason in reasons[1].split("; ") if "prompts" not in reason]


def test_a_device_that_does_not_exist_is_a_sentence(stores: dict[str, Store]) -> None:
    with pytest.raises(BackboneError, match="Device 'tpu' does not exist"):
        load_request(request_for(stores["qwen2_vl"], device="tpu"))
