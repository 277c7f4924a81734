"""Which tokens of a query are pooled: whole roles and single positions left out, as data with one text form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.errors import BackboneError
from analysis.models.pooling import VARIANTS, Role, keep_tokens

ROLE_NAMES = {Role.TEMPLATE: "template", Role.IMAGE: "image", Role.TEXT: "text", Role.INSTRUCTION: "instruction"}
_ROLES = {name: role for role, name in ROLE_NAMES.items()}
POOLINGS = ("mean", "last")
LONGEST = 4000  # characters of a text form
LAST_TOKEN = 65_535  # no model here reads as many
# The masks of the paper's Fig. 4 as sets of roles.
QUICK_MASKS = {
    "w/o image": ("image",),
    "w/o prompt": ("text", "instruction"),
    "w/o instruction": ("instruction",),
    "w/o template": ("template",),
}


@dataclass(frozen=True)
class TokenMask:
    """Tokens that pooling leaves out: every token of `roles`, single ones of a role in `parts`, and the positions in `tokens`
    (0 = first token).

    pooling "mean": the mean of what is left; "last": its last token. parts: (role, number of the token among those of its
    role), so that patch 5 stays patch 5 whatever text stands before it. The text form lists them, e.g.
    `instruction,image.4-7,text.0,51`, and `last` for the pooling; the empty text masks nothing.
    """

    roles: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    pooling: str = "mean"
    parts: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted({*self.roles, *(role for role, _ in self.parts)} - set(ROLE_NAMES.values()))
        if unknown:
            raise BackboneError(
                f"A mask names the role {unknown[0][:80]!r}; expected one of {', '.join(ROLE_NAMES.values())}."
            )
        if self.pooling not in POOLINGS:
            raise BackboneError(f"Pooling is {self.pooling!r}; expected one of {', '.join(POOLINGS)}.")
        order = list(ROLE_NAMES.values())
        object.__setattr__(self, "roles", tuple(sorted(set(self.roles), key=order.index)))
        object.__setattr__(self, "tokens", tuple(sorted({int(token) for token in self.tokens})))
        single = {(role, int(number)) for role, number in self.parts if role not in self.roles}
        object.__setattr__(self, "parts", tuple(sorted(single, key=lambda part: (order.index(part[0]), part[1]))))

    def __bool__(self) -> bool:
        return bool(self.roles or self.tokens or self.parts or self.pooling != "mean")

    @property
    def spec(self) -> str:
        words = [*self.roles]
        for role in dict.fromkeys(role for role, _ in self.parts):
            words += [f"{role}.{span}" for span in _ranges(number for name, number in self.parts if name == role)]
        words += _ranges(self.tokens)
        return ",".join([*words, "last"] if self.pooling == "last" else words)

    @property
    def label(self) -> str:
        parts = [f"w/o {' and '.join(self.roles)}"] if self.roles else []
        patches = sum(role == "image" for role, _ in self.parts)
        for count, what in (
            (patches, "patch" if patches == 1 else "patches"),
            (single := len(self.tokens) + len(self.parts) - patches, "token" if single == 1 else "tokens"),
        ):
            if count:
                parts.append(f"{count} {what} masked")
        return ", ".join([*parts, "last token"] if self.pooling == "last" else parts)

    def masked(self, roles: np.ndarray) -> np.ndarray:
        """(L,) bool: which tokens the mask leaves out. roles: (L,) of Role. BackboneError for a position beyond L."""
        beyond = [token for token in self.tokens if not 0 <= token < len(roles)]
        if beyond:
            raise BackboneError(
                f"The mask names token {beyond[0]}, the query has tokens 0 to {len(roles) - 1}; choose among those."
            )
        hidden = np.isin(roles, [role for role, name in ROLE_NAMES.items() if name in self.roles])
        hidden[list(self.tokens)] = True
        for role, number in self.parts:
            of_role = np.flatnonzero(roles == _ROLES[role])
            if number >= len(of_role):
                raise BackboneError(
                    f"The mask names {role}.{number}, the query has {len(of_role)} such tokens; choose among those."
                )
            hidden[of_role[number]] = True
        return hidden

    def keep(self, roles: np.ndarray) -> np.ndarray:
        """(L,) bool: which tokens are pooled. BackboneError when none is left."""
        kept = ~self.masked(roles) & (roles != Role.PAD)
        if not kept.any():
            raise BackboneError(
                f"The mask ({self.label}) leaves no token of {len(roles)} to pool; "
                "keep at least one, for example of the template."
            )
        if self.pooling == "last":
            last = np.zeros(len(roles), bool)
            last[np.flatnonzero(kept)[-1]] = True
            return last
        return kept

    def joined(self, other: TokenMask) -> TokenMask:
        """What either of two masks leaves out; the last token of what is left where either pools that."""
        pooling = "last" if "last" in (self.pooling, other.pooling) else "mean"
        return TokenMask(
            (*self.roles, *other.roles), (*self.tokens, *other.tokens), pooling, (*self.parts, *other.parts)
        )

    def acting_on(self, roles: np.ndarray) -> TokenMask:
        """The same without roles that no token has: what may be said to be left out."""
        present = {name for role, name in ROLE_NAMES.items() if (roles == role).any()}
        return replace(self, roles=tuple(role for role in self.roles if role in present))

    def toggled(self, positions: Iterable[int], mask: bool, roles: np.ndarray) -> TokenMask:
        """The mask after some positions were masked (or unmasked). Roles that are masked whole are written as roles, single
        tokens by their number within their role."""
        hidden = self.masked(roles)
        hidden[[position for position in positions if 0 <= position < len(roles)]] = mask
        whole = [role for role in ROLE_NAMES if (roles == role).any() and hidden[roles == role].all()]
        parts = [
            (name, int(number))
            for role, name in ROLE_NAMES.items()
            if role not in whole
            for number in np.flatnonzero(hidden[roles == role])
        ]
        padding = np.flatnonzero(hidden & ~np.isin(roles, list(ROLE_NAMES)))
        return TokenMask(tuple(ROLE_NAMES[role] for role in whole), tuple(padding.tolist()), self.pooling, tuple(parts))


NO_MASK = TokenMask()


def mask_of(variant: str, roles: np.ndarray) -> TokenMask:
    """The mask that a stored variant ("last", "mean_no_image", ...) means for tokens of these roles: none where the
    variant says nothing of its own about them and equals the mean. BackboneError for an unknown variant."""
    if not keep_tokens(roles, variant)[1]:
        return NO_MASK
    rule = VARIANTS[variant]
    return TokenMask(tuple(ROLE_NAMES[role] for role in rule.drop), (), "last" if rule.last_only else "mean")


def variant_of(mask: TokenMask, roles: np.ndarray, variants: Sequence[str]) -> str | None:
    """The stored variant that pools the same tokens as the mask, None when there is none. Of several the one that names
    the same roles. BackboneError when the mask leaves no token."""
    keep = mask.keep(roles)
    known = sorted((v for v in variants if v in VARIANTS), key=lambda v: mask_of(v, roles) != mask)
    return next((variant for variant in known if np.array_equal(keep_tokens(roles, variant)[0], keep)), None)


def parse_mask(text: str) -> TokenMask:
    """The mask of a text form. BackboneError names the word that is neither a role nor a position."""
    if len(text) > LONGEST:
        raise BackboneError(f"The mask has {len(text):,} characters; expected at most {LONGEST:,}.")
    roles: list[str] = []
    tokens: set[int] = set()
    parts: list[tuple[str, int]] = []
    pooling = "mean"
    for word in (part.strip() for part in text.split(",")):
        span = re.fullmatch(r"(?:([a-z]{1,20})\.)?([0-9]{1,6})(?:-([0-9]{1,6}))?", word)
        if span:
            first, last = int(span[2]), int(span[3] or span[2])
            if max(first, last) > LAST_TOKEN:
                raise BackboneError(
                    f"The mask names token {max(first, last):,}; expected one from 0 to {LAST_TOKEN:,}."
                )
            numbers = range(first, last + 1)
            if span[1]:
                parts += [(span[1], number) for number in numbers]
            else:
                tokens.update(numbers)
        elif word == "last":
            pooling = "last"
        elif word:
            roles.append(word)
    return TokenMask(tuple(roles), tuple(tokens), pooling, tuple(parts))


def _ranges(tokens: Iterable[int]) -> list[str]:
    """3,4,5,9 -> ["3-5", "9"]."""
    spans: list[list[int]] = []
    for token in tokens:
        if spans and token == spans[-1][1] + 1:
            spans[-1][1] = token
        else:
            spans.append([token, token])
    return [str(first) if first == last else f"{first}-{last}" for first, last in spans]
