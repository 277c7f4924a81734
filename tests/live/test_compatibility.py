"""A query is compared only with candidates that were embedded in the same way; every difference is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.data.samples import Picture
from analysis.errors import BackboneError
from analysis.live.compatibility import check_compatible, fusion_note, mismatches, precision_note, request_for
from analysis.live.query import LiveQuery, embed_query
from analysis.live.slot import load_request
from analysis.models.backbones import Backbone
from analysis.store import Store


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


def test_a_device_that_does_not_exist_is_a_sentence(stores: dict[str, Store]) -> None:
    with pytest.raises(BackboneError, match="Device 'tpu' does not exist"):
        load_request(request_for(stores["qwen2_vl"], device="tpu"))
