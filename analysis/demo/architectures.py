"""The two demo backbones in the standard transformers architectures, untrained, with tokenizer and processor.

Everything is small enough for two CPU cores: 112 x 112 px pictures, byte-pair vocabularies learnt from the captions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from analysis.data.emoji_grounds import SIDE
from analysis.data.emoji_vocabulary import vocabulary

# formats.md, prompts; the three image+text sentences are those of it2t/t2it, it2it and it2i
INSTRUCTIONS = {
    "image": ("\nSummarize the above image in one word: ",),
    "text": ("\nSummarize the above sentence in one word: ",),
    "image_text": (
        "\nSummarize above image and sentence in one word: ",
        "\nSummarize the above image and the sentence in one word: ",
        "\nSummarize the above image with the question in one word: ",
    ),
}
DESCRIBE = "Describe the image."
PATCH, MERGE = 14, 2
IMAGE_TOKENS = (SIDE // PATCH // MERGE) ** 2  # 16
CLIP_TOKENS = 40  # positions of the text tower

# The real Qwen2-VL template without its default system turn: 20 more tokens a sequence would cost a third of the time.
CHAT_TEMPLATE = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}<|im_end|>
{% else %}{% for content in message['content'] %}\
{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}\
<|vision_start|><|image_pad|><|vision_end|>\
{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_QWEN_SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_VOCABULARY_SIZE = 1600


def build_clip(captions: Iterable[str]) -> tuple[CLIPModel, CLIPProcessor]:
    """3.6 M parameters: ViT with patches of 16, width 192, 4 layers; text width 192, 3 layers; projection 128.

    `captions` train the tokenizer. Weights are drawn from torch's global generator: seed it first.
    """
    tokenizer = _clip_tokenizer(captions)
    width = {"hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={
            **width,
            "num_hidden_layers": 3,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CLIP_TOKENS,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**width, "num_hidden_layers": 4, "image_size": SIDE, "patch_size": 16},
        projection_dim=128,
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return CLIPModel(config), CLIPProcessor(image_processor=pictures, tokenizer=tokenizer)


def build_qwen2_vl(captions: Iterable[str]) -> tuple[Qwen2VLForConditionalGeneration, Qwen2VLProcessor]:
    """4.3 M parameters: language model of width 256, 3 layers, 4 heads over 2 key-value heads; vision tower of width
    144, depth 4, patches of 14, merged 2 x 2 to 16 image tokens. Weights as in `build_clip`."""
    tokenizer = _qwen_tokenizer(captions)
    ids = {token: tokenizer.get_vocab()[token] for token in _QWEN_SPECIAL}
    hidden, heads = 256, 4
    head = hidden // heads
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": hidden,
            "intermediate_size": 704,
            "num_hidden_layers": 3,
            "num_attention_heads": heads,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [head // 8, 3 * head // 16, 3 * head // 16],  # the real model's 16:24:24
            },
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 4,
            "embed_dim": 144,
            "hidden_size": hidden,
            "num_heads": 3,
            "mlp_ratio": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
        },
        tie_word_embeddings=True,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    # Every picture is scaled to about the area of a scene, so a square one costs 16 tokens. The upper bound has room for
    # rounding: with exactly SIDE * SIDE, a square of 300 pixels is scaled to 111.99 and loses a row and a column.
    pixels = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE + SIDE}
    pictures = Qwen2VLImageProcessor(patch_size=PATCH, size=pixels)
    processor = Qwen2VLProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    return Qwen2VLForConditionalGeneration(config), processor


def _training_text(captions: Iterable[str]) -> list[str]:
    """Captions, and often enough to become single tokens: instructions and every noun."""
    frequent = [sentence for variants in INSTRUCTIONS.values() for sentence in variants]
    frequent += [DESCRIBE, "user\nassistant\nsystem\n"]
    nouns = [f"{form} {noun.word}" for noun in vocabulary().values() for form in ("a", noun.plural)]
    return [*captions, *frequent * 50, *nouns * 50]


def _qwen_tokenizer(captions: Iterable[str]) -> Qwen2Tokenizer:
    special = {"<|endoftext|>": 256}
    base = Qwen2Tokenizer(
        vocab={**_byte_alphabet(), **special},
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        padding_side="left",
    )
    return base.train_new_from_iterator(
        _training_text(captions),
        vocab_size=_VOCABULARY_SIZE,
        new_special_tokens=[token for token in _QWEN_SPECIAL if token != "<|im_end|>"],
        show_progress=False,
    )


def _clip_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    letters = list(_byte_alphabet())
    endings = [letter + "</w>" for letter in letters]
    symbols = [*letters, *endings, "<|startoftext|>", "<|endoftext|>"]
    vocab = {symbol: i for i, symbol in enumerate(symbols)}
    base = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=CLIP_TOKENS)
    # Endings are announced, because the trainer numbers those it finds in the random order of a hash map, and because a
    # symbol that no caption ends in would become <|endoftext|>, where CLIP pools.
    trained = base.train_new_from_iterator(
        _training_text(captions),
        vocab_size=_VOCABULARY_SIZE + len(endings),
        new_special_tokens=endings,
        show_progress=False,
    )
    learnt = json.loads(trained.backend_tokenizer.to_str())["model"]
    merges: Any = [tuple(merge) for merge in learnt["merges"]]  # pairs, as tokenizers.models.BPE wants them
    return CLIPTokenizer(vocab=learnt["vocab"], merges=merges, model_max_length=CLIP_TOKENS)


def _byte_alphabet() -> dict[str, int]:
    return {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
