"""Loading a backbone: a row of the table, or any checkpoint of a supported architecture. Importing this module loads
neither torch nor transformers, so pages can list the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import clear_frames
from typing import TYPE_CHECKING, Any

from analysis.errors import BackboneError
from analysis.models.devices import (
    DTYPES,
    check_dtype,
    choose_device,
    choose_dtype,
    free_memory,
    is_out_of_memory,
    release_memory,
)
from analysis.models.embedding import Backbone
from analysis.models.families import TAPS, Family, at_path, family_of
from analysis.models.folders import refuse_quantised, refuse_unreadable
from analysis.models.hub import Told, ask_hub, cached_folder, explain, fetch, open_hub
from analysis.models.inputs import MAX_TEXT_TOKENS, InputBuilder, Options
from analysis.models.layouts import image_token_of
from analysis.models.specs import BACKBONES, ROOT, BackboneSpec, find_spec, slug
from analysis.models.weights import Checkpoint, count_parameters, first_line, open_folder, read_config

if TYPE_CHECKING:
    import torch

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneSpec",
    "Opened",
    "backbone_config",
    "estimate_memory",
    "find_spec",
    "load_backbone",
    "open_backbone",
]


@dataclass(frozen=True)
class Opened:
    """A backbone of which only the config has been read. spec: its row with what the config tells: width, model_type, tap."""

    spec: BackboneSpec
    checkpoint: Checkpoint
    family: Family


def load_backbone(
    key_or_path: str | Path,
    *,
    device: str = "auto",
    dtype: str | None = None,
    revision: str | None = None,
    tap: str | None = None,
    fusion: str | None = None,
    dummy_image: str = "exclude",
    max_text_tokens: int = MAX_TEXT_TOKENS,
    weights: str | Path | None = None,
    told: Told | None = None,
) -> Backbone:
    """A backbone ready to embed: a key of BACKBONES, a local folder, or a hub id of a supported architecture.

    device: "auto", "cpu", "cuda", "cuda:1", "mps"; dtype: "float32", "bfloat16", "float16" or None for the row's own
    (float32 on a CPU); revision, tap: instead of the row's; weights: a folder that holds a row's weights; fusion,
    dummy_image, max_text_tokens: see `inputs.Options`; told(done, total): called with the bytes of a download. Code from
    a repository is never run. Raises BackboneError, in one sentence with the next step, for everything that can be
    missing, gated, too large, damaged or unsupported.
    """
    spec = find_spec(key_or_path)
    options = Options(fusion, dummy_image, max_text_tokens)
    where = choose_device(device)
    precision = choose_dtype(dtype, spec.dtype, where)
    opened = open_backbone(key_or_path, revision=revision, tap=tap, weights=weights)
    known, checkpoint, family = opened.spec, opened.checkpoint, opened.family
    if checkpoint.folder is not None:
        refuse_unreadable(checkpoint.folder, checkpoint.config)
    refuse_quantised(checkpoint.config, checkpoint.source)
    _check_room(known, checkpoint, where, str(precision).removeprefix("torch."))
    # Given the hub id, from_pretrained asks the hub for every optional file that a repository does not have.
    folder = checkpoint.folder or fetch(checkpoint, told)
    model, processor = _from_pretrained(known, checkpoint, folder, where, precision)
    _check_tokenizer(known, processor, model.config, family)
    if known.pixels is not None:
        shortest, longest = known.pixels
        processor.image_processor.size = {"shortest_edge": shortest, "longest_edge": longest}
    if family.keep_float32:
        at_path(model, family.keep_float32).float()
    from analysis.models.forward import forward_of

    return Backbone(
        known,
        model,
        InputBuilder(processor, model.config, family, options, known.label, known.template),
        forward_of(model, family, known.tap or family.tap, known.positions),
        revision=checkpoint.revision,
        width=int(at_path(model.config, family.width)),
        contrastive=family.contrastive,
    )


def open_backbone(
    key_or_path: str | Path,
    *,
    revision: str | None = None,
    tap: str | None = None,
    weights: str | Path | None = None,
) -> Opened:
    """What a backbone is, from its config alone: no weights are read, of a hub model only config.json is fetched.
    The arguments are those of `load_backbone`, which raises the same errors. Imports transformers, whose config classes
    know the defaults that a config.json leaves out."""
    spec = find_spec(key_or_path)
    if tap is not None and tap not in TAPS:
        raise BackboneError(f"tap is {tap!r}; expected one of {', '.join(TAPS)}.")
    spec = replace(spec, revision=revision or spec.revision, tap=tap or spec.tap)
    checkpoint = _checkpoint(spec, weights)
    family = family_of(checkpoint.config.get("model_type"), spec.label)
    if spec.model_type not in (None, family.model_type):
        raise BackboneError(
            f"{checkpoint.source} has model_type {family.model_type!r}; {spec.key} expects {spec.model_type!r}: give the "
            "path itself instead of the key."
        )
    if family.contrastive and tap not in (None, "post_norm"):
        raise BackboneError(
            f"{spec.label} is a dual encoder: its embedding is the projected feature, there is no tap to choose."
        )
    known = replace(
        spec,
        hub_id=spec.hub_id if weights is None else str(checkpoint.folder),
        model_type=family.model_type,
        tap=spec.tap or family.tap,
        width=_width(checkpoint, family),
        contrastive=family.contrastive,
    )
    return Opened(known, checkpoint, family)


def backbone_config(backbone: Backbone) -> dict[str, Any]:
    """What identifies a backbone and the way it is run: a store's config holds it, and a live query compares it before it
    mixes vectors."""
    spec = backbone.spec
    return {
        "key": slug(spec.key),
        "model": spec.hub_id,
        "model_type": spec.model_type,
        "revision": backbone.revision,
        "tap": spec.tap,
        "dtype": backbone.dtype,
        "width": backbone.width,
        "contrastive": backbone.contrastive,
        "fusion": backbone.options.fusion,
        "dummy_image": backbone.options.dummy_image,
        "demo": spec.demo,
    } | ({"pooling": spec.pooling} if spec.trained_to_embed else {})


def estimate_memory(
    key_or_path: str | Path,
    dtype: str | None = None,
    *,
    weights: str | Path | None = None,
    revision: str | None = None,
) -> int:
    """Bytes that the weights take once loaded, before loading: from the safetensors headers of a local folder (`weights`:
    that of a row's weights) or a complete download, else the row's number of parameters. `dtype` None is the row's. What
    a batch needs comes on top. Raises BackboneError for a hub model that is neither downloaded nor in the table."""
    spec = find_spec(key_or_path)
    size = DTYPES[check_dtype(dtype or spec.dtype)]
    local = Path(weights).expanduser() if weights is not None else _folder_of(spec) if spec.is_folder else None
    if local is not None:
        read_config(local, hint=_demo_hint(spec))
    folder = local or cached_folder(spec.hub_id, revision or spec.revision)
    counted = count_parameters(folder) if folder is not None else None
    if counted is None and spec.parameters is not None:
        counted = int(spec.parameters)
    if counted is None:
        raise BackboneError(
            f"The size of {spec.label} is not known before its weights are here as safetensors; "
            f"run `hf download {spec.hub_id}` first."
        )
    return counted * size


def _checkpoint(spec: BackboneSpec, weights: str | Path | None) -> Checkpoint:
    if weights is not None:
        return open_folder(Path(weights).expanduser().resolve())
    if spec.is_folder:
        return open_folder(_folder_of(spec), hint=_demo_hint(spec))
    return open_hub(spec.hub_id, spec.revision)


def _width(checkpoint: Checkpoint, family: Family) -> int:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            checkpoint.source, revision=checkpoint.hub_revision, trust_remote_code=False, local_files_only=True
        )
        return int(at_path(config, family.width))
    except Exception as error:  # config classes raise what they like
        raise BackboneError(
            f"The config.json of {checkpoint.source} cannot be used ({first_line(error)}); expected that of a "
            f"{family.label} checkpoint: copy or download it again."
        ) from error


def _folder_of(spec: BackboneSpec) -> Path:
    return ROOT / spec.hub_id  # an absolute path stays what it is


def _demo_hint(spec: BackboneSpec) -> str:
    return " Run `make demo` to train the demo models." if spec.demo else ""


def _check_room(spec: BackboneSpec, checkpoint: Checkpoint, device: torch.device, dtype: str) -> None:
    """Refuse a model that cannot fit: a CPU would not raise, the system would kill the process."""
    folder = checkpoint.folder or cached_folder(checkpoint.source, checkpoint.revision)
    counted: float | None = count_parameters(folder) if folder else None
    counted = counted or spec.parameters or (None if folder else ask_hub(checkpoint).parameters)
    free = free_memory(device)
    if counted is not None and free is not None and counted * DTYPES[dtype] > free:
        raise BackboneError(
            f"{spec.label} needs about {counted * DTYPES[dtype] / 1e9:.1f} GB in {dtype} and {device} has "
            f"{free / 1e9:.1f} GB free;{_smaller(dtype)}"
        )


def _smaller(dtype: str) -> str:
    """What to do when a model does not fit."""
    half = "" if DTYPES[dtype.removeprefix("torch.")] == 2 else " dtype bfloat16,"
    return f" choose{half} another device or a smaller model."


def _from_pretrained(
    spec: BackboneSpec, checkpoint: Checkpoint, folder: Path, device: torch.device, dtype: torch.dtype
) -> tuple[Any, Any]:
    """The model without its language-model head, in evaluation mode, and its processor."""
    from transformers import AutoModel, AutoProcessor

    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        with _quiet_transformers():
            processor = AutoProcessor.from_pretrained(folder, **options)
            model, report = AutoModel.from_pretrained(folder, dtype=dtype, output_loading_info=True, **options)
        missing = sorted(report["missing_keys"])
        if not missing:
            return model.to(device).eval(), processor
    except Exception as error:  # the libraries below raise anything from OSError to SafetensorError
        clear_frames(error.__traceback__)  # they hold the half-loaded model for as long as somebody keeps the error
        if is_out_of_memory(error):
            release_memory(device)
            raise BackboneError(
                f"{spec.label} does not fit into the memory of {device};{_smaller(str(dtype))}"
            ) from error
        if isinstance(error, ImportError):
            raise BackboneError(
                f"{spec.label} needs a package that is not installed ({first_line(error)}); install it, or all of "
                "requirements.txt."
            ) from error
        if checkpoint.folder is None:
            raise explain(error, spec.hub_id, checkpoint.revision) from error
        raise BackboneError(
            f"{checkpoint.source} cannot be loaded ({first_line(error)}); expected weights, tokenizer and processor as "
            "`save_pretrained` writes them."
        ) from error
    raise BackboneError(
        f"{checkpoint.source} lacks {len(missing)} weights, first {missing[0]!r}; with random numbers in their place "
        "every embedding would be wrong: copy or download the model again."
    )


def _check_tokenizer(spec: BackboneSpec, processor: Any, config: Any, family: Family) -> None:
    """Where tokenizer files are missing, transformers makes an empty tokenizer without a word."""
    if not getattr(processor, "image_processor", None) or not getattr(processor.tokenizer, "is_fast", False):
        raise BackboneError(
            f"{spec.label} has no image processor or no fast tokenizer; expected preprocessor_config.json and "
            "tokenizer.json beside its weights: copy or download them."
        )
    known, expected = len(processor.tokenizer), config.get_text_config().vocab_size
    image_id = getattr(config, "image_token_id", None)
    if 2 * known < expected or (image_id is not None and image_id != image_token_of(processor, family)):
        raise BackboneError(
            f"The tokenizer of {spec.label} ({known} tokens) does not belong to its model ({expected}); expected the "
            "checkpoint's own tokenizer files beside its weights: copy or download them."
        )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No report of unused weights (the language-model head is left out on purpose) and no bar for reading files."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
