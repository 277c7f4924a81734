"""Released vocabularies out of packages that carry them: CLIP's byte pairs and Qwen's ranks; tests skip without them.

Only the files are read. `byte_pairs` and `by_rank` encode a text in the way the vocabularies' authors publish, as oracles of
the tokenizers that a checkpoint's folder holds.
"""

from __future__ import annotations

import base64
import gzip
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
from transformers.convert_slow_tokenizer import TikTokenConverter, bytes_to_unicode

Vocabulary = tuple[dict[str, int], list[tuple[str, str]]]
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def clip() -> Vocabulary:
    """Bytes, bytes at a word's end, 48,894 merges; the control tokens come behind."""
    packed = _file("open-clip-torch", "open_clip/bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(packed.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)]
    return {token: i for i, token in enumerate(tokens)}, merges


@cache
def qwen_ranks() -> dict[bytes, int]:
    lines = _file("dashscope", "dashscope/resources/qwen.tiktoken").read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}


@cache
def qwen() -> Vocabulary:
    """151,643 tokens; merges in the order of their ranks, by transformers' own converter."""

    class Converter(TikTokenConverter):
        load_tiktoken_bpe = staticmethod(lambda _: qwen_ranks())  # its own reader needs the tiktoken package

    return Converter().extract_vocab_merges_from_model("")


@cache
def _places(merges: tuple[tuple[str, str], ...]) -> dict[tuple[str, str], int]:
    return {pair: i for i, pair in enumerate(merges)}


def byte_pairs(text: str) -> list[int]:
    """CLIP's ids of a text without control tokens, as simple_tokenizer.py of openai/CLIP writes it out."""
    vocabulary, merges = clip()
    order, letters = _places(tuple(merges)), bytes_to_unicode()
    ids = []
    for word in regex.findall(CLIP_WORDS, " ".join(text.split()).lower()):
        parts = [letters[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while pairs := [pair for pair in pairwise(parts) if pair in order]:
            a, b = min(pairs, key=order.__getitem__)
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == (a, b):
                    parts[i : i + 2] = [a + b]
                i += 1
        ids += [vocabulary[part] for part in parts]
    return ids


def by_rank(text: str, special: dict[str, int]) -> list[int]:
    """Qwen's ids of a prompt with its control tokens, as tiktoken merges: always the pair of the lowest rank."""
    ranks, ids = qwen_ranks(), []
    for piece in regex.split("(" + "|".join(map(regex.escape, special)) + ")", text):
        if piece in special:
            ids.append(special[piece])
            continue
        for word in regex.findall(QWEN_WORDS, piece):
            parts = [bytes([byte]) for byte in word.encode()]
            while len(parts) > 1:
                joined = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
                at = min(range(len(joined)), key=joined.__getitem__)
                if joined[at] == len(ranks):
                    break
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            ids += [ranks[part] for part in parts]
    return ids


def checkpoint(architecture: str, vocabulary: Vocabulary, folder: Path) -> Path:
    """A tiny random checkpoint of an architecture with a released vocabulary in place of the small one."""
    from analysis.models import tiny, tiny_chat

    def released(*_: Any, **__: Any) -> Vocabulary:
        return vocabulary

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "_byte_level", released)
        return (tiny.MAKERS | tiny_chat.MAKERS)[architecture](folder)


def _file(package: str, path: str) -> Path:
    try:
        found = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError:
        found = Path()
    if not found.is_file():
        pytest.skip(f"{package} is not installed, which carries the vocabulary: make test installs it")
    return found
