"""Colours keep their meaning for everybody: simulated colour blindness, contrast on both grounds, fixed line styles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.figures import palette

# Machado, Oliveira & Fernandes 2009, severity 1.0, linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
MEANINGS = {"image": palette.IMAGE, "text": palette.TEXT, "shared": palette.SHARED, "target": palette.TARGET}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(color: str) -> np.ndarray:
    share = np.array(palette.channels(color)) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratio = TO_XYZ @ rgb / np.array([0.95047, 1.0, 1.08883])
    root = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def difference(a: str, b: str, deficiency: str) -> float:
    """CIE 1976 colour difference as somebody with the deficiency sees it; about 2 is just noticeable."""
    matrix = np.asarray(DEFICIENCIES[deficiency])
    return float(np.linalg.norm(lab(np.clip(matrix @ linear(a), 0, 1)) - lab(np.clip(matrix @ linear(b), 0, 1))))


def lightness(color: str) -> float:
    """CIE L*, 0 to 100: what is left of a colour in grey; a difference of about 2 is just noticeable."""
    return float(lab(np.full(3, TO_XYZ[1] @ linear(color)))[0])


def contrast(a: str, b: str) -> float:
    """WCAG contrast ratio."""
    dark, light = sorted(float(TO_XYZ[1] @ linear(color)) for color in (a, b))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("pair", itertools.combinations(MEANINGS, 2), ids="-".join)
def test_meanings_stay_apart_for_colour_blind_readers(pair, deficiency):
    assert difference(MEANINGS[pair[0]], MEANINGS[pair[1]], deficiency) > 30


@pytest.mark.parametrize("pair", itertools.combinations(MEANINGS, 2), ids="-".join)
def test_meanings_stay_apart_in_grey(pair):
    """A grey printout leaves lightness alone; both grounds leave room for a span of 20, so four colours can differ by 5."""
    assert abs(lightness(MEANINGS[pair[0]]) - lightness(MEANINGS[pair[1]])) > 4.5


def test_the_two_ends_of_the_modality_scale_are_far_apart_in_grey():
    assert abs(lightness(palette.IMAGE) - lightness(palette.TEXT)) > 12
    assert abs(lightness("#ff0000") - lightness("#7f7f7f")) < 1  # that red is this grey: what the measure has to see


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_rescued_and_lost_stay_apart(deficiency):
    assert difference(palette.TARGET, palette.LOST, deficiency) > 30


def test_the_simulator_sees_what_everybody_knows():
    assert difference("#ff0000", "#7f7f00", "deuteranopia") < 0.5 * difference("#ff0000", "#7f7f00", "none")
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


def test_every_colour_stands_on_both_grounds():
    colors = {name: value for name, value in vars(palette).items() if name.isupper() and isinstance(value, str)}
    colors = {name: value for name, value in colors.items() if value.startswith("#") and name != "ADAPTIVE_INK"}
    colors |= {
        name: palette.backbone_style(name).color for name in ("siglip2", "qwen3-vl-8b", "paligemma2", "chameleon")
    }
    assert len(colors) > 10
    for name, color in colors.items():
        for ground in palette.GROUND.values():
            assert contrast(color, ground) >= 3, (name, color, ground)


def test_contrastive_lines_are_solid_and_mllm_lines_are_not():
    solid = {
        name: palette.backbone_style(name).dash == "solid" for name in ("clip-mini", "openai/clip-vit-base-patch32")
    }
    solid |= {
        name: palette.backbone_style(name).dash == "solid" for name in ("siglip2", "google/siglip2-base-patch16-512")
    }
    assert all(solid.values())
    for name in ("qwen2-vl-mini", "Qwen/Qwen3-VL-8B-Instruct", "paligemma2-3b", "chameleon-7b", "somebody/new-model"):
        assert palette.backbone_style(name).dash != "solid", name


def test_models_drawn_together_differ_and_keep_their_own_style_first():
    names = ["clip", "clip-mini", "qwen2-vl-7b", "qwen2-vl-mini", "siglip2", "chameleon"]
    styles = palette.backbone_styles(names)
    assert len(set(styles)) == len(names)
    assert styles[0] == palette.backbone_style("clip")
    assert styles[1].dash == styles[0].dash == "solid"


def test_methods_have_the_style_of_their_kind():
    assert palette.method_style("random, 10 seeds").hatch == palette.HATCH
    assert palette.method_style("random, 10 seeds").color == palette.REMOVED
    assert palette.method_style("w/o image").color == palette.IMAGE
    assert palette.method_style("removal (attribution)").color == palette.ACCENT
    assert palette.method_style("ReAlign α = 0.1").color == palette.WHITENED
    assert palette.method_style("no such thing") is not None
    shown = [
        "base",
        "removal (attribution)",
        "removal (energy)",
        "removal (bridge)",
        "random",
        "ReAlign",
        "PCA",
        "centred",
    ]
    assert len({palette.method_style(name) for name in shown}) == len(shown)


def test_modality_colours_run_from_blue_over_violet_to_red():
    colors = palette.modality_colors(np.array([0.0, 0.5, 1.0, np.nan, -3.0]))
    assert colors == [palette.IMAGE, palette.SHARED, palette.TEXT, palette.NEUTRAL, palette.IMAGE]


def test_every_method_has_its_own_colour_and_a_chain_has_that_of_none_of_its_steps():
    names = (
        "base",
        "removal by attribution, top 1 %",
        "ReAlign α = 0.1",
        "mean-centred per side",
        "2 principal components",
    )
    colors = [palette.method_style(name).color for name in names]
    assert len(set(colors)) == len(names)
    for deficiency in ("none", "deuteranopia"):
        chain = palette.method_style(" + ".join(names[1:3])).color
        assert min(difference(chain, color, deficiency) for color in colors) > 10
