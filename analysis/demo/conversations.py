"""Token sequences for the next-token training of multimodal language models: a user turn and a short answer.

Kinds of conversation (U = the user turn opens, V = a picture's tokens; how both are written says `anatomy.Turns`):
describe       U V "Describe the image."                     -> a caption
name_image     U V "Summarize the above image in one word: " -> the main noun
name_text      U caption "Summarize the above sentence ..."  -> the main noun
name_both      U V caption "Summarize above image and ..."   -> the main noun
describe_tags  U shuffled words "Describe the image."        -> a caption (a picture stands where the words stand here)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from analysis.data.emoji_arrays import EmojiSplit
from analysis.data.emoji_grounds import GROUNDS
from analysis.data.emoji_vocabulary import vocabulary
from analysis.demo.anatomy import Batch, Turns, encoded
from analysis.demo.architectures import DESCRIBE, INSTRUCTIONS

KINDS = ("describe", "name_image", "name_text", "name_both", "describe_tags")
WITH_IMAGE = ("describe", "name_image", "name_both")
IGNORED = -100  # label of tokens without a loss


def caption_tokens(tokenizer: PreTrainedTokenizerBase, split: EmojiSplit) -> list[list[list[int]]]:
    """The five captions of every scene as token ids."""
    flat = tokenizer(split.captions_flat(), add_special_tokens=False).input_ids
    return [flat[i : i + 5] for i in range(0, len(flat), 5)]


class Conversations:
    """Tokenised captions, nouns and phrases of a split, put together to batches."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, split: EmojiSplit, turns: Turns):
        self.tokenizer = tokenizer
        self.captions = caption_tokens(tokenizer, split)
        words = [*vocabulary(), *(ground.name for ground in GROUNDS)]
        self.words = dict(zip(words, encoded(tokenizer, [f" {word}" for word in words]), strict=True))
        self.scenes = split.scenes
        self.pad = tokenizer.pad_token_id
        parts = (turns.before, turns.picture, turns.after, turns.asked, turns.closed, turns.end, DESCRIBE)
        self.before, self.image, self.after, self.asked, self.closed, self.end, self.describe = encoded(
            tokenizer, parts
        )
        self.instructions = {modality: encoded(tokenizer, sentences) for modality, sentences in INSTRUCTIONS.items()}
        (self.image_token,) = encoded(tokenizer, [turns.image_token])[0]
        self.image_start = len(self.before) + self.image.index(self.image_token)

    def batch(
        self,
        indices: np.ndarray,
        kinds: Iterable[str],
        rng: np.random.Generator,
        *,
        predict_user_text: bool = False,
        predict_pictures: bool = False,
        causal: bool = False,
    ) -> Batch:
        """One conversation a sample. predict_user_text: the loss also covers what the user wrote, not the answer only
        (the way a language model learns from plain text); predict_pictures: also the tokens of pictures. causal: no
        architecture reads the prompt in both directions."""
        kinds = list(kinds)
        rows = [self._conversation(int(i), kind, rng) for i, kind in zip(indices, kinds, strict=True)]
        has_image = np.array([kind in WITH_IMAGE for kind in kinds])
        tokens = self._padded([user + closed_answer for user, closed_answer in rows])
        labels = np.full(tokens.shape, IGNORED, np.int64)
        for row, (user, closed_answer) in enumerate(rows):
            answer, end = len(user) + len(self.closed), len(user) + len(closed_answer)
            labels[row, answer:end] = tokens[row, answer:end]
            if predict_user_text:
                start = len(self.before) + (len(self.image) if has_image[row] else 0) + len(self.after)
                labels[row, start : len(user)] = tokens[row, start : len(user)]
        if predict_pictures:
            labels[tokens == self.image_token] = self.image_token
        prefix = [0 if causal else len(user) + len(self.closed) for user, _ in rows]
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(labels),
            torch.tensor(prefix),
            torch.from_numpy(has_image),
            np.asarray(indices)[has_image],
            self.image_start,
        )

    def prompts(self, texts: Sequence[list[int]] = (), pictures: np.ndarray | None = None) -> Batch:
        """What is asked of texts, or of the pictures of some samples, where nobody answers: the prompts whose states are
        pooled. `prefix` is all of it."""
        if pictures is None:
            said = [[*self.after, *text, *self.instructions["text"][0]] for text in texts]
        else:
            said = [self.image + self.after + self.instructions["image"][0]] * len(pictures)
        rows = [self.before + words + self.asked for words in said]
        tokens = self._padded(rows)
        return Batch(
            torch.from_numpy(tokens),
            torch.full(tokens.shape, IGNORED),
            torch.tensor([len(row) for row in rows]),
            torch.full((len(rows),), pictures is not None),
            np.empty(0, int) if pictures is None else pictures,
            self.image_start,
        )

    def _padded(self, rows: Sequence[list[int]]) -> np.ndarray:
        tokens = np.full((len(rows), max(map(len, rows))), self.pad, np.int64)
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = ids
        return tokens

    def _conversation(self, index: int, kind: str, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        caption = self.captions[index][rng.integers(5)]
        noun = self.words[self.scenes[index].objects[0]]
        if kind == "describe":
            said, answer = self.describe, caption
        elif kind == "describe_tags":
            said, answer = self._tags(index, rng) + self.describe, caption
        elif kind == "name_image":
            said, answer = self._instruction("image", rng), noun
        elif kind == "name_text":
            said, answer = caption + self._instruction("text", rng), noun
        else:
            said, answer = caption + self._instruction("image_text", rng), noun
        image = self.image if kind in WITH_IMAGE else []
        return self.before + image + self.after + said, self.closed + answer + self.end

    def _instruction(self, modality: str, rng: np.random.Generator) -> list[int]:
        variants = self.instructions[modality]
        return variants[rng.integers(len(variants))] if len(variants) > 1 else variants[0]

    def _tags(self, index: int, rng: np.random.Generator) -> list[int]:
        """Objects and ground in any order, each group once or twice: a sentence must be made of an unordered set."""
        scene = self.scenes[index]
        words = list(scene.objects) * int(rng.integers(1, 3)) + [scene.ground.name] * int(rng.integers(1, 3))
        rng.shuffle(words)
        return [token for word in words for token in self.words[word]][:20]
