"""What differs between the supported architectures, as one row each, keyed by the checkpoint's `model_type`.

Everything a row says was measured on transformers 5.24; the code that reads it has no branch on a model's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from analysis.errors import BackboneError

TAPS = ("post_norm", "pre_norm", "pre_mlp")


@dataclass(frozen=True)
class Family:
    """One architecture. Dotted names are paths inside the loaded model, its config or its processor."""

    model_type: str
    label: str
    builder: str  # how samples become inputs: "dual_encoder", "chat_template" or "image_placeholder"
    width: str  # config path of the width D
    positions: str  # config path of the number of positions of the language side
    vision: str  # model path of the part that reads pixels; pixels are cast to its dtype
    grid: str  # how a picture is laid out as tokens: a row of layouts.LAYOUTS
    tap: str = "post_norm"  # default tap, one of TAPS: see forward.LanguageForward
    norm: str = ""  # model path of the final norm; empty for dual encoders, which have no tap
    token_types: tuple[str, int] | None = None  # extra input and its value at image tokens (0 elsewhere)
    repeated: str = "image_token"  # processor path of the token that stands for one patch
    picture: str = "{image}"  # chat templates: what the processor puts where the template shows a picture
    frame: tuple[str, str] = (
        "",
        "",
    )  # image_placeholder: what stands before and after the text when there is a picture
    frame_text: tuple[str, str] | None = None  # the same without a picture; None: a dummy picture is sent along
    code_prefix: str = ""  # tokens whose name begins so stand for pieces of pictures; users' text never becomes one
    keep_float32: str = ""  # model path of a part that stays in float32
    patch_heads: tuple[str, ...] = ()  # dual encoders: model paths that carry patch states into the joint space
    class_token: bool = False  # dual encoders: a class token stands before the patches
    text_heads: tuple[str, ...] = ()  # dual encoders: the same for text tokens
    text_mask: bool = True  # dual encoders: whether the text tower is given the attention mask
    pad_text_to_end: bool = False  # dual encoders: text is always padded to all positions
    lower_text: bool = False  # dual encoders: text is lower-cased here, whether or not the tokenizer does it

    @property
    def contrastive(self) -> bool:
        return self.builder == "dual_encoder"


FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            "clip",
            "CLIP",
            "dual_encoder",
            width="projection_dim",
            positions="text_config.max_position_embeddings",
            vision="vision_model",
            grid="square",
            patch_heads=("vision_model.post_layernorm", "visual_projection"),
            class_token=True,
            text_heads=("text_projection",),
        ),
        # MetaCLIP 2: CLIP's towers, the vocabulary of XLM-RoBERTa; the text is pooled at its end token.
        Family(
            "metaclip_2",
            "MetaCLIP 2",
            "dual_encoder",
            width="projection_dim",
            positions="text_config.max_position_embeddings",
            vision="vision_model",
            grid="square",
            patch_heads=("vision_model.post_layernorm", "visual_projection"),
            class_token=True,
            text_heads=("text_projection",),
        ),
        # SigLIP pools its text at the last position, padding included, and was trained without a mask and on lower-cased
        # text. SiglipTokenizer and Siglip2Tokenizer lower it; GemmaTokenizer, which transformers before 5 took for SigLIP2,
        # does not (huggingface/transformers#43054, #43101), so the row lowers it itself. The paper's published code has
        # scripts for its four MLLMs alone (mllm-retrieval-analysis@c3a9255: retrieve/, sae_train/): what its SigLIP2 read
        # is not known; through AutoProcessor of its transformers 4.57 captions would have kept their capitals.
        Family(
            "siglip",
            "SigLIP, SigLIP2 (fixed resolution)",
            "dual_encoder",
            width="vision_config.hidden_size",
            positions="text_config.max_position_embeddings",
            vision="vision_model",
            grid="square",
            text_heads=("text_model.head",),
            text_mask=False,
            pad_text_to_end=True,
            lower_text=True,
        ),
        Family(
            "siglip2",
            "SigLIP2 (NaFlex)",
            "dual_encoder",
            width="vision_config.hidden_size",
            positions="text_config.max_position_embeddings",
            vision="vision_model",
            grid="shapes",
            text_heads=("text_model.head",),
            text_mask=False,
            pad_text_to_end=True,
            lower_text=True,
        ),
        Family(
            "qwen2_vl",
            "Qwen2-VL",
            "chat_template",
            width="text_config.hidden_size",
            positions="text_config.max_position_embeddings",
            vision="visual",
            grid="thw",
            norm="language_model.norm",
            token_types=("mm_token_type_ids", 1),
        ),
        # hidden_states[-1] of transformers 4.57, which the paper's code read, is the input of Qwen3-VL's final norm.
        Family(
            "qwen3_vl",
            "Qwen3-VL",
            "chat_template",
            width="text_config.hidden_size",
            positions="text_config.max_position_embeddings",
            vision="visual",
            grid="thw",
            tap="pre_norm",
            norm="language_model.norm",
            token_types=("mm_token_type_ids", 1),
        ),
        # Without token_type_ids transformers 5.x would attend causally; the prefix is bidirectional.
        Family(
            "paligemma",
            "PaliGemma, PaliGemma2",
            "image_placeholder",
            width="text_config.hidden_size",
            positions="text_config.max_position_embeddings",
            vision="vision_tower",
            grid="square",
            norm="language_model.norm",
            token_types=("token_type_ids", 0),
            frame=("{image}{bos}", "\n"),
        ),
        Family(
            "qwen2_5_vl",
            "Qwen2.5-VL",
            "chat_template",
            width="text_config.hidden_size",
            positions="text_config.max_position_embeddings",
            vision="visual",
            grid="thw",
            norm="language_model.norm",
            token_types=("mm_token_type_ids", 1),
        ),
        *(
            Family(
                model_type,
                label,
                "chat_template",
                width="text_config.hidden_size",
                positions="text_config.max_position_embeddings",
                vision="vision_model",
                grid="tagged_tiles",
                norm="text_model.norm",
            )
            for model_type, label in (("idefics3", "Idefics3, SmolVLM"), ("smolvlm", "SmolVLM2"))
        ),
        # Tokens of one picture see each other in both directions where token_type_ids is 1. Pan and scan, off as released,
        # stays off. A text may begin where the line ends around the picture stand: they are part of the prompt.
        Family(
            "gemma3",
            "Gemma 3",
            "chat_template",
            width="text_config.hidden_size",
            positions="text_config.max_position_embeddings",
            vision="vision_tower",
            grid="square",
            norm="language_model.norm",
            token_types=("token_type_ids", 1),
            repeated="tokenizer.image_token",
            picture="\n\n{boi}{image}{eoi}\n\n",
        ),
        *(
            Family(
                model_type,
                label,
                "chat_template",
                width="text_config.hidden_size",
                positions="text_config.max_position_embeddings",
                vision="vision_tower",
                grid="unpadded_tiles",
                norm="language_model.norm",
            )
            for model_type, label in (("llava_next", "LLaVA-NeXT"), ("llava_onevision", "LLaVA-OneVision"))
        ),
        # The weights whose names end in -hf: the original ones need code from the repository.
        Family(
            "internvl",
            "InternVL (-hf)",
            "chat_template",
            width="text_config.hidden_size",
            positions="text_config.max_position_embeddings",
            vision="vision_tower",
            grid="flat_tiles",
            norm="language_model.norm",
            picture="{boi}{image}{eoi}",
        ),
        # The picture becomes discrete codes: in bfloat16 an argmin may flip with the batch, so its encoder is float32.
        Family(
            "chameleon",
            "Chameleon",
            "image_placeholder",
            width="hidden_size",
            positions="max_position_embeddings",
            vision="vqmodel",
            grid="square",
            norm="norm",
            frame=("{boi}{image}{eoi}", "{sep}"),
            frame_text=("", "{sep}"),
            code_prefix="IMGIMG",
            keep_float32="vqmodel",
        ),
    )
}


def family_of(model_type: str | None, name: str) -> Family:
    """The row of a checkpoint's `model_type`. Raises BackboneError naming the supported ones."""
    if model_type not in FAMILIES:
        raise BackboneError(
            f"{name} has model_type {model_type!r}, which is not supported; expected one of {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def at_path(root: Any, path: str) -> Any:
    """The attribute or key at a dotted path: at_path(config, "text_config.hidden_size")."""
    return reduce(
        lambda node, name: node[name] if isinstance(node, dict) else getattr(node, name), path.split("."), root
    )
