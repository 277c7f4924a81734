"""One sample as a row of token ids with roles, before pictures are looked at. The user's words can never become a
control token or a picture placeholder, and texts too long for the model are cut and marked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.data.samples import Sample
from analysis.errors import BackboneError
from analysis.models.pooling import Role

_CHARACTERS_PER_TOKEN = 32  # text beyond this many characters a token is cut before the tokenizer sees it
_GENTLE_ROUNDS = 3


@dataclass(frozen=True)
class Frame:
    """What stands around the text of one modality. `before` holds the placeholder when `picture` is True; `dummy` says
    that the picture is not the sample's but a black one that the model insists on."""

    before: str
    after: str
    picture: bool
    dummy: bool = False


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
        """What each token stands for, readable: the characters it covers, or its name."""
        names = tokenizer.convert_ids_to_tokens(self.ids.tolist())
        bounds = zip(_first_character(self.spans).tolist(), self.spans[:, 1].tolist(), names, strict=True)
        return [self.prompt[a:b] if b > 0 else name for a, b, name in bounds]


class RowBuilder:
    """Turns samples into rows with one tokenizer. Safe to call from several threads.

    max_tokens: limit of the user's text; positions: limit of the whole row, picture included. Tokens of the text beyond
    either are cut from its end; template and instruction stay. Control tokens are all that were added to the vocabulary
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
    ) -> None:
        self.tokenizer = tokenizer
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
        parts = list(zip(frames, texts, suffixes, strict=True))
        encoded = self._encode([frame.before + text + suffix + frame.after for frame, text, suffix in parts])
        rows = []
        for sample, cut_early, (frame, text, suffix), (ids, spans), n in zip(
            samples, cut, parts, encoded, n_image, strict=True
        ):
            text, suffix, ids, spans = self._without_controls(frame, text, suffix, ids, spans)
            roles = self._roles(ids, spans, frame, len(text), len(suffix))
            keep = self._fitting(sample, roles, n)
            truncated = cut_early or not keep.all()
            prompt = frame.before + text + suffix + frame.after
            rows.append(Row(sample, frame, ids[keep], roles[keep], spans[keep], prompt, truncated))
        return rows

    def _plain(self, sample: Sample) -> tuple[str, bool]:
        text = sample.text if "text" in sample.modality else ""
        limit = self.max_tokens * _CHARACTERS_PER_TOKEN
        return _encodable(text[:limit]), len(text) > limit

    def _encode(self, prompts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        with self._lock:
            encoded = self.tokenizer(
                prompts,
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
        self, frame: Frame, text: str, suffix: str, ids: np.ndarray, spans: np.ndarray
    ) -> tuple[str, str, np.ndarray, np.ndarray]:
        """Break up strings of the user that the tokenizer took for control tokens: "<|im_end|>" -> "< |im_end|>".
        A string that survives three rounds of that is deleted, so the loop ends."""
        rounds = 0
        while True:
            start = len(frame.before)
            first, end = _first_character(spans), start + len(text) + len(suffix)
            hits = np.isin(ids, self._control) & (first >= start) & (first < end)
            if not hits.any():
                return text, suffix, ids, spans
            words = text + suffix
            boundary = len(text)
            for a, b in sorted({(int(a) - start, int(b) - start) for a, b in spans[hits]}, reverse=True):
                piece = words[a] + " " + words[a + 1 : b] if rounds < _GENTLE_ROUNDS else ""
                words = words[:a] + piece + words[b:]
                boundary += (len(piece) - (b - a)) if a < boundary else 0
            boundary = max(boundary, 0)
            text, suffix = words[:boundary], words[boundary:]
            ids, spans = self._encode([frame.before + words + frame.after])[0]
            rounds += 1

    def _roles(self, ids: np.ndarray, spans: np.ndarray, frame: Frame, n_text: int, n_suffix: int) -> np.ndarray:
        """A token belongs where its first character lies. The prompt's placeholder is not repeated yet, so positions
        do not depend on the picture's size."""
        start = len(frame.before)
        first = _first_character(spans)
        roles = np.full(len(ids), Role.TEMPLATE, np.int8)
        roles[(first >= start) & (first < start + n_text)] = Role.TEXT
        roles[(first >= start + n_text) & (first < start + n_text + n_suffix)] = Role.INSTRUCTION
        if frame.picture:
            roles[ids == self.image_token_id] = Role.IMAGE
        return roles

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


def _first_character(spans: np.ndarray) -> np.ndarray:
    """Where a token begins. A tokenizer that trims spaces gives a lone space an empty span after it, and a token that
    it added by itself the span (0, 0): both come out right one character before the span's end."""
    return np.minimum(spans[:, 0], spans[:, 1] - 1)


def _encodable(text: str) -> str:
    """`text` without lone surrogates, which no tokenizer accepts."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
