"""What the columns of caption tables are called, and the captions that one cell may hold."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from analysis.errors import DataError

# The first name is the documented one; the others are those of Flickr8k/30k, the hub, img2dataset, BLIP and pandas dumps.
FILE = (
    "file", "file_name", "filename", "image", "image_name", "image_path", "image_file", "img", "img_path", "img_name",
    "image_filename", "filepath", "file_path", "path", "picture", "photo",
)  # fmt: skip
CAPTION = (
    "caption", "captions", "text", "texts", "comment", "sentence", "sentences", "raw", "description", "descriptions",
    "caption_text", "alt_text", "title", "txt",
)  # fmt: skip
# Columns of pictures, in parquet and Arrow tables.
PICTURE = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "images")
ANSWER = ("answer", *CAPTION)
_TEXT_KEYS = ("raw", "caption", "text", "sentence")  # where a caption is an object


def column_of(columns: Iterable[str], wanted: Sequence[str], table: str) -> str | None:
    """The column that means the first of `wanted`: that very name, else the one other name that occurs. None where there is
    none; DataError where several could be meant."""
    by_name = {_plain(name): name for name in columns}
    found = [by_name[name] for name in wanted if name in by_name]
    if len(found) > 1 and _plain(found[0]) != wanted[0]:
        raise DataError(
            f"{table} has several columns that could be the {wanted[0]}: {', '.join(found)}; rename the one that counts to "
            f"{wanted[0]}."
        )
    return found[0] if found else None


def captions_in(value: Any) -> list[Any]:
    """The captions of one cell: of a string, a list, an object with the text inside, or a list written as a string (as
    pandas and the hub's Flickr30k table write it)."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        listed = _written_list(value)
        return [value] if listed is None else listed
    if isinstance(value, dict):
        key = next((key for key in _TEXT_KEYS if key in value), None)
        return captions_in(value[key]) if key else [None]
    if isinstance(value, list | tuple):
        return [caption for item in value for caption in captions_in(item)]
    return [value]


def _plain(name: object) -> str:
    return str(name).strip().lower().replace(" ", "_")


def _written_list(text: str) -> list[str] | None:
    inside = text.strip()
    if not (inside.startswith(("['", '["')) and inside.endswith(("']", '"]'))):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(inside)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
    return None
