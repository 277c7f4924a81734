"""The backbones as rows of a table: those of the paper, embedding models, and the demo. No torch, no transformers."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.errors import BackboneError

ROOT = Path(__file__).resolve().parents[2]  # demo rows lie relative to it


@dataclass(frozen=True)
class BackboneSpec:
    """One row: which weights, how they are run and what their SAE is called. How figures draw it: figures/palette.py."""

    key: str
    hub_id: str  # hub repository, or a folder; demo rows: a folder relative to the repository
    label: str
    revision: str = "main"  # hub commit; "main" where none is pinned
    model_type: str | None = None  # row of FAMILIES; None = as the checkpoint says
    dtype: str = "bfloat16"  # on accelerators; a CPU computes in float32 unless told otherwise
    tap: str | None = None  # one of families.TAPS; None = the family's
    width: int | None = None  # D; None = known once loaded
    parameters: float | None = None  # of the whole checkpoint, about
    sae_file: str | None = None  # the authors' released SAE
    sae_width: int | None = None  # its number of concepts K
    sae_top_k: int = 50
    contrastive: bool = False
    demo: bool = False
    # Embedding models: how they were trained to be read. Their one vector stands where others' mean of tokens stands.
    pooling: str = "mean"  # "mean" or "last"
    prompts: str = "uniform"  # row of PROMPTS
    template: tuple[tuple[str, str], ...] = ()  # modality -> the whole prompt; () = as the checkpoint's family has it
    positions: str = "model"  # "model", or "sequential": 0, 1, 2, ... for image tokens too
    pixels: tuple[int, int] | None = None  # smallest and largest picture in pixels; None = the checkpoint's own

    @property
    def one_vector(self) -> bool:
        """Whether it gives one vector a sample and no tokens to pool otherwise: dual encoders, embedding models."""
        return self.contrastive or self.trained_to_embed

    @property
    def trained_to_embed(self) -> bool:
        """Whether an MLLM was trained to give one vector, so that no other pooling of it means anything."""
        return bool(self.template)

    @property
    def is_folder(self) -> bool:
        return self.demo or Path(self.hub_id).is_absolute()


def _row(key: str, hub_id: str, label: str, **fields: Any) -> BackboneSpec:
    contrastive = fields.get("contrastive", False)
    return BackboneSpec(key, hub_id, label, **({"sae_width": 7168 if contrastive else 32768} | fields))


def _user_turn(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """What Qwen2-VL and Qwen3-VL read of each modality: picture and text between two strings."""
    shown = "<|vision_start|><|image_pad|><|vision_end|>"
    return tuple(
        (modality, f"{before}{shown * (modality != 'text')}{'{text}' * (modality != 'image')}{after}")
        for modality in ("image", "text", "image_text")
    )


def _chatml(system: str, tail: str) -> tuple[tuple[str, str], ...]:
    """A ChatML conversation with the instruction as system turn, for each modality."""
    return _user_turn(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n", f"<|im_end|>\n{tail}")


def _mini(key: str, label: str, model_type: str, width: int, **fields: Any) -> BackboneSpec:
    """A model of the demo, which lies in the repository."""
    folder = f"assets/demo/{key}"
    known: dict[str, Any] = {"dtype": "float32", "sae_width": None, "demo": True}
    return _row(key, folder, f"{label} (demo)", model_type=model_type, width=width, **known, **fields)


# scripts/qwen3_vl_embedding.py of the model's repository (format_model_input, _preprocess_inputs): system turn, picture,
# text, generation prompt; pictures of 4 to 1800 tokens of 32 x 32 pixels; last token.
_QWEN3_VL_EMBEDDING: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "tap": "post_norm",
    "pooling": "last",
    "prompts": "qwen3-vl-embedding",
    "template": _chatml("{instruction}", "<|im_start|>assistant\n"),
    "pixels": (4 * 32 * 32, 1800 * 32 * 32),
    "sae_width": None,
}
# gme_inference.py of the model's repository: as above with <|endoftext|> behind; its forward pass calls the language model
# on embeddings alone, so image tokens have the positions 0, 1, 2, ... of a text, not rows and columns.
_GME: dict[str, Any] = {
    "model_type": "qwen2_vl",
    "pooling": "last",
    "prompts": "gme",
    "template": _chatml("{instruction}", "<|im_start|>assistant\n<|endoftext|>"),
    "positions": "sequential",
    "pixels": (256 * 28 * 28, 1280 * 28 * 28),
    "sae_width": None,
}
# analysis/demo/language_model.py, MatchTraining: the user's turn, the mean over all of it.
_CONTRASTIVE_MINI = _user_turn("<|im_start|>user\n", "{instruction}<|im_end|>\n")
_LLAMA3 = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"


# Revisions are the hub commits that other projects pin for these models; Chameleon's was not found (fixed at download).
# Widths and concept counts: paper, appendix A, and the released files (PaliGemma2's has 20,736 concepts).
BACKBONES: dict[str, BackboneSpec] = {
    spec.key: spec
    for spec in (
        _row(
            "clip-vit-b32",
            "openai/clip-vit-base-patch32",
            "CLIP ViT-B/32",
            revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
            model_type="clip",
            width=512,
            parameters=0.151e9,
            sae_file="sae_clip.pt",
            contrastive=True,
        ),
        _row(
            "siglip2-b16-512",
            "google/siglip2-base-patch16-512",
            "SigLIP2 B/16-512",
            revision="a89f5c5093f902bf39d3cd4d81d2c09867f0724b",
            model_type="siglip",
            width=768,
            parameters=0.376e9,
            sae_file="sae_siglip2.pt",
            contrastive=True,
        ),
        _row(
            "qwen2-vl-7b",
            "Qwen/Qwen2-VL-7B-Instruct",
            "Qwen2-VL-7B-Instruct",
            revision="eed13092ef92e448dd6875b2a00151bd3f7db0ac",
            model_type="qwen2_vl",
            width=3584,
            parameters=8.29e9,
            sae_file="sae_Qwen2-VL-7B-Instruct.pt",
        ),
        _row(
            "qwen3-vl-8b",
            "Qwen/Qwen3-VL-8B-Instruct",
            "Qwen3-VL-8B-Instruct",
            revision="0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
            model_type="qwen3_vl",
            tap="pre_norm",  # what hidden_states[-1] was in the transformers 4.57 of the paper; post_norm since 5.x
            width=4096,
            parameters=8.77e9,
            sae_file="sae_Qwen3-VL-8B-Instruct.pt",
        ),
        _row(
            "paligemma2-3b",
            "google/paligemma2-3b-mix-224",
            "PaliGemma2-3B-Mix-224",
            revision="8e40ab4cc5df93dfb7fd2fff754bcdff8b62ee78",
            model_type="paligemma",
            width=2304,
            parameters=3.03e9,
            sae_file="sae_paligemma-3b-mix-224.pt",
            sae_width=20736,
        ),
        _row(
            "chameleon-7b",
            "facebook/chameleon-7b",
            "Chameleon-7B",
            model_type="chameleon",
            width=4096,
            parameters=7.04e9,
            sae_file="sae_chameleon-7b.pt",
        ),
        *(
            _row(
                f"qwen3-vl-embedding-{size.lower()}",
                f"Qwen/Qwen3-VL-Embedding-{size}",
                f"Qwen3-VL-Embedding-{size}",
                revision=revision,
                width=width,
                parameters=parameters,
                **_QWEN3_VL_EMBEDDING,
            )
            for size, revision, width, parameters in (
                ("2B", "9f2f7e710d6d81056aa5c0a4f04764fec6bb7bda", 2048, 2.13e9),
                ("8B", "2c4565515e0f265c6511776e7193b22c0968ddc7", 4096, 8.14e9),
            )
        ),
        *(
            _row(
                f"gme-qwen2-vl-{size.lower()}",
                f"Alibaba-NLP/gme-Qwen2-VL-{size}-Instruct",
                f"GME-Qwen2-VL-{size}",
                revision=revision,
                width=width,
                parameters=parameters,
                **_GME,
            )
            for size, revision, width, parameters in (
                ("2B", "ce765ae71b8cdb208203cd8fb64a170b1b84293a", 1536, 2.21e9),
                ("7B", "477027a6480f8630363be77751f169cc3434b673", 3584, 8.29e9),
            )
        ),
        # demo_v2_image.py of TIGER-AI-Lab/VLM2Vec: bare text without a chat template, <|image_pad|> alone for the picture;
        # last token. The released repository may hold LoRA weights: merge them first, the loader says how.
        _row(
            "vlm2vec-v2",
            "VLM2Vec/VLM2Vec-V2.0",
            "VLM2Vec-V2.0 (Qwen2-VL-2B)",
            revision="e39ff079b8275ef876d3656da8c0bddbff3c4dde",
            model_type="qwen2_vl",
            width=1536,
            parameters=2.21e9,
            pooling="last",
            prompts="vlm2vec",
            template=(
                ("image", "<|image_pad|>{instruction}"),
                ("text", "{instruction}{text}"),
                ("image_text", "<|image_pad|>{instruction}{text}"),
            ),
            sae_width=None,
        ),
        # retrieval.py of kongds/E5-V, the Llama 3 branch; last token, hidden_states[-1].
        _row(
            "e5-v",
            "royokong/e5-v",
            "E5-V (LLaVA-NeXT, Llama 3 8B)",
            revision="0c1f22679417b3ae925d779442221c40cd1861ab",
            model_type="llava_next",
            width=4096,
            parameters=8.36e9,
            pooling="last",
            prompts="e5-v",
            template=(
                ("image", _LLAMA3.format("<image>{instruction}")),
                ("text", _LLAMA3.format("{text}{instruction}")),
                ("image_text", _LLAMA3.format('<image>Modify this image with "{text}{instruction}')),
            ),
            sae_width=None,
        ),
        _mini("clip-mini", "CLIP-mini", "clip", 256, contrastive=True),
        _mini("siglip2-mini", "SigLIP2-mini", "siglip", 128, contrastive=True),
        _mini("qwen2-vl-mini", "Qwen2-VL-mini", "qwen2_vl", 192),
        _mini("qwen2-vl-contrastive-mini", "Qwen2-VL-mini, contrastive", "qwen2_vl", 192, template=_CONTRASTIVE_MINI),
        _mini("qwen3-vl-mini", "Qwen3-VL-mini", "qwen3_vl", 192),
        _mini("paligemma2-mini", "PaliGemma2-mini", "paligemma", 192),
        _mini("chameleon-mini", "Chameleon-mini", "chameleon", 192),
    )
}


_PLACES: dict[str, float] = {key: place for place, key in enumerate(BACKBONES)}
_FIRST_OF_DEMO = min(_PLACES[key] for key, row in BACKBONES.items() if row.demo)


def place_of(key: str) -> float:
    """Where a model stands among others: as in the table, models of no row before those of the demo."""
    return _PLACES.get(key, _FIRST_OF_DEMO - 0.5)


def find_spec(key_or_path: str | Path) -> BackboneSpec:
    """The row of a key or hub id of BACKBONES, or a new row for a local folder or another hub id. Raises BackboneError
    for a name that is none of these, with the nearest key."""
    name = str(key_or_path)
    if name in BACKBONES:
        return BACKBONES[name]
    by_hub_id = {spec.hub_id: spec for spec in BACKBONES.values() if not spec.demo}
    if name in by_hub_id:
        return by_hub_id[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        label = folder.resolve().name
        return BackboneSpec(label, str(folder.resolve()), label)
    if folder.is_file():
        raise BackboneError(f"{name} is a file; expected the folder of a model: give {folder.resolve().parent}.")
    if name.startswith(("~", "/", "./", "../")):
        raise BackboneError(f"There is no folder {name}; expected the folder of a model, a key or a hub id.")
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        label = name.split("/")[1]
        return BackboneSpec(label.lower(), name, label)
    near = difflib.get_close_matches(name.lower(), BACKBONES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise BackboneError(
        f"No backbone or folder is called {name!r}; expected one of {', '.join(BACKBONES)}, a folder, or a hub id "
        f"such as Qwen/Qwen2-VL-2B-Instruct.{hint}"
    )


def slug(name: str) -> str:
    """A folder name from a dataset name, hub id or path: its last part, in lower case, without odd characters."""
    last = Path(name.rstrip("/")).name or "data"
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in last.lower())
