"""What a model folder really is where it is not what loading needs: an adapter, a hub cache, quantised weights, pointers to
files that were never fetched, a download that stopped. One sentence each, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analysis.errors import BackboneError

_POINTER = b"version https://git-lfs"  # how the three lines begin that Git leaves in place of a large file
_PICTURES = ("preprocessor_config.json", "processor_config.json")
_WORDS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def refuse_other_kinds(folder: Path) -> None:
    """Raise BackboneError for a folder without config.json that is recognisably something else. Returns for others."""
    if (folder / "config.json").exists():
        return
    if (folder / "adapter_config.json").exists():
        raise BackboneError(_adapter(folder))
    commits = _snapshots(folder)
    if commits:
        raise BackboneError(
            f"{folder} is the hub cache's outer folder of a model; expected the snapshot inside: give {commits[0]}."
        )
    models = sorted(path for path in folder.glob("models--*") if _snapshots(path))
    if models:
        raise BackboneError(
            f"{folder} is a whole hub cache; expected one model of it: give {_snapshots(models[0])[0]}"
            + (f" or another of its {len(models)} models." if len(models) > 1 else ".")
        )
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        raise BackboneError(
            f"{folder} holds {ggufs[0].name}, a model in llama.cpp's format; expected the original weights with their "
            "config.json: download those of the model that it was converted from."
        )
    inner = sorted((path.parent for path in folder.glob("*/config.json")), key=_numbered)
    if len(inner) > 1:
        names = ", ".join(path.name for path in inner[:4])
        raise BackboneError(
            f"{folder} holds no config.json, {len(inner)} of its subfolders do ({names}); give one, such as {inner[-1]}."
        )
    if inner:
        raise BackboneError(f"{folder} holds no config.json, its subfolder does; give {inner[0]}.")
    adapters = sorted((path.parent for path in folder.glob("*/adapter_config.json")), key=_numbered)
    if adapters:
        raise BackboneError(_adapter(adapters[-1]))
    if others := _other_weights(folder):
        raise BackboneError(
            f"{folder} holds {others[0]} and no config.json, the layout of another tool; expected what `save_pretrained` "
            "writes: convert it, or download the model in the transformers layout."
        )


def refuse_unreadable(folder: Path, config: dict[str, Any]) -> None:
    """Raise BackboneError for weights or processor files that are missing, only pointed to, quantised or an adapter's."""
    refuse_quantised(config, str(folder))
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    pointers = [path.name for path in files if is_pointer(path)]
    if pointers:
        raise BackboneError(
            f"{pointers[0]} in {folder} is a Git LFS pointer, three lines in place of the file"
            f"{f' ({len(pointers)} such files)' if len(pointers) > 1 else ''}; run `git lfs pull` there, or download the "
            "model again."
        )
    gone = [path.name for path in files if not path.exists()]  # a link into a cache whose blob was deleted
    if gone:
        raise BackboneError(f"{gone[0]} in {folder} is a link to a file that is gone; download the model again.")
    empty = [
        path.name for path in files if path.is_file() and path.suffix in (".safetensors", ".bin") and not _size(path)
    ]
    if empty:
        raise BackboneError(f"{empty[0]} in {folder} is empty, the copy or download stopped; fetch it again.")
    for index in sorted(folder.glob("*.index.json")):
        _check_shards(folder, index)
    weights = [path for path in files if path.suffix in (".safetensors", ".bin") and "adapter" not in path.name]
    if not weights and (folder / "adapter_config.json").exists():
        raise BackboneError(_adapter(folder))
    if not weights:
        others = _other_weights(folder)
        raise BackboneError(
            f"{folder} has a config.json and no weights{f', but {others[0]}' if others else ''}; expected model.safetensors, "
            "alone or in shards with their index: copy or download them."
        )
    for names, what in ((_PICTURES, "image processor"), (_WORDS, "tokenizer")):
        if not any((folder / name).exists() for name in names):
            raise BackboneError(
                f"{folder} lacks the file of its {what}; expected {' or '.join(names[:2])} beside the weights: copy it from "
                "the model's repository."
            )


def refuse_quantised(config: dict[str, Any], name: str) -> None:
    """Raise BackboneError when a config says that the weights are quantised."""
    parts = (config, *(part for part in config.values() if isinstance(part, dict)))
    keys = ("quantization_config", "quantization")  # of transformers, of MLX
    settings = next(
        (part[key] for part in parts for key in keys if isinstance(part.get(key), dict) and part[key]), None
    )
    if settings is None:
        return
    method = settings.get("quant_method") or ("bitsandbytes" if any("bnb" in key for key in settings) else "unnamed")
    bits = settings.get("bits") or settings.get("w_bit")
    raise BackboneError(
        f"{name} holds quantised weights ({method}{f', {bits} bits' if bits else ''}); expected float32, bfloat16 or "
        "float16, since hidden states would differ from those an SAE was trained on: use the model that it was made from."
    )


def is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer."""
    if not path.is_file() or _size(path) > 1024:
        return False
    with path.open("rb") as handle:
        return handle.read(len(_POINTER)) == _POINTER


def _check_shards(folder: Path, index: Path) -> None:
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BackboneError(f"{index} cannot be read ({error}); copy or download it again.") from error
    missing = sorted(shard for shard in shards if not (folder / shard).exists())
    if missing:
        raise BackboneError(
            f"{folder} lacks {len(missing)} of its {len(shards)} weight files, first {missing[0]}, which {index.name} names; "
            "copy or download it."
        )


def _adapter(folder: Path) -> str:
    try:
        found = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}  # the file's name already says what the folder is
    kind = str(found.get("peft_type") or "LoRA")
    base = found.get("base_model_name_or_path")
    return (
        f"{folder} is a {'LoRA' if kind.upper() == 'LORA' else kind} adapter{f' of {base}' if base else ''}, not a model; "
        "expected whole weights: merge it into its base with peft (merge_and_unload), save_pretrained model and processor, "
        "and give that folder."
    )


def _other_weights(folder: Path) -> list[str]:
    """Files of weights that are not read: of other tools, or downloads that stopped."""
    ends = (".pth", ".pt", ".ckpt", ".onnx", ".h5", ".msgpack", ".gguf", ".npz", ".incomplete", ".part", ".crdownload")
    return sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(ends))


def _numbered(path: Path) -> tuple[str, int, str]:
    """Order of checkpoint-10 before checkpoint-200."""
    bare = path.name.rstrip("0123456789")
    return bare, int(path.name[len(bare) :] or 0), path.name


def _snapshots(folder: Path) -> list[Path]:
    """Snapshots with a config inside a model's cache folder, the one that main points to first."""
    inside = folder / "snapshots" if (folder / "snapshots").is_dir() else folder
    found = sorted(path.parent for path in inside.glob("*/config.json")) if inside.name == "snapshots" else []
    main = folder / "refs" / "main"
    wanted = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    return sorted(found, key=lambda path: path.name != wanted)


def _size(path: Path) -> int:
    return path.stat().st_size
