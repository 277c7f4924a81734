from __future__ import annotations

import subprocess
import sys

import pytest

from analysis.data.samples import MODALITIES
from analysis.errors import BackboneError
from analysis.figures.palette import backbone_style
from analysis.models.families import FAMILIES, TAPS
from analysis.models.inputs import BUILDERS
from analysis.models.layouts import LAYOUTS
from analysis.models.prompts import PROMPTS
from analysis.models.specs import BACKBONES, ROOT, find_spec, place_of


def test_the_six_models_of_the_paper_and_the_demo_are_there():
    assert [key for key, spec in BACKBONES.items() if not spec.trained_to_embed] == [
        "clip-vit-b32",
        "siglip2-b16-512",
        "qwen2-vl-7b",
        "qwen3-vl-8b",
        "paligemma2-3b",
        "chameleon-7b",
        "clip-mini",
        "siglip2-mini",
        "qwen2-vl-mini",
        "qwen3-vl-mini",
        "paligemma2-mini",
        "chameleon-mini",
    ]


def test_rows_are_complete_and_tell_apart():
    for key, spec in BACKBONES.items():
        assert spec.key == key
        assert spec.model_type in FAMILIES
        assert spec.contrastive == FAMILIES[spec.model_type].contrastive
        assert (backbone_style(key).dash == "solid") == spec.contrastive, "contrastive solid, MLLMs dashed"
        assert spec.width > 0
        if not spec.demo:
            assert spec.dtype == "bfloat16"
            assert spec.revision == "main" or len(spec.revision) == 40
        if spec.trained_to_embed:
            assert {modality for modality, _ in spec.template} == set(MODALITIES)
            assert spec.prompts in PROMPTS
            assert spec.pooling == ("mean" if spec.demo else "last")
        elif not spec.demo:
            assert spec.sae_file.endswith(".pt")
            assert spec.sae_width in (7168, 20736, 32768)
    assert len({spec.label for spec in BACKBONES.values()}) == len(BACKBONES)


def test_every_family_names_a_builder_a_layout_and_a_tap():
    for family in FAMILIES.values():
        assert family.builder in BUILDERS
        assert family.grid in LAYOUTS
        assert family.tap in TAPS
        assert bool(family.norm) != family.contrastive


def test_demo_rows_lie_in_the_repository_and_agree_with_what_was_trained():
    import json

    for spec in BACKBONES.values():
        if spec.demo:
            folder = ROOT / spec.hub_id
            assert folder.is_relative_to(ROOT / "assets" / "demo")
            if folder.is_dir():  # absent until the demo has been trained
                config = json.loads((folder / "config.json").read_text())
                assert config["model_type"] == spec.model_type
                width = config.get("projection_dim") or config.get("text_config", config)["hidden_size"]
                assert width == spec.width


def test_a_hub_id_of_the_table_is_its_row():
    assert find_spec("Qwen/Qwen2-VL-7B-Instruct") is BACKBONES["qwen2-vl-7b"]


def test_any_other_hub_id_or_folder_is_a_new_row(tmp_path):
    spec = find_spec("Qwen/Qwen2-VL-2B-Instruct")
    assert (spec.key, spec.hub_id, spec.revision) == ("qwen2-vl-2b-instruct", "Qwen/Qwen2-VL-2B-Instruct", "main")
    assert not spec.is_folder
    folder = find_spec(tmp_path)
    assert folder.is_folder
    assert folder.key == tmp_path.name


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(BackboneError, match=r"expected one of clip-vit-b32.*Did you mean 'qwen2-vl-7b'"):
        find_spec("qwen2-vl-7B-")
    with pytest.raises(BackboneError, match=r"There is no folder \./nowhere"):
        find_spec("./nowhere")


def test_listing_the_table_imports_no_deep_learning():
    code = (
        "import sys, analysis.models.backbones as b; assert b.BACKBONES;"
        "print([m for m in ('torch', 'transformers', 'numba', 'streamlit', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_models_stand_in_the_order_of_the_table_and_others_before_the_demo():
    assert sorted(["chameleon-mini", "my-own", "qwen2-vl-mini", "clip-mini", "qwen2-vl-7b"], key=place_of) == [
        "qwen2-vl-7b", "my-own", "clip-mini", "qwen2-vl-mini", "chameleon-mini",
    ]  # fmt: skip
