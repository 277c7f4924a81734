"""Token sequences for the next-token training of qwen2-vl-mini: a user turn and a short answer.

Kinds of conversation (U = the user turn opens, V = 9 image tokens between their markers):
describe       U V "Describe the image."                     -> a caption
name_image     U V "Summarize the above image in one word: " -> the main noun
name_text      U caption "Summarize the above sentence ..."  -> the main noun
name_both      U V caption "Summarize above image and ..."   -> the main noun
describe_tags  U shuffled words "Describe the image."        -> a caption (a picture stands where the words stand here)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from analysis.data.emoji_arrays import EmojiSplit
from analysis.data.emoji_grounds import GROUNDS
from analysis.data.emoji_vocabulary import vocabulary
from analysis.demo.architectures import DESCRIBE, IMAGE_TOKENS, INSTRUCTIONS

KINDS = ("describe", "name_image", "name_text", "name_both", "describe_tags")
WITH_IMAGE = ("describe", "name_image", "name_both")
IGNORED = -100  # label of tokens without a loss
_BLOCK_SIDE = int(IMAGE_TOKENS**0.5)


@dataclass(frozen=True)
class Batch:
    """B right-padded sequences. positions: (3, B, L) M-RoPE; pictures: rows of the split, in order of their rows."""

    tokens: torch.Tensor  # (B, L) int64
    labels: torch.Tensor  # (B, L), IGNORED where nothing is predicted
    positions: torch.Tensor
    has_image: torch.Tensor  # (B,) bool
    pictures: np.ndarray


def caption_tokens(tokenizer: PreTrainedTokenizerBase, split: EmojiSplit) -> list[list[list[int]]]:
    """The five captions of every scene as token ids."""
    flat = tokenizer(split.captions_flat(), add_special_tokens=False).input_ids
    return [flat[i : i + 5] for i in range(0, len(flat), 5)]


class Conversations:
    """Tokenised captions, nouns and phrases of a split, put together to batches."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, split: EmojiSplit):
        def encode(texts: Sequence[str]) -> list[list[int]]:
            return tokenizer(list(texts), add_special_tokens=False).input_ids

        self.captions = caption_tokens(tokenizer, split)
        words = [*vocabulary(), *(ground.name for ground in GROUNDS)]
        self.words = dict(zip(words, encode([f" {word}" for word in words]), strict=True))
        self.scenes = split.scenes
        self.pad = tokenizer.pad_token_id
        opened, image, closed, describe = encode(
            [
                "<|im_start|>user\n",
                f"<|vision_start|>{'<|image_pad|>' * IMAGE_TOKENS}<|vision_end|>",
                "<|im_end|>\n<|im_start|>assistant\n",
                DESCRIBE,
            ]
        )
        self.opened, self.image, self.closed, self.describe = opened, image, closed, describe
        self.end = encode(["<|im_end|>"])[0]
        self.instructions = {modality: encode(sentences) for modality, sentences in INSTRUCTIONS.items()}
        self.image_start = len(opened) + 1  # the first image token

    def batch(
        self,
        indices: np.ndarray,
        kinds: Iterable[str],
        rng: np.random.Generator,
        *,
        predict_user_text: bool = False,
    ) -> Batch:
        """One conversation a sample. predict_user_text: the loss also covers what the user wrote, not the answer only
        (the way a language model learns from plain text)."""
        kinds = list(kinds)
        rows = [self._conversation(int(i), kind, rng) for i, kind in zip(indices, kinds, strict=True)]
        has_image = np.array([kind in WITH_IMAGE for kind in kinds])
        length = max(len(user) + len(closed_answer) for user, closed_answer in rows)
        tokens = np.full((len(rows), length), self.pad, np.int64)
        labels = np.full((len(rows), length), IGNORED, np.int64)
        for row, (user, closed_answer) in enumerate(rows):
            end = len(user) + len(closed_answer)
            tokens[row, : len(user)], tokens[row, len(user) : end] = user, closed_answer
            answer = len(user) + len(self.closed)
            labels[row, answer:end] = tokens[row, answer:end]
            if predict_user_text:
                start = len(self.opened) + (len(self.image) if has_image[row] else 0)
                labels[row, start : len(user)] = tokens[row, start : len(user)]
        positions = np.where(has_image[None, :, None], self._positions(length, image=True), self._positions(length))
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(labels),
            torch.from_numpy(positions),
            torch.from_numpy(has_image),
            np.asarray(indices)[has_image],
        )

    def _conversation(self, index: int, kind: str, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        caption = self.captions[index][rng.integers(5)]
        noun = self.words[self.scenes[index].objects[0]]
        if kind == "describe":
            user, answer = self.image + self.describe, caption
        elif kind == "describe_tags":
            user, answer = self._tags(index, rng) + self.describe, caption
        elif kind == "name_image":
            user, answer = self.image + self._instruction("image", rng), noun
        elif kind == "name_text":
            user, answer = caption + self._instruction("text", rng), noun
        else:
            user, answer = self.image + caption + self._instruction("image_text", rng), noun
        return self.opened + user, self.closed + answer + self.end

    def _instruction(self, modality: str, rng: np.random.Generator) -> list[int]:
        variants = self.instructions[modality]
        return variants[rng.integers(len(variants))] if len(variants) > 1 else variants[0]

    def _tags(self, index: int, rng: np.random.Generator) -> list[int]:
        """Objects and ground in any order, each group once or twice: a sentence must be made of an unordered set."""
        scene = self.scenes[index]
        words = list(scene.objects) * int(rng.integers(1, 3)) + [scene.ground.name] * int(rng.integers(1, 3))
        rng.shuffle(words)
        return [token for word in words for token in self.words[word]][:20]

    def _positions(self, length: int, *, image: bool = False) -> np.ndarray:
        """(3, 1, L) time, row and column as `get_rope_index` gives them: the 3 x 3 image tokens share one time step and
        the text goes on after the larger side of the grid."""
        positions = np.broadcast_to(np.arange(length), (3, length)).copy()
        if image:
            start, stop = self.image_start, self.image_start + IMAGE_TOKENS
            cell = np.arange(IMAGE_TOKENS)
            positions[:, start:stop] = start + np.stack([cell * 0, cell // _BLOCK_SIDE, cell % _BLOCK_SIDE])
            positions[:, stop:] -= IMAGE_TOKENS - _BLOCK_SIDE
        return positions[:, None]
