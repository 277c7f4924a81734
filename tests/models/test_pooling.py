import numpy as np
import pytest

from analysis.errors import BackboneError
from analysis.models.pooling import VARIANTS, Role, check_variants, keep_tokens, pool_states, pooling_weights

T, M, X, S, P = Role.TEMPLATE, Role.IMAGE, Role.TEXT, Role.INSTRUCTION, Role.PAD
PICTURE_AND_TEXT = np.array([T, M, M, X, X, S, T, P, P], np.int8)
TEXT_ONLY = np.array([T, X, X, X, S, S, T, T, P], np.int8)


def test_each_variant_keeps_what_its_name_says():
    kept = {name: keep_tokens(PICTURE_AND_TEXT, name)[0].astype(int).tolist() for name in VARIANTS}
    assert kept == {
        "mean": [1, 1, 1, 1, 1, 1, 1, 0, 0],
        "last": [0, 0, 0, 0, 0, 0, 1, 0, 0],
        "mean_no_image": [1, 0, 0, 1, 1, 1, 1, 0, 0],
        "mean_no_prompt": [1, 1, 1, 0, 0, 0, 1, 0, 0],
        "mean_no_instruction": [1, 1, 1, 1, 1, 0, 1, 0, 0],
    }


@pytest.mark.parametrize("variant", ["mean_no_image", "mean_no_prompt"])
def test_picture_variants_of_a_text_equal_its_mean_and_say_so(variant: str):
    keep, defined = keep_tokens(TEXT_ONLY, variant)
    assert not defined
    np.testing.assert_array_equal(keep, keep_tokens(TEXT_ONLY, "mean")[0])
    assert keep_tokens(PICTURE_AND_TEXT, variant)[1]


def test_the_instruction_can_be_left_out_of_a_text():
    keep, defined = keep_tokens(TEXT_ONLY, "mean_no_instruction")
    assert defined
    assert keep.sum() == 6


@pytest.mark.parametrize("side", ["left", "right"])
def test_last_is_the_last_real_token_on_either_padding_side(side: str):
    roles = np.array([P, P, T, X, S] if side == "left" else [T, X, S, P, P], np.int8)
    assert np.flatnonzero(keep_tokens(roles, "last")[0]).tolist() == [4 if side == "left" else 2]


def test_weights_times_states_equal_the_loop_over_tokens():
    rng = np.random.default_rng(0)
    roles = np.stack([PICTURE_AND_TEXT, TEXT_ONLY])
    states = rng.normal(size=(2, 9, 5)).astype(np.float32)
    weights, defined = pooling_weights(roles, tuple(VARIANTS))
    pooled = weights @ states
    for b in range(2):
        for v, name in enumerate(VARIANTS):
            keep, is_defined = keep_tokens(roles[b], name)
            by_loop = sum(states[b, t].astype(np.float64) for t in range(9) if keep[t]) / keep.sum()
            np.testing.assert_allclose(pooled[b, v], by_loop, atol=1e-6)
            assert defined[b, v] == is_defined
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_a_mask_that_leaves_nothing_is_refused_with_the_reason():
    only_picture = np.array([[M, M, P]], np.int8)
    with pytest.raises(BackboneError, match="'mean_no_image' no token is left"):
        pooling_weights(only_picture, ["mean_no_image"])
    with pytest.raises(BackboneError, match="no token is left"):
        pool_states(np.ones((3, 2), np.float32), np.zeros(3, bool))


def test_a_mask_of_the_wrong_length_is_refused():
    with pytest.raises(BackboneError, match="one entry for each of 3 tokens"):
        pool_states(np.ones((3, 2), np.float32), np.ones(4, bool))


def test_unknown_variants_are_answered_with_those_that_exist():
    with pytest.raises(BackboneError, match="mean_no_prompt"):
        keep_tokens(TEXT_ONLY, "median")
    with pytest.raises(BackboneError, match="CLIP has no pooling variant 'last'; expected one of mean"):
        check_variants(["last"], ("mean",), "CLIP")
