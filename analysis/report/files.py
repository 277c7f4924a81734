"""Files that exist whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from analysis.report.slides import ReportError


def write_whole(path: Path, data: bytes) -> None:
    """ReportError where the place cannot be written or has no room; what was there before stays then."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise ReportError(
            f"{path} could not be written ({error.strerror or error}); choose a writable place with room."
        ) from error
