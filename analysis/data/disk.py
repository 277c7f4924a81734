"""What every loader does at the edge: read text and JSON, clean a caption, fingerprint the files it used."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.data.defects import Defects, printable
from analysis.errors import DataError

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_LFS = b"version https://git-lfs.github.com/spec/"
_EDGE = 1 << 12  # bytes that show an encoding
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+")


def read_bytes(path: Path) -> bytes:
    """A whole file; DataError where it cannot be read or only the pointer to it was downloaded."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{printable(path.name)} could not be read ({error.strerror or error}); check the dataset folder."
        ) from error
    if pointer := lfs_pointer(data):
        raise DataError(f"{printable(path.name)} {pointer}")
    return data


def read_text(path: Path) -> str:
    """A text file: UTF-8, or what its byte order mark says, or UTF-16 where every other byte is 0. Bytes that are no UTF-8
    come as lone surrogates."""
    data = read_bytes(path)
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    if _MARKS.get(mark) == "utf-16":
        return data.decode("utf-16", "surrogatepass")
    head = data[:_EDGE]
    for kind, high in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if not mark and len(head) > 2 and high.count(0) > 0.9 * len(high) and len(data) % 2 == 0:
            return data.decode(kind, "surrogatepass")
    return data[len(mark) :].decode("utf-8", "surrogateescape")


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError where it cannot be read or parsed."""
    data = read_bytes(path)
    try:
        return json.loads(data)
    except ValueError as error:  # also invalid UTF-8
        raise DataError(
            f"{printable(path.name)} is not valid JSON ({error}); expected a complete annotation file."
        ) from error


def head_of(path: Path, size: int = 200) -> bytes:
    """The first bytes of a file; none where it cannot be read (reading it says why)."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def lfs_pointer(data: bytes) -> str:
    """The end of a sentence about a Git LFS pointer, empty for anything else."""
    if not data.startswith(_LFS):
        return ""
    size = re.search(rb"^size (\d+)", data, re.MULTILINE)
    big = f" to a file of {int(size.group(1)) / 1e6:,.1f} MB" if size else ""
    return (
        f"is a Git LFS pointer{big}, not the file itself; run `git lfs pull` in its repository, or download it again."
    )


def identifier(value: object) -> str:
    """An id as tables join by it: 7, 7.0, "7", " 7 " and "000000000007" are one; empty for none."""
    if isinstance(value, float):
        if value != value:
            return ""
        value = int(value) if value.is_integer() else value
    text = "" if value is None else printable(value).strip()
    if re.fullmatch(r"[+-]?\d+(\.0*)?", text, re.ASCII):
        return str(int(text.partition(".")[0] or "0"))
    return text


def clean_text(value: object, defects: Defects | None = None, where: object = "") -> str:
    """A caption as one may embed it: stripped, valid Unicode, without control characters (counted in `defects`). Empty
    for what is none: None, NaN, other types, marks without any visible character, and the word "nan", which is how a
    missing caption leaves a pandas table."""
    if not isinstance(value, str):
        return ""
    text = value
    if not text.isascii():  # JSON can carry half of a surrogate pair, on which tokenizers fail
        text = text.encode("utf-8", "replace").decode("utf-8")
    if _CONTROL.search(text):
        text = _CONTROL.sub(" ", text)
        if defects is not None and text.strip():
            defects.add("caption with control characters (replaced by spaces)", where)
    text = text.strip()
    if not text.isascii() and all(unicodedata.category(character)[0] in "CZ" for character in text):
        return ""
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
