"""Masks of a query's tokens: text form, what is kept, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import BackboneError
from analysis.live.masks import QUICK_MASKS, TokenMask, parse_mask
from analysis.models.pooling import Role, keep_tokens

ROLES = np.array([1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 1, 0], np.int8)


@pytest.mark.parametrize(
    ("mask", "spec"),
    [
        (TokenMask(), ""),
        (TokenMask(("image",)), "image"),
        (TokenMask(("instruction", "text")), "text,instruction"),
        (TokenMask(tokens=(9, 3, 4, 5)), "3-5,9"),
        (TokenMask(("template",), (7,), "last"), "template,7,last"),
    ],
)
def test_text_form_comes_back_as_the_same_mask(mask: TokenMask, spec: str) -> None:
    assert mask.spec == spec
    assert parse_mask(spec) == mask


def test_quick_masks_keep_what_the_stored_variants_keep() -> None:
    for quick, variant in (
        ("w/o image", "mean_no_image"),
        ("w/o prompt", "mean_no_prompt"),
        ("w/o instruction", "mean_no_instruction"),
    ):
        kept, defined = keep_tokens(ROLES, variant)
        assert defined
        np.testing.assert_array_equal(TokenMask(QUICK_MASKS[quick]).keep(ROLES), kept)


def test_padding_is_never_pooled_and_last_is_the_last_token_left() -> None:
    assert not TokenMask().keep(ROLES)[11]
    np.testing.assert_array_equal(np.flatnonzero(TokenMask(pooling="last").keep(ROLES)), [10])
    np.testing.assert_array_equal(np.flatnonzero(TokenMask(("template",), (9,), "last").keep(ROLES)), [8])


def test_a_mask_that_leaves_nothing_is_refused_with_the_reason() -> None:
    with pytest.raises(BackboneError, match="leaves no token of 12 to pool"):
        TokenMask(("template", "image", "text", "instruction")).keep(ROLES)


@pytest.mark.parametrize(
    ("text", "words"), [("picture", "role 'picture'"), ("3-", "role '3-'"), ("image;text", "image;text")]
)
def test_a_word_that_is_no_role_and_no_position_is_named(text: str, words: str) -> None:
    with pytest.raises(BackboneError, match=words):
        parse_mask(text)


def test_a_position_beyond_the_query_is_refused() -> None:
    with pytest.raises(BackboneError, match="token 99"):
        parse_mask("99").keep(ROLES)


def test_roles_in_a_mask_are_those_of_the_models_package() -> None:
    assert TokenMask(("image",)).masked(ROLES).sum() == (ROLES == Role.IMAGE).sum()


def test_toggling_takes_single_tokens_out_of_a_masked_role_and_back() -> None:
    image = TokenMask(("image",))
    without_one = image.toggled([3], False, ROLES)
    assert without_one.spec == "2,4-5"
    assert without_one.toggled([3], True, ROLES) == image
    assert TokenMask().toggled([6, 7], True, ROLES).spec == "text"
    assert TokenMask(pooling="last").toggled([0], True, ROLES).spec == "0,last"
