"""Tiny random checkpoints of every supported architecture, written with save_pretrained like the real ones: what tests
and benchmarks run where no real weights are at hand. Imports transformers: import this module inside functions only."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from tokenizers.normalizers import Replace
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    ChameleonImageProcessor,
    ChameleonProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    GemmaTokenizer,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from analysis.models.prompts import PROMPTS

CORPUS = [
    *(sentence for rules in PROMPTS.values() for sentence in rules.values()),
    "a photo of a cat on the red car",
    "two dogs play in the snow near a blue house",
    "A man, riding a horse! 0123456789",
    "system You are a helpful assistant. user assistant",
] * 5

# In the order of the released vocabularies, whose first of these has id 151643.
QWEN_SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *(f"<|{what}_{end}|>" for what in ("object_ref", "box", "quad", "vision") for end in ("start", "end")),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
]
SYSTEM_TURN = """{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}"""
QWEN3_TEMPLATE = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}<|im_end|>
{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
QWEN2_TEMPLATE = QWEN3_TEMPLATE.replace("<|im_start|>{{ message", SYSTEM_TURN + "<|im_start|>{{ message", 1)

LANGUAGE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def make_clip(folder: Path, *, padding_side: str = "right") -> Path:
    vocabulary, merges = _byte_level(size=800, end_of_word="</w>")
    vocabulary = dict(vocabulary)
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[token] = len(vocabulary)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, padding_side=padding_side)
    text = {
        **TOWER,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**TOWER, "hidden_size": 48, "intermediate_size": 96, "image_size": 56, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    pictures = CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    return _save(folder, CLIPModel, config, CLIPProcessor(image_processor=pictures, tokenizer=tokenizer))


def make_siglip(folder: Path, *, padding_side: str = "right") -> Path:
    tokenizer, text = _siglip_text(padding_side)
    vision = {**TOWER, "image_size": 64, "patch_size": 16}
    pictures = SiglipImageProcessor(size={"height": 64, "width": 64})
    config = SiglipConfig(text_config=text, vision_config=vision)
    return _save(folder, SiglipModel, config, SiglipProcessor(image_processor=pictures, tokenizer=tokenizer))


def make_siglip2_naflex(folder: Path, *, padding_side: str = "right") -> Path:
    tokenizer, text = _siglip_text(padding_side)
    config = Siglip2Config(text_config=text, vision_config={**TOWER, "patch_size": 16, "num_patches": 16})
    pictures = Siglip2ImageProcessor(patch_size=16, max_num_patches=16)
    return _save(folder, Siglip2Model, config, Siglip2Processor(image_processor=pictures, tokenizer=tokenizer))


def make_qwen2_vl(folder: Path, *, padding_side: str = "left") -> Path:
    tokenizer = _qwen_tokenizer(padding_side)
    config = Qwen2VLConfig(
        text_config={
            **LANGUAGE,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": LANGUAGE["hidden_size"],
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        **_qwen_ids(tokenizer),
    )
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=14, size={"shortest_edge": 3136, "longest_edge": 112 * 112}),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=QWEN2_TEMPLATE,
    )
    return _save(folder, Qwen2VLForConditionalGeneration, config, processor)


def make_qwen3_vl(folder: Path, *, padding_side: str = "right") -> Path:
    tokenizer = _qwen_tokenizer(padding_side)
    config = Qwen3VLConfig(
        text_config={
            **LANGUAGE,
            "head_dim": 16,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": LANGUAGE["hidden_size"],
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **_qwen_ids(tokenizer),
    )
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            patch_size=16,
            size={"shortest_edge": 4096, "longest_edge": 128 * 128},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=QWEN3_TEMPLATE,
    )
    return _save(folder, Qwen3VLForConditionalGeneration, config, processor)


def make_paligemma(folder: Path, *, padding_side: str = "left") -> Path:
    vocabulary, merges = _gemma()
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges, padding_side=padding_side)
    pictures: Any = SiglipImageProcessor(size={"height": 56, "width": 56}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    pictures.image_seq_length = 16
    processor = PaliGemmaProcessor(image_processor=pictures, tokenizer=tokenizer)
    hidden = LANGUAGE["hidden_size"]
    config = PaliGemmaConfig(
        text_config={
            **LANGUAGE,
            "model_type": "gemma2",
            "head_dim": 16,
            "vocab_size": len(tokenizer),
            "query_pre_attn_scalar": 16,
            "sliding_window": 4096,
            "max_position_embeddings": 4096,
        },
        vision_config={
            **TOWER,
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "image_size": 56,
            "patch_size": 14,
            "vision_use_head": False,
            "projection_dim": hidden,
        },
        image_token_index=processor.image_token_id,
        projection_dim=hidden,
        hidden_size=hidden,
    )
    return _save(folder, PaliGemmaForConditionalGeneration, config, processor)


def chameleon_tokenizer(backend: Tokenizer, n_codes: int, *, padding_side: str = "left") -> PreTrainedTokenizerFast:
    """Byte-level pieces with the special tokens of the real one, and a token for each code of a picture, whose name spells
    its number in letters."""
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<image>", "<racm3:break>", "<eoss>", "<reserved08706>"]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    letters = str.maketrans("0123456789", "ABCDEFGHIJ")
    backend.add_tokens([f"IMGIMG{str(code).translate(letters)}Z" for code in range(n_codes)])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        sep_token="<reserved08706>",
        padding_side=padding_side,
        extra_special_tokens={"image_token": "<image>", "boi_token": "<racm3:break>", "eoi_token": "<eoss>"},
    )


def make_chameleon(folder: Path, *, padding_side: str = "left") -> Path:
    side, n_codes = 64, 32
    vocabulary, merges = _byte_level()
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = chameleon_tokenizer(backend, n_codes, padding_side=padding_side)
    config = ChameleonConfig(
        **LANGUAGE,
        vocab_size=len(tokenizer),
        vocabulary_map=tokenizer.get_vocab(),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        max_position_embeddings=4096,
        vq_config={
            "resolution": side,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1, 1],
            "num_res_blocks": 1,
            "embed_dim": 16,
            "latent_channels": 32,
            "num_embeddings": n_codes,
            "attn_type": "vanilla",
        },
    )
    pictures = ChameleonImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = ChameleonProcessor(image_processor=pictures, tokenizer=tokenizer, image_seq_length=(side // 16) ** 2)
    return _save(folder, ChameleonForConditionalGeneration, config, processor)


MAKERS: dict[str, Callable[..., Path]] = {
    "clip": make_clip,
    "siglip": make_siglip,
    "siglip2": make_siglip2_naflex,
    "qwen2_vl": make_qwen2_vl,
    "qwen3_vl": make_qwen3_vl,
    "paligemma": make_paligemma,
    "chameleon": make_chameleon,
}


def _save(folder: Path, model_class: Any, config: Any, processor: Any) -> Path:
    torch.manual_seed(0)
    model = model_class(config)
    with torch.no_grad():
        for weight in model.parameters():  # Gemma 3's projection starts at zero, which would hide every picture
            if weight.ndim > 1 and not weight.any():
                weight.normal_(std=weight.shape[0] ** -0.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@cache  # training breaks ties differently each time; two checkpoints of one architecture must share a vocabulary
def _byte_level(size: int = 420, end_of_word: str = "") -> tuple[dict[str, int], Any]:
    tokenizer = Tokenizer(BPE(end_of_word_suffix=end_of_word) if end_of_word else BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    options: dict[str, Any] = {"end_of_word_suffix": end_of_word} if end_of_word else {}
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, **options
    )
    last_bytes = [chr(code) for code in (*range(33, 127), *range(0x4E00, 0x4E40))]  # every byte once at a word's end
    tokenizer.train_from_iterator([*CORPUS, *last_bytes], trainer)
    return _trained(tokenizer)


@cache
def _gemma(size: int = 330) -> tuple[dict[str, int], Any]:
    tokenizer = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "\n"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS + [line.lower() for line in CORPUS], trainer)
    return _trained(tokenizer)


def _trained(tokenizer: Tokenizer) -> tuple[dict[str, int], Any]:
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    return dict(model["vocab"]), merges


def _siglip_text(padding_side: str) -> tuple[Siglip2Tokenizer, dict[str, Any]]:
    vocabulary, merges = _gemma()
    tokenizer = Siglip2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=64, padding_side=padding_side)
    return tokenizer, {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 64}


def _qwen_tokenizer(padding_side: str, **options: Any) -> Qwen2Tokenizer:
    vocabulary, merges = _byte_level()
    vocabulary = vocabulary | {token: len(vocabulary) + i for i, token in enumerate(QWEN_SPECIAL)}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        padding_side=padding_side,
        **options,
    )
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in QWEN_SPECIAL], special_tokens=True
    )
    return tokenizer


def _qwen_ids(tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {field: tokenizer.convert_tokens_to_ids(token) for field, token in names.items()}
