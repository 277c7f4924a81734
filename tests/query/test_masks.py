"""Masks of a query's tokens: text form, what is kept, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import BackboneError
from analysis.models.pooling import VARIANTS, Role, keep_tokens
from analysis.query.masks import NO_MASK, QUICK_MASKS, TokenMask, mask_of, parse_mask, variant_of

ROLES = np.array([1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 1, 0], np.int8)


@pytest.mark.parametrize(
    ("mask", "spec"),
    [
        (TokenMask(), ""),
        (TokenMask(("image",)), "image"),
        (TokenMask(("instruction", "text")), "text,instruction"),
        (TokenMask(tokens=(9, 3, 4, 5)), "3-5,9"),
        (TokenMask(("template",), (7,), "last"), "template,7,last"),
        (TokenMask(("text",), (), "mean", (("image", 4), ("image", 1), ("image", 2))), "text,image.1-2,image.4"),
        (TokenMask((), (9,), "last", (("instruction", 0),)), "instruction.0,9,last"),
        (TokenMask(kept=(("image", 2), ("image", 1))), "image.!1-2"),
        (TokenMask(("text",), kept=(("image", 9),)), "text,image.!9"),
        (TokenMask(parts=tuple(("image", 16 * row + n) for row in range(3) for n in range(4, 8))), "image.4-7/16x3"),
        (TokenMask(kept=tuple(("image", 8 * row) for row in range(8))), "image.!0/8x8"),
        (TokenMask(tokens=(1, 3, 5, 6)), "1,3,5-6"),
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
    assert without_one.spec == "image.0,image.2-3"
    assert without_one.toggled([3], True, ROLES) == image
    assert TokenMask().toggled([6, 7], True, ROLES).spec == "text"
    assert TokenMask(pooling="last").toggled([0], True, ROLES).spec == "template.0,last"


def test_a_patch_stays_the_same_patch_whatever_stands_before_it() -> None:
    mask = NO_MASK.toggled([3, 4], True, ROLES)
    assert mask.label == "2 patches masked"
    longer = np.concatenate([np.full(5, Role.TEXT, np.int8), ROLES])
    np.testing.assert_array_equal(np.flatnonzero(mask.masked(longer)), [8, 9])
    with pytest.raises(BackboneError, match=r"image\.4.* has 4 such tokens"):
        parse_mask("image.4").masked(ROLES)
    with pytest.raises(BackboneError, match="role 'picture'"):
        parse_mask("picture.0")


WORDS = np.array([1, 1, 3, 3, 4, 4, 1], np.int8)  # a text alone


@pytest.mark.parametrize("roles", [ROLES, WORDS], ids=["picture and text", "text"])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_variant_is_a_mask_and_the_mask_that_variant(roles: np.ndarray, variant: str) -> None:
    mask = mask_of(variant, roles)
    keep, defined = keep_tokens(roles, variant)
    np.testing.assert_array_equal(mask.keep(roles), keep)
    assert variant_of(mask, roles, tuple(VARIANTS)) == (variant if defined else "mean")


def test_a_mask_of_the_tokens_that_a_variant_leaves_out_is_that_variant() -> None:
    assert variant_of(parse_mask("2-5"), ROLES, ("mean", "mean_no_image")) == "mean_no_image"
    assert variant_of(parse_mask("2-4"), ROLES, ("mean", "mean_no_image")) is None
    assert variant_of(parse_mask("image"), ROLES, ("mean", "last")) is None
    assert variant_of(parse_mask("instruction,last"), ROLES, ("mean", "last")) == "last"  # the template's end is left
    assert variant_of(parse_mask("template,last"), ROLES, ("mean", "last")) is None


def test_two_masks_together_leave_out_what_either_does() -> None:
    both = parse_mask("image,9").joined(parse_mask("9,10,last"))
    assert both == parse_mask("image,9-10,last")
    np.testing.assert_array_equal(np.flatnonzero(both.keep(ROLES)), [8])  # the last one that is left
    assert NO_MASK.joined(NO_MASK) == NO_MASK


def test_only_roles_that_the_query_has_are_said_to_be_left_out() -> None:
    assert parse_mask("image,instruction").acting_on(WORDS).label == "w/o instruction"
    assert not parse_mask("image").acting_on(WORDS)


def test_everything_but_a_region_is_the_region_exchanged() -> None:
    region = NO_MASK.toggled([3, 4], True, ROLES)
    rest = region.inverted("image", ROLES)
    assert rest.spec == "image.!1-2"
    np.testing.assert_array_equal(np.flatnonzero(rest.masked(ROLES)), [2, 5])
    assert rest.label == "all but 2 patches masked"
    assert rest.inverted("image", ROLES) == region
    assert rest.toggled([3], True, ROLES).spec == "image.!2"  # a click keeps saying what is kept
    assert rest.toggled([3, 4], True, ROLES).spec == "image"
    assert rest.toggled([2, 5], False, ROLES) == NO_MASK
    assert parse_mask("text").inverted("image", ROLES).spec == "image,text"
    assert parse_mask("image.!1-2,image.1").spec == "image.!2"
    assert parse_mask("image.!1,image.1").spec == "image"


def test_two_masks_that_keep_a_region_keep_what_lies_in_both() -> None:
    assert parse_mask("image.!0-2").joined(parse_mask("image.!2-3,text")).spec == "text,image.!2"
    assert parse_mask("image.!0").joined(parse_mask("image.!3")).spec == "image"
    assert parse_mask("image.!0-1").joined(parse_mask("image.1")).spec == "image.!0"
    assert parse_mask("image.!0-1").joined(parse_mask("image")).spec == "image"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image.!9", "names image.9, the query has 4 such tokens"),
        ("image.4-7/3x2", "overlaps itself"),
        ("image.4-7/0x999999", "overlaps itself"),
        ("image.4-7/60000x9", "names token"),
        ("!4", "role '!4'"),
        ("picture.!0", "role 'picture'"),
    ],
)
def test_a_region_that_makes_no_sense_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(BackboneError, match=words):
        parse_mask(text).masked(ROLES)
