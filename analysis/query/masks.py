"""Which tokens of a query are pooled: whole roles and single positions left out, as data with one text form."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.errors import BackboneError
from analysis.models.pooling import VARIANTS, Role, keep_tokens

ROLE_NAMES = {Role.TEMPLATE: "template", Role.IMAGE: "image", Role.TEXT: "text", Role.INSTRUCTION: "instruction"}
_ROLES = {name: role for role, name in ROLE_NAMES.items()}
POOLINGS = ("mean", "last")
LONGEST = 4000  # characters of a text form
LAST_TOKEN = 65_535  # no model here reads as many
_ROWS = 3  # equal spans at equal distances that a text form writes as one
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
    role), so that patch 5 stays patch 5 whatever text stands before it. kept: the same the other way round, of these roles
    nothing but these tokens is pooled. The text form lists them, e.g. `instruction,image.4-7,text.0,51`, `image.!4-7` for
    everything of the picture but patches 4 to 7, `image.4-7/16x3` for the rectangle 4-7, 20-23, 36-39, and `last` for the
    pooling; the empty text masks nothing.
    """

    roles: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    pooling: str = "mean"
    parts: tuple[tuple[str, int], ...] = ()
    kept: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted({*self.roles, *(role for role, _ in (*self.parts, *self.kept))} - set(ROLE_NAMES.values()))
        if unknown:
            raise BackboneError(
                f"A mask names the role {unknown[0][:80]!r}; expected one of {', '.join(ROLE_NAMES.values())}."
            )
        if self.pooling not in POOLINGS:
            raise BackboneError(f"Pooling is {self.pooling!r}; expected one of {', '.join(POOLINGS)}.")
        order = list(ROLE_NAMES.values())
        kept = {(role, int(number)) for role, number in self.kept}
        single = {(role, int(number)) for role, number in self.parts}
        kept_of = {role for role, _ in kept}
        kept -= single
        roles = {*self.roles, *(kept_of - {role for role, _ in kept})}  # nothing of them is left to keep
        of = {"parts": {part for part in single if part[0] not in roles | kept_of}, "kept": kept}
        object.__setattr__(self, "roles", tuple(sorted(roles, key=order.index)))
        object.__setattr__(self, "tokens", tuple(sorted({int(token) for token in self.tokens})))
        for name, found in of.items():
            left = (part for part in found if part[0] not in roles)
            object.__setattr__(self, name, tuple(sorted(left, key=lambda part: (order.index(part[0]), part[1]))))

    def __bool__(self) -> bool:
        return bool(self.roles or self.tokens or self.parts or self.kept or self.pooling != "mean")

    @property
    def spec(self) -> str:
        words = [*self.roles]
        for sign, found in (("", self.parts), ("!", self.kept)):
            for role in dict.fromkeys(role for role, _ in found):
                words += [f"{role}.{sign}{span}" for span in _ranges(number for name, number in found if name == role)]
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
        for role in dict.fromkeys(role for role, _ in self.kept):
            count = sum(name == role for name, _ in self.kept)
            what = ("patch" if count == 1 else "patches") if role == "image" else f"{role} token{'s' * (count > 1)}"
            parts.append(f"all but {count} {what} masked")
        return ", ".join([*parts, "last token"] if self.pooling == "last" else parts)

    def masked(self, roles: np.ndarray) -> np.ndarray:
        """(L,) bool: which tokens the mask leaves out. roles: (L,) of Role. BackboneError for a position beyond L."""
        beyond = [token for token in self.tokens if not 0 <= token < len(roles)]
        if beyond:
            raise BackboneError(
                f"The mask names token {beyond[0]}, the query has tokens 0 to {len(roles) - 1}; choose among those."
            )
        hidden = np.isin(roles, [role for role, name in ROLE_NAMES.items() if name in self.roles])
        hidden |= np.isin(roles, [_ROLES[role] for role, _ in self.kept])
        for found, hides in ((self.kept, False), (self.parts, True)):
            for role, number in found:
                of_role = np.flatnonzero(roles == _ROLES[role])
                if number >= len(of_role):
                    raise BackboneError(
                        f"The mask names {role}.{number}, the query has {len(of_role)} such tokens; choose among those."
                    )
                hidden[of_role[number]] = hides
        hidden[list(self.tokens)] = True
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
        mine, others = ({role for role, _ in mask.kept} for mask in (self, other))
        both = {*self.kept} & {*other.kept}
        nothing = (mine & others) - {role for role, _ in both}
        kept = {part for part in (*self.kept, *other.kept) if part[0] not in mine & others} | both
        return TokenMask(
            (*self.roles, *other.roles, *nothing), (*self.tokens, *other.tokens), pooling,
            (*self.parts, *other.parts), tuple(kept),
        )  # fmt: skip

    def acting_on(self, roles: np.ndarray) -> TokenMask:
        """The same without roles that no token has: what may be said to be left out."""
        present = {name for role, name in ROLE_NAMES.items() if (roles == role).any()}
        return replace(self, roles=tuple(role for role in self.roles if role in present))

    def toggled(self, positions: Iterable[int], mask: bool, roles: np.ndarray) -> TokenMask:
        """The mask after some positions were masked (or unmasked). Roles that are masked whole are written as roles, single
        tokens by their number within their role; a role of which only some are kept still names those."""
        hidden = self.masked(roles)
        hidden[[position for position in positions if 0 <= position < len(roles)]] = mask
        return mask_hiding(hidden, roles, self.pooling, {role for role, _ in self.kept})

    def inverted(self, role: str, roles: np.ndarray) -> TokenMask:
        """The same with what is left out of one role and what is pooled of it exchanged: everything but a region of the
        picture instead of the region."""
        hidden, of_role = self.masked(roles), roles == _ROLES[role]
        hidden[of_role] = ~hidden[of_role]
        kept = {name for name, _ in self.kept} ^ {role}
        return mask_hiding(hidden, roles, self.pooling, kept)


NO_MASK = TokenMask()


def mask_hiding(hidden: np.ndarray, roles: np.ndarray, pooling: str = "mean", kept: Collection[str] = ()) -> TokenMask:
    """The mask that leaves out these tokens. hidden: (L,) bool; roles: (L,) of Role. Roles that are left out whole are written
    as roles; kept: roles of which it names what is pooled."""
    whole = [role for role in ROLE_NAMES if (roles == role).any() and hidden[roles == role].all()]
    named = {
        hides: tuple(
            (name, int(number))
            for role, name in ROLE_NAMES.items()
            if role not in whole and (name in kept) != hides and hidden[roles == role].any()
            for number in np.flatnonzero(hidden[roles == role] == hides)
        )
        for hides in (True, False)
    }
    padding = np.flatnonzero(hidden & ~np.isin(roles, list(ROLE_NAMES)))
    names = tuple(ROLE_NAMES[role] for role in whole)
    return TokenMask(names, tuple(padding.tolist()), pooling, named[True], named[False])


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
    parts: dict[str, set[tuple[str, int]]] = {"": set(), "!": set()}
    pooling = "mean"
    for word in (part.strip() for part in text.split(",")):
        span = re.fullmatch(
            r"(?:(?P<role>[a-z]{1,20})\.(?P<kept>!?))?(?P<first>[0-9]{1,6})(?:-(?P<last>[0-9]{1,6}))?"
            r"(?:/(?P<step>[0-9]{1,6})x(?P<times>[0-9]{1,6}))?",
            word,
        )
        if span:
            numbers = _numbers(int(span["first"]), span["last"], span["step"], span["times"])
            if span["role"]:
                parts[span["kept"]].update((span["role"], number) for number in numbers)
            else:
                tokens.update(numbers)
        elif word == "last":
            pooling = "last"
        elif word:
            roles.append(word)
    return TokenMask(tuple(roles), tuple(tokens), pooling, tuple(parts[""]), tuple(parts["!"]))


def _numbers(first: int, last: str | None, step: str | None, times: str | None) -> set[int]:
    """What `first-last/step x times` counts: the span, and with a step as many of it, each that much further on."""
    end, stride, count = int(last or first), int(step or 1), int(times or 1)
    beyond = max(first, end) + stride * max(0, count - 1)
    if beyond > LAST_TOKEN:
        raise BackboneError(f"The mask names token {beyond:,}; expected one from 0 to {LAST_TOKEN:,}.")
    if step and stride <= end - first:
        raise BackboneError(
            f"The mask repeats {first}-{end} every {stride} tokens, where it overlaps itself; expected a step of at least "
            f"{end - first + 1}."
        )
    return {number + stride * row for row in range(count) for number in range(first, end + 1)}


def _ranges(tokens: Iterable[int]) -> list[str]:
    """3,4,5,9 -> ["3-5", "9"]; a rectangle of patches, which is one span row by row: 4-7,20-23,36-39 -> ["4-7/16x3"]."""
    spans: list[list[int]] = []
    for token in tokens:
        if spans and token == spans[-1][1] + 1:
            spans[-1][1] = token
        else:
            spans.append([token, token])
    words, at = [], 0
    while at < len(spans):
        first, last = spans[at]
        step = spans[at + 1][0] - first if at + 1 < len(spans) else 0
        count = 1
        while at + count < len(spans) and spans[at + count] == [first + count * step, last + count * step]:
            count += 1
        word = str(first) if first == last else f"{first}-{last}"
        if count >= _ROWS:
            word, at = f"{word}/{step}x{count}", at + count - 1
        words.append(word)
        at += 1
    return words
