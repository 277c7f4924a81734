"""Tiny random checkpoints of the chat models that read pictures in tiles or with markup around them, and of MetaCLIP 2; the
other half of tiny.py, imported like it inside functions only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    CLIPImageProcessor,
    CLIPProcessor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GemmaTokenizer,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from analysis.models import tiny

# The shapes of the released templates: what stands around a message, where the picture goes, what is trimmed.
SMOL_TEMPLATE = """<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}\
{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}\
{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}\
{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>
{% endfor %}"""
GEMMA_TEMPLATE = """{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}
{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<start_of_image>' }}\
{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>
{% endfor %}"""
MISTRAL_TEMPLATE = """{{ bos_token }}{% for message in messages %}[INST] {% for item in message['content'] %}\
{% if item['type'] == 'image' %}<image>
{% endif %}{% endfor %}{% for item in message['content'] %}{% if item['type'] == 'text' %}{{ item['text'] }}{% endif %}\
{% endfor %} [/INST]{% endfor %}"""
CHATML_TEMPLATE = """{% for message in messages %}<|im_start|>{{ message['role'] }}PICTURE{% for item in message['content'] %}\
{% if item['type'] == 'text' %}{{ item['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}"""
SHOWN = "{% for item in message['content'] %}{% if item['type'] == 'image' %}TOKEN\n{% endif %}{% endfor %}"

CLIP_TOWER: dict[str, Any] = {**tiny.TOWER, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
LLAMA: dict[str, Any] = {**tiny.LANGUAGE, "max_position_embeddings": 4096}


def make_metaclip_2(folder: Path, *, padding_side: str = "right") -> Path:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer: Any = _tokenizer(special, padding_side, frame="<s> $A </s>", model_max_length=77, eos_token="</s>")
    text = {
        **tiny.TOWER,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**tiny.TOWER, "hidden_size": 48, "intermediate_size": 96, "image_size": 56, "patch_size": 8}
    config = MetaClip2Config(text_config=text, vision_config=vision, projection_dim=32)
    pictures = CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    return tiny._save(folder, MetaClip2Model, config, CLIPProcessor(image_processor=pictures, tokenizer=tokenizer))


def make_qwen2_5_vl(folder: Path, *, padding_side: str = "left") -> Path:
    tokenizer: Any = tiny._qwen_tokenizer(padding_side)
    config = Qwen2_5_VLConfig(
        text_config={
            **LLAMA,
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "out_hidden_size": tiny.LANGUAGE["hidden_size"],
            "num_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 56,  # two windows a side of the largest picture, as windowed attention reorders patches
            "fullatt_block_indexes": [1],
        },
        **tiny._qwen_ids(tokenizer),
    )
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=14, size={"shortest_edge": 3136, "longest_edge": 112 * 112}),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=tiny.QWEN2_TEMPLATE,
    )
    return tiny._save(folder, Qwen2_5_VLForConditionalGeneration, config, processor)


def make_idefics3(folder: Path, *, padding_side: str = "left") -> Path:
    return _idefics(folder, padding_side, Idefics3Config, Idefics3ForConditionalGeneration)


def make_smolvlm(folder: Path, *, padding_side: str = "left") -> Path:
    return _idefics(folder, padding_side, SmolVLMConfig, SmolVLMForConditionalGeneration)


def make_gemma3(folder: Path, *, padding_side: str = "left") -> Path:
    vocabulary, merges = tiny._gemma()
    names = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer: Any = GemmaTokenizer(
        vocab=vocabulary, merges=merges, padding_side=padding_side, extra_special_tokens=names
    )
    _add(tokenizer, [*names.values(), "<start_of_turn>", "<end_of_turn>"])
    tokenizer.add_tokens([AddedToken("\n" * n, special=False, normalized=False) for n in (2, 3)])  # Gemma has 2..31
    pictures = Gemma3ImageProcessor(size={"height": 56, "width": 56}, do_pan_and_scan=False)
    processor = Gemma3Processor(pictures, tokenizer, chat_template=GEMMA_TEMPLATE, image_seq_length=16)
    config = Gemma3Config(
        text_config={
            **LLAMA,
            "head_dim": 16,
            "vocab_size": len(tokenizer),
            "query_pre_attn_scalar": 16,
            "sliding_window": 4096,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        vision_config={
            **CLIP_TOWER,
            "model_type": "siglip_vision_model",
            "image_size": 56,
            "patch_size": 7,
            "vision_use_head": False,
        },
        mm_tokens_per_image=16,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    return tiny._save(folder, Gemma3ForConditionalGeneration, config, processor)


def make_llava_next(folder: Path, *, padding_side: str = "left") -> Path:
    tokenizer: Any = _tokenizer(["<s>", "</s>", "<unk>", "<pad>", "<image>"], padding_side, frame="<s> $A")
    pinpoints = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
    pictures = LlavaNextImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
    )
    processor = LlavaNextProcessor(
        pictures,
        tokenizer,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=MISTRAL_TEMPLATE,
    )
    config = LlavaNextConfig(
        vision_config={**CLIP_TOWER, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 7},
        text_config={**LLAMA, "model_type": "mistral", "vocab_size": len(tokenizer), "sliding_window": None},
        image_grid_pinpoints=pinpoints,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    return tiny._save(folder, LlavaNextForConditionalGeneration, config, processor)


def make_llava_onevision(folder: Path, *, padding_side: str = "left") -> Path:
    tokenizer: Any = tiny._qwen_tokenizer(padding_side)
    _add(tokenizer, ["<image>", "<video>"])
    pinpoints = [[28 * r, 28 * c] for r in range(1, 5) for c in range(1, 5)]
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints),
        tokenizer,
        LlavaOnevisionVideoProcessor(),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_2",  # so that tests meet grids that are scaled down
        chat_template=CHATML_TEMPLATE.replace("PICTURE", " " + SHOWN.replace("TOKEN", "<image>")),
    )
    config = LlavaOnevisionConfig(
        vision_config={
            **CLIP_TOWER,
            "model_type": "siglip_vision_model",
            "image_size": 28,
            "patch_size": 7,
            "vision_use_head": False,
        },
        text_config={**LLAMA, "model_type": "qwen2", "vocab_size": len(tokenizer)},
        image_grid_pinpoints=pinpoints,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        vision_aspect_ratio="anyres_max_2",
    )
    return tiny._save(folder, LlavaOnevisionForConditionalGeneration, config, processor)


def make_internvl(folder: Path, *, padding_side: str = "left") -> Path:
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer: Any = tiny._qwen_tokenizer(padding_side, extra_special_tokens=names)
    _add(tokenizer, list(names.values()))
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size={"height": 28, "width": 28}, crop_to_patches=True, min_patches=1, max_patches=6),
        tokenizer,
        InternVLVideoProcessor(size={"height": 28, "width": 28}),
        image_seq_length=4,
        chat_template=CHATML_TEMPLATE.replace("PICTURE", "\n" + SHOWN.replace("TOKEN", "<IMG_CONTEXT>")),
    )
    config = InternVLConfig(
        vision_config={**CLIP_TOWER, "image_size": [28, 28], "patch_size": [7, 7]},
        text_config={**LLAMA, "model_type": "qwen2", "vocab_size": len(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    return tiny._save(folder, InternVLForConditionalGeneration, config, processor)


def _idefics(folder: Path, padding_side: str, config_class: Any, model_class: Any) -> Path:
    tags = [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)]
    special = ["<|im_start|>", "<|im_end|>", "<unk>", "<pad>", "<image>", "<fake_token_around_image>"]
    tokenizer: Any = _tokenizer(
        [*special, "<global-img>", "<end_of_utterance>", *tags], padding_side, bos_token="<|im_start|>"
    )
    sizes: dict[str, Any] = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 28}}
    common: dict[str, Any] = {"image_seq_len": 4, "chat_template": SMOL_TEMPLATE}
    if config_class is SmolVLMConfig:
        video = SmolVLMVideoProcessor(size={"longest_edge": 28}, max_image_size={"longest_edge": 28})
        processor: Any = SmolVLMProcessor(SmolVLMImageProcessor(**sizes), tokenizer, video, **common)
    else:
        processor = Idefics3Processor(Idefics3ImageProcessor(**sizes), tokenizer, **common)
    config = config_class(
        vision_config={**CLIP_TOWER, "image_size": 28, "patch_size": 7},
        text_config={**LLAMA, "model_type": "llama", "vocab_size": len(tokenizer), "pad_token_id": 3},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return tiny._save(folder, model_class, config, processor)


def _tokenizer(special: list[str], padding_side: str, *, frame: str = "", **options: Any) -> PreTrainedTokenizerFast:
    """Byte-level BPE behind any set of control tokens; `frame` is what the tokenizer adds around a text by itself."""
    from tokenizers.processors import TemplateProcessing

    vocabulary, merges = tiny._byte_level()
    shifted = {token: i for i, token in enumerate(special)} | {
        token: i + len(special) for token, i in vocabulary.items()
    }
    backend = Tokenizer(BPE(vocab=shifted, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if frame:
        named = [(token, shifted[token]) for token in frame.split() if token != "$A"]
        backend.post_processor = TemplateProcessing(single=frame, special_tokens=named)
    named_tokens: dict[str, Any] = {"bos_token": special[0], "pad_token": "<pad>", "unk_token": "<unk>", **options}
    return PreTrainedTokenizerFast(tokenizer_object=backend, padding_side=padding_side, **named_tokens)


def _add(tokenizer: Any, tokens: list[str]) -> None:
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], special_tokens=True)


MAKERS = {
    "metaclip_2": make_metaclip_2,
    "qwen2_5_vl": make_qwen2_5_vl,
    "idefics3": make_idefics3,
    "smolvlm": make_smolvlm,
    "gemma3": make_gemma3,
    "llava_next": make_llava_next,
    "llava_onevision": make_llava_onevision,
    "internvl": make_internvl,
}
