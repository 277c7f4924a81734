"""The demo backbones in the standard transformers architectures, untrained, with tokenizer and processor.

Everything is small enough for two CPU cores: 96 x 96 px pictures, byte-pair vocabularies learnt from the captions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.normalizers import Replace
from tokenizers.trainers import BpeTrainer
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
    PreTrainedTokenizerBase,
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
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from analysis.data.emoji_grounds import SIDE
from analysis.data.emoji_vocabulary import vocabulary
from analysis.models.tiny import chameleon_tokenizer

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
PATCH, MERGE = 16, 2
PATCHES = (SIDE // PATCH) ** 2  # 36, each an image token of PaliGemma and of Chameleon
IMAGE_TOKENS = PATCHES // MERGE**2  # 9, of Qwen
CLIP_TOKENS = 40  # positions of the text tower
SIGLIP_TOKENS = 24  # longer than any caption
CODES = 512  # words that Chameleon has for a piece of a picture

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
_QWEN_WIDTH, _QWEN_HEADS = 192, 4
_VOCABULARY_SIZE = 900
_GEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "\n"]


def build_clip(captions: Iterable[str]) -> tuple[CLIPModel, CLIPProcessor]:
    """1.3 M parameters: ViT with patches of 16, 3 layers; text tower of 2 layers; both of width 128; projection 256.

    `captions` train the tokenizer. Weights are drawn from torch's global generator: seed it first.
    """
    tokenizer = _clip_tokenizer(captions)
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "hidden_act": "gelu_pytorch_tanh"}
    config = CLIPConfig(
        text_config={
            **tower,
            "num_hidden_layers": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CLIP_TOKENS,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**tower, "num_hidden_layers": 3, "image_size": SIDE, "patch_size": PATCH},
        projection_dim=256,
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return CLIPModel(config), CLIPProcessor(image_processor=pictures, tokenizer=tokenizer)


def build_siglip2(captions: Iterable[str]) -> tuple[SiglipModel, SiglipProcessor]:
    """1.4 M parameters: the towers of `build_clip` with SigLIP's attention pooling; embeddings have the towers' width, 128.
    Texts are always padded to SIGLIP_TOKENS, as the real one's are.
    """
    vocab, merges = _gemma_pieces(text.lower() for text in _training_text(captions))
    tokenizer = Siglip2Tokenizer(vocab=vocab, merges=merges, model_max_length=SIGLIP_TOKENS)
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
    config = SiglipConfig(
        text_config={
            **tower,
            "num_hidden_layers": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": SIGLIP_TOKENS,
            "projection_size": 128,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**tower, "num_hidden_layers": 3, "image_size": SIDE, "patch_size": PATCH},
    )
    pictures = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    return SiglipModel(config), SiglipProcessor(image_processor=pictures, tokenizer=tokenizer)


def build_qwen2_vl(captions: Iterable[str]) -> tuple[Qwen2VLForConditionalGeneration, Qwen2VLProcessor]:
    """2 M parameters: language model of width 192, 3 layers, 4 heads over 2 key-value heads; vision tower of width
    128, depth 3, patches of 16, merged 2 x 2 to 9 image tokens. Weights as in `build_clip`."""
    tokenizer = _qwen_tokenizer(captions)
    head = _QWEN_WIDTH // _QWEN_HEADS
    config = Qwen2VLConfig(
        text_config={
            **_causal_text(tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [head // 8, 3 * head // 16, 3 * head // 16],  # the real model's 16:24:24
            },
        },
        vision_config={
            "depth": 3,
            "embed_dim": 128,
            "hidden_size": _QWEN_WIDTH,
            "num_heads": 4,
            "mlp_ratio": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
        },
        **_qwen_tokens(tokenizer),
    )
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=PATCH, size=_about_a_scene()),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    return Qwen2VLForConditionalGeneration(config), processor


def build_qwen3_vl(captions: Iterable[str]) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """3 M parameters: the sizes of `build_qwen2_vl` in the Qwen3-VL architecture: learnt positions of the patches beside
    rotated ones, norms of queries and keys, M-RoPE interleaved, and DeepStack from the second of three vision layers into
    the first layer of the language model. Patches are 16, as the real one's."""
    tokenizer = _qwen_tokenizer(captions)
    head = _QWEN_WIDTH // _QWEN_HEADS
    config = Qwen3VLConfig(
        text_config={
            **_causal_text(tokenizer),
            "head_dim": head,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [head // 2 - 2 * (head // 6), head // 6, head // 6],  # the real model's 24:20:20
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": _QWEN_WIDTH,
            "num_position_embeddings": PATCHES,
            "deepstack_visual_indexes": [1],
        },
        **_qwen_tokens(tokenizer),
    )
    half = [0.5] * 3
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=PATCH, size=_about_a_scene(), image_mean=half, image_std=half),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    return Qwen3VLForConditionalGeneration(config), processor


def build_paligemma2(captions: Iterable[str]) -> tuple[PaliGemmaForConditionalGeneration, PaliGemmaProcessor]:
    """2.3 M parameters: the vision tower of `build_siglip2` without its pooling head, a linear projector, Gemma 2 of width
    192, 3 layers, 4 heads over 2 key-value heads. Its processor adds 1,153 tokens for places and pieces of pictures, a
    tenth of the parameters, which nothing uses here."""
    vocab, merges = _gemma_pieces(_training_text(captions), whole_words=True)
    tokenizer = GemmaTokenizer(vocab=vocab, merges=merges, padding_side="left")
    pictures: Any = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    pictures.image_seq_length = PATCHES
    processor = PaliGemmaProcessor(image_processor=pictures, tokenizer=tokenizer)
    hidden, heads = 192, 4
    config = PaliGemmaConfig(
        text_config={
            "model_type": "gemma2",
            "hidden_size": hidden,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": heads,
            "num_key_value_heads": 2,
            "head_dim": hidden // heads,
            "query_pre_attn_scalar": hidden // heads,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 1024,
            "sliding_window": 1024,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_attention_heads": 4,
            "num_hidden_layers": 3,
            "image_size": SIDE,
            "patch_size": PATCH,
            "vision_use_head": False,
        },
        image_token_index=processor.image_token_id,
        projection_dim=hidden,
        hidden_size=hidden,
        vocab_size=len(tokenizer),
    )
    return PaliGemmaForConditionalGeneration(config), processor


def build_chameleon(captions: Iterable[str]) -> tuple[ChameleonForConditionalGeneration, ChameleonProcessor]:
    """2.5 M parameters: a language model of the sizes of `build_qwen2_vl` whose vocabulary has 512 words for pieces of
    pictures, and the encoder that finds 36 of them in a picture. It reads pictures at half their side: at the full one its
    convolutions cost five times as much, and a piece of 8 pixels is then 16 of the picture, as everywhere here."""
    tokenizer = _chameleon_tokenizer(captions)
    side = SIDE // 2
    config = ChameleonConfig(
        **{**_causal_text(tokenizer), "bos_token_id": tokenizer.bos_token_id},
        vocabulary_map=tokenizer.get_vocab(),
        vq_config={
            "resolution": side,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 2, 3],  # three halvings: 48 pixels become 6 x 6 pieces
            "num_res_blocks": 1,
            "latent_channels": 64,
            "embed_dim": 16,
            "num_embeddings": CODES,
        },
    )
    pictures = ChameleonImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = ChameleonProcessor(image_processor=pictures, tokenizer=tokenizer, image_seq_length=PATCHES)
    return ChameleonForConditionalGeneration(config), processor


ARCHITECTURES: dict[str, Callable[[Iterable[str]], tuple[Any, Any]]] = {
    "clip-mini": build_clip,
    "siglip2-mini": build_siglip2,
    "qwen2-vl-mini": build_qwen2_vl,
    "qwen3-vl-mini": build_qwen3_vl,
    "paligemma2-mini": build_paligemma2,
    "chameleon-mini": build_chameleon,
}


def _causal_text(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What the language models of both Qwen architectures and of Chameleon have in common."""
    return {
        "hidden_size": _QWEN_WIDTH,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": _QWEN_HEADS,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 1024,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _qwen_tokens(tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
    """The tokens that stand for pictures, and output weights that are those of the input."""
    ids = tokenizer.get_vocab()
    return {
        "tie_word_embeddings": True,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def _about_a_scene() -> dict[str, int]:
    """Every picture is scaled to about the area of a scene, so a square one costs 9 tokens. The upper bound has room for
    rounding: with exactly SIDE * SIDE, a square of 300 pixels is scaled to 111.99 and loses a row and a column."""
    return {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE + SIDE}


def _training_text(captions: Iterable[str]) -> list[str]:
    """Captions, and often enough to become single tokens: instructions and every noun."""
    frequent = [sentence for variants in INSTRUCTIONS.values() for sentence in variants]
    frequent += [DESCRIBE, "user\nassistant\nsystem\n"]
    nouns = [f"{article} {form}" for n in vocabulary().values() for article, form in (("a", n.word), ("two", n.plural))]
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


def _chameleon_tokenizer(captions: Iterable[str]) -> PreTrainedTokenizerFast:
    """Bytes and pieces of captions, special tokens and codes."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=_VOCABULARY_SIZE, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(_training_text(captions), trainer)
    return chameleon_tokenizer(backend, CODES)


def _gemma_pieces(texts: Iterable[str], *, whole_words: bool = False) -> tuple[dict[str, int], Any]:
    """Vocabulary and merges. whole_words: no piece reaches over a word, a mark or a line's end, so the ids of a text are
    those of its parts one behind the other, which conversations are put together from."""
    backend = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    if whole_words:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split(Regex(r"[^▁\w]"), "isolated")]
        )
    trainer = BpeTrainer(
        vocab_size=_VOCABULARY_SIZE + len(_GEMMA_SPECIAL), special_tokens=_GEMMA_SPECIAL, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    learnt = json.loads(backend.to_str())["model"]
    return learnt["vocab"], [tuple(merge) for merge in learnt["merges"]]


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
