"""Pictures of live queries, kept for some days under the hash of their content: a link, the way back and a command show the
same query. Small, few, and really deleted; $RETRIEVALLENS_UPLOADS says for how many days, 0 keeps none.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import tempfile
import time
from pathlib import Path

from analysis.errors import DataError

VARIABLE = "RETRIEVALLENS_UPLOADS"
DAYS = 7.0
SIDE = 1024  # pixels of the longer side
FILE_BYTES = 4_000_000
TOTAL_BYTES = 200_000_000  # of all pictures; the oldest make room
_ID = re.compile(r"[0-9a-f]{32}")


def days() -> float:
    """For how long pictures are kept; 0 for not at all. DataError for a setting that is no number."""
    text = os.environ.get(VARIABLE, "").strip() or str(DAYS)
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 365:
        raise DataError(f"{VARIABLE} is {text[:40]!r}; expected a number of days from 0 (keep none) to 365.")
    return found


def identity(png: bytes) -> str:
    """How links name a picture: by the hash of what it shows, which nobody can guess."""
    return hashlib.sha256(png).hexdigest()[:32]


def reduced(png: bytes) -> bytes:
    """The same picture as it may be kept: at most SIDE pixels and FILE_BYTES; unchanged where it is that small already."""
    from PIL import Image

    for side in (SIDE, 768, 512, 256):
        opened = Image.open(io.BytesIO(png))
        if max(opened.size) > side:
            picture = opened.convert("RGB")
            scale = side / max(picture.size)
            size = tuple(
                max(1, math.ceil(length * scale)) for length in picture.size
            )  # rounded down, a band gets narrower
            picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            png = buffer.getvalue()
        if len(png) <= FILE_BYTES:
            break
    return png


def keep(folder: Path, png: bytes) -> str:
    """Keep a reduced picture and give its identity; one that is kept already stays from now on for the whole time."""
    name = identity(png)
    target = place(folder, name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")  # readable by the server's user alone
    with os.fdopen(handle, "wb") as file:
        file.write(png)
    os.replace(temporary, target)
    sweep(folder)
    return name


def load(folder: Path, name: str) -> bytes | None:
    """The picture; None for one that is not, or no longer, kept here, and for what is no identity."""
    if not _ID.fullmatch(name) or not days():
        return None
    file = place(folder, name)
    try:
        if file.stat().st_mtime <= _oldest():
            file.unlink(missing_ok=True)
            return None
        png = file.read_bytes()
    except OSError:
        return None
    return png if identity(png) == name else None


def is_kept(folder: Path, name: str) -> bool:
    """Whether somebody who has the link sees this picture."""
    return bool(_ID.fullmatch(name)) and days() > 0 and place(folder, name).is_file()


def place(folder: Path, name: str) -> Path:
    """The file of a picture, for commands."""
    if not _ID.fullmatch(name):
        raise DataError(f"{name[:40]!r} names no kept picture; expected 32 characters 0-9, a-f.")
    return folder / f"{name}.png"


def _oldest() -> float:
    """When a picture that is still kept was given, at the earliest."""
    return time.time() - 86_400 * days()


def sweep(folder: Path) -> int:
    """Delete what is older than its time, and the oldest beyond TOTAL_BYTES; how many pictures that were."""
    oldest, gone, held = _oldest(), 0, 0
    found = []
    for path in folder.glob("*.p*"):  # pictures, and what an interrupted write left
        try:
            found.append((path.stat().st_mtime, path.stat().st_size, path))
        except FileNotFoundError:  # another visitor's sweep was faster
            continue
    for age, size, path in sorted(found, reverse=True):
        held += size
        if age <= oldest or held > TOTAL_BYTES:
            path.unlink(missing_ok=True)
            gone += 1
    return gone
