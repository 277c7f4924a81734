"""What every loader does at the edge: read JSON, list a folder, clean a caption, fingerprint the files it used."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.errors import DataError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"})


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError where it cannot be read or parsed."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path.name} could not be read ({error.strerror or error}); check the dataset folder."
        ) from error
    except ValueError as error:  # also invalid UTF-8
        raise DataError(f"{path.name} is not valid JSON ({error}); expected a complete annotation file.") from error


def listing(folder: Path) -> dict[str, int]:
    """File name -> size in bytes of what lies directly in a folder; empty where there is no such folder.

    One directory scan instead of one `stat` per picture that an annotation names.
    """
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def subfolders(folder: Path) -> list[Path]:
    """Visible folders directly inside a folder, sorted; quick beside a hundred thousand files."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def picture_names(names: Iterable[str]) -> set[str]:
    return {name for name in names if os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES}


def clean_text(value: object) -> str:
    """A caption as one may embed it: stripped, valid Unicode. Empty for what is none: None, NaN, other types, and the
    word "nan", which is how a missing caption leaves a pandas table."""
    if not isinstance(value, str):
        return ""
    text = value.strip()
    if not text.isascii():  # JSON can carry half of a surrogate pair, on which tokenizers fail
        text = text.encode("utf-8", "replace").decode("utf-8")
    return "" if text.lower() == "nan" else text


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """16 hex digits that change when one part or their order changes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def file_digest(path: Path) -> bytes:
    """sha256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
