"""From token states to one vector: the roles of tokens and the pooled variants, all from one forward pass. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from analysis.errors import BackboneError


class Role(IntEnum):
    """What a token is there for. PAD is never pooled: padding, and by option PaliGemma's dummy picture."""

    PAD = 0
    TEMPLATE = 1  # what the chat template or processor adds by itself, special tokens included
    IMAGE = 2
    TEXT = 3  # the sample's own text
    INSTRUCTION = 4  # the sentence after the content ("Summarize ... in one word: ")


@dataclass(frozen=True)
class Variant:
    """One way to pool. `needs_picture`: on a text-only sample the variant equals the mean, its text is its content."""

    name: str
    label: str
    drop: tuple[Role, ...] = ()
    needs_picture: bool = False
    last_only: bool = False


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("mean", "mean of all tokens"),
        Variant("last", "last token", last_only=True),
        Variant("mean_no_image", "without image tokens", (Role.IMAGE,), needs_picture=True),
        Variant("mean_no_prompt", "without prompt tokens", (Role.TEXT, Role.INSTRUCTION), needs_picture=True),
        Variant("mean_no_instruction", "without the instruction", (Role.INSTRUCTION,)),
    )
}


def keep_tokens(roles: np.ndarray, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens a variant pools.

    roles: (..., L) of Role. Returns keep (..., L) bool and defined (...) bool; where `defined` is False (a variant of
    pictures asked of a text-only sample) keep is that of "mean". Masks follow the paper's Fig. 4: "w/o image" leaves
    out image tokens, "w/o prompt" the user's text and the instruction. Raises BackboneError for an unknown variant.
    """
    rule = _rule(variant)
    present = roles != Role.PAD
    has_picture = (roles == Role.IMAGE).any(axis=-1)
    if rule.last_only:
        position = np.arange(roles.shape[-1])
        last = np.where(present, position, -1).max(axis=-1, keepdims=True)
        return present & (position == last), np.ones(has_picture.shape, bool)
    kept = present & ~np.isin(roles, rule.drop)
    if not rule.needs_picture:
        return kept, np.ones(has_picture.shape, bool)
    return np.where(has_picture[..., None], kept, present), has_picture


def pooling_weights(roles: np.ndarray, variants: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Weights (B, V, L) float32 whose product with states (B, L, D) is every variant of every sample at once, and
    defined (B, V) bool. Each row of weights sums to 1. roles: (B, L). Raises BackboneError when a mask leaves no token.
    """
    weights = np.empty((len(roles), len(variants), roles.shape[-1]), np.float32)
    defined = np.empty((len(roles), len(variants)), bool)
    for column, variant in enumerate(variants):
        keep, defined[:, column] = keep_tokens(roles, variant)
        count = keep.sum(axis=-1, keepdims=True)
        if (count == 0).any():
            raise BackboneError(_empty(f"variant {variant!r}"))
        weights[:, column] = keep / count
    return weights, defined


def pool_states(states: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Mean of the kept tokens, (D,) float32. states: (L, D); keep: (L,) bool. Raises BackboneError for an empty mask."""
    keep = np.asarray(keep, bool)
    if keep.shape != states.shape[:1]:
        raise BackboneError(f"The mask has shape {keep.shape}; expected one entry for each of {len(states)} tokens.")
    if not keep.any():
        raise BackboneError(_empty("the mask"))
    return states[keep].mean(axis=0, dtype=np.float64).astype(np.float32)


def check_variants(variants: Sequence[str], available: Sequence[str], owner: str) -> None:
    """Raise BackboneError unless every variant exists for this backbone; the message names those that do."""
    for variant in variants:
        if variant not in available:
            raise BackboneError(
                f"{owner} has no pooling variant {variant!r}; expected one of {', '.join(available)}."
                + (
                    " A dual encoder gives one vector a sample, so there are no tokens to mask."
                    if variant in VARIANTS
                    else ""
                )
            )


def _rule(variant: str) -> Variant:
    if variant not in VARIANTS:
        raise BackboneError(f"No pooling variant is called {variant!r}; expected one of {', '.join(VARIANTS)}.")
    return VARIANTS[variant]


def _empty(what: str) -> str:
    return f"After {what} no token is left to pool; keep at least one token, for example of the template."
