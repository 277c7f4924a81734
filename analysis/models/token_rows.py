"""One sample as a row of token ids with roles, before pictures are looked at. The user's words can never become a
control token or a picture placeholder, and texts too long for the model are cut and marked."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from analysis.data.samples import Sample
from analysis.errors import BackboneError
from analysis.models.pooling import Role

_CHARACTERS_PER_TOKEN = 32  # text beyond this many characters a token is cut before the tokenizer sees it
_GENTLE_ROUNDS = 3
CONTINUED = "⋯"  # stands for a token that holds further bytes of the character before it

Segments = list[tuple[str, Role]]


@dataclass(frozen=True)
class Frame:
    """What stands around the words of one modality: before, the text, the instruction, after. Where `between` is not None
    the instruction stands first: before, instruction, between, text, after. The placeholder is in `before` or `between`
    when `picture` is True; `dummy` says that the picture is not the sample's but a black one that the model insists on;
    `trims`, that the chat template takes white space off both ends of a message."""

    before: str
    after: str
    picture: bool
    dummy: bool = False
    trims: bool = False
    between: str | None = None

    def segments(self, text: str, instruction: str) -> list[tuple[str, Role]]:
        """The prompt in pieces, each with the role of its tokens."""
        words = [(text, Role.TEXT), (instruction, Role.INSTRUCTION)]
        if self.between is not None:
            words = [words[1], (self.between, Role.TEMPLATE), words[0]]
        elif self.trims:
            words = _trimmed(text, instruction)
        return [(self.before, Role.TEMPLATE), *words, (self.after, Role.TEMPLATE)]


@dataclass(frozen=True)
class Row:
    """A tokenised sample. A picture is one IMAGE token here; it is repeated once the number of patches is known."""

    sample: Sample
    frame: Frame
    ids: np.ndarray  # (L,) int64
    roles: np.ndarray  # (L,) int8
    spans: np.ndarray  # (L, 2) characters of `prompt`; empty for tokens that the tokenizer added
    prompt: str
    truncated: bool

    @property
    def n_text(self) -> int:
        return len(self.ids) - int(self.frame.picture)

    def without_tokens(self) -> Row:
        """The same sample with no text side at all."""
        return replace(self, ids=self.ids[:0], roles=self.roles[:0], spans=self.spans[:0])

    def strings(self, tokenizer: Any) -> list[str]:
        """What each token stands for, readable: the characters it covers, or its name. A character that several tokens share,
        as most emoji are, stands at the first of them, CONTINUED at the others."""
        names = tokenizer.convert_ids_to_tokens(self.ids.tolist())
        found, end = [], 0
        for start, stop, name in zip(
            _first_character(self.spans).tolist(), self.spans[:, 1].tolist(), names, strict=True
        ):
            if stop <= 0:
                found.append(name)
                continue
            while stop < len(self.prompt) and unicodedata.combining(self.prompt[stop]):
                stop += 1  # an accent that the tokenizer composed with the letter before it
            found.append(self.prompt[max(start, end) : stop] or CONTINUED)
            end = max(end, stop)
        return found


class RowBuilder:
    """Turns samples into rows with one tokenizer. Safe to call from several threads.

    max_tokens: limit of the user's text; positions: limit of the whole row, picture included. Tokens of the text beyond
    either are cut from its end; template and instruction stay. special: the tokenizer adds its own control tokens (False
    where the prompt begins with them); lower: the user's text is lower-cased. Control tokens are all that were added to the
    vocabulary
    (markup that some tokenizers add, like Gemma's "<table>", included) and those that begin with `code_prefix`.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_token_id: int | None,
        *,
        max_tokens: int,
        positions: int,
        code_prefix: str = "",
        special: bool = True,
        lower: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.lower = lower
        self.special = special
        self.image_token_id = image_token_id
        self.max_tokens = max_tokens
        self.positions = positions
        self._lock = threading.Lock()  # a fast tokenizer raises "Already borrowed" when two threads use it
        added = tokenizer.added_tokens_decoder
        control = [i for i, token in added.items() if len(token.content) > 1 and token.content.strip(" \t\n▁")]
        if code_prefix:
            control += [i for token, i in tokenizer.get_vocab().items() if token.startswith(code_prefix)]
        self._control = np.array(sorted({*control, *([] if image_token_id is None else [image_token_id])}), np.int64)

    def build(
        self, samples: Sequence[Sample], frames: Sequence[Frame], n_image: Sequence[int], *, instructions: bool
    ) -> list[Row]:
        """One row a sample, in order. n_image: tokens that each picture will take (0 without one). instructions=False
        leaves the samples' instructions out (dual encoders). Raises BackboneError when not even the template fits."""
        if not samples:
            return []
        texts, cut = zip(*(self._plain(sample) for sample in samples), strict=True)
        suffixes = [_encodable(sample.instruction) if instructions else "" for sample in samples]
        parts = [frame.segments(text, suffix) for frame, text, suffix in zip(frames, texts, suffixes, strict=True)]
        encoded = self._encode(["".join(words for words, _ in segments) for segments in parts])
        rows = []
        for sample, frame, cut_early, segments, (ids, spans), n in zip(
            samples, frames, cut, parts, encoded, n_image, strict=True
        ):
            segments, ids, spans = self._without_controls(segments, ids, spans)
            roles = self._roles(ids, spans, segments, frame.picture)
            keep = self._fitting(sample, roles, n)
            truncated = cut_early or not keep.all()
            prompt = "".join(words for words, _ in segments)
            rows.append(Row(sample, frame, ids[keep], roles[keep], spans[keep], prompt, truncated))
        return rows

    def _plain(self, sample: Sample) -> tuple[str, bool]:
        text = sample.text if "text" in sample.modality else ""
        limit = self.max_tokens * _CHARACTERS_PER_TOKEN
        kept = _encodable(text[:limit])
        return kept.lower() if self.lower else kept, len(text) > limit

    def _encode(self, prompts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        with self._lock:
            encoded = self.tokenizer(
                prompts,
                add_special_tokens=self.special,
                return_offsets_mapping=True,
                return_attention_mask=False,
                return_token_type_ids=False,
                padding=False,
                truncation=False,
                verbose=False,
            )
        return [
            (np.array(ids, np.int64), np.array(spans, np.int64).reshape(-1, 2))
            for ids, spans in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    def _without_controls(
        self, segments: Segments, ids: np.ndarray, spans: np.ndarray
    ) -> tuple[Segments, np.ndarray, np.ndarray]:
        """Break up strings of the user that the tokenizer took for control tokens: "<|im_end|>" -> "< |im_end|>".
        A string that survives three rounds of that is deleted, so the loop ends."""
        rounds = 0
        while True:
            own = self._segment_roles(spans, segments)
            hits = np.isin(ids, self._control) & np.isin(own, (Role.TEXT, Role.INSTRUCTION))
            if not hits.any():
                return segments, ids, spans
            prompt, bounds = "".join(words for words, _ in segments), _bounds(segments)
            for a, b in sorted({(int(a), int(b)) for a, b in spans[hits]}, reverse=True):
                piece = prompt[a] + " " + prompt[a + 1 : b] if rounds < _GENTLE_ROUNDS else ""
                prompt = prompt[:a] + piece + prompt[b:]
                bounds = [bound if bound <= a else max(bound + len(piece) - (b - a), a) for bound in bounds]
            segments = [
                (prompt[start:stop], role)
                for start, stop, (_, role) in zip(bounds[:-1], bounds[1:], segments, strict=True)
            ]
            ids, spans = self._encode([prompt])[0]
            rounds += 1

    def _roles(self, ids: np.ndarray, spans: np.ndarray, segments: Segments, picture: bool) -> np.ndarray:
        """The prompt's placeholder is not repeated yet, so positions do not depend on the picture's size."""
        roles = self._segment_roles(spans, segments)
        if picture:
            roles[ids == self.image_token_id] = Role.IMAGE
        return roles

    def _segment_roles(self, spans: np.ndarray, segments: Segments) -> np.ndarray:
        """A token belongs where its first character lies; one that runs over a border, where its first character lies that
        is no blank: " a" is a word of the text though the blank before it ends the template ("User: a cat")."""
        borders, first = _bounds(segments)[1:-1], _first_character(spans)
        place = np.searchsorted(borders, first, side="right")
        across = place != np.searchsorted(borders, np.maximum(spans[:, 1] - 1, first), side="right")
        prompt = "".join(words for words, _ in segments) if across.any() else ""
        for token in np.flatnonzero(across & (first >= 0)):
            characters = prompt[first[token] : spans[token, 1]]
            blanks = len(characters) - len(characters.lstrip()) if characters.strip() else 0
            place[token] = np.searchsorted(borders, first[token] + blanks, side="right")
        return np.array([role for _, role in segments], np.int8)[place]

    def _fitting(self, sample: Sample, roles: np.ndarray, n_image: int) -> np.ndarray:
        """(L,) bool: every token but those at the end of the user's text that do not fit."""
        is_text = roles == Role.TEXT
        fixed = int((~is_text).sum()) + max(n_image - 1, 0)
        if fixed > self.positions:
            raise BackboneError(
                f"Sample {sample.sample_id!r} takes {fixed} tokens without its text; the model has {self.positions} "
                "positions: use a smaller picture or a shorter instruction."
            )
        limit = min(self.max_tokens, self.positions - fixed)
        return ~is_text | (np.cumsum(is_text) <= limit)


def _bounds(segments: Segments) -> list[int]:
    """Where each piece begins, and where the last one ends."""
    return list(accumulate((len(words) for words, _ in segments), initial=0))


def _trimmed(text: str, instruction: str) -> Segments:
    words = text + instruction
    start, stop = len(words) - len(words.lstrip()), len(words.rstrip())
    border = min(max(len(text), start), stop)
    return [(words[start:border], Role.TEXT), (words[border:stop], Role.INSTRUCTION)]


def _first_character(spans: np.ndarray) -> np.ndarray:
    """Where a token begins. A tokenizer that trims spaces gives a lone space an empty span after it, and a token that
    it added by itself the span (0, 0): both come out right one character before the span's end."""
    return np.minimum(spans[:, 0], spans[:, 1] - 1)


def _encodable(text: str) -> str:
    """`text` without lone surrogates, which no tokenizer accepts."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
