"""What every page needs is imported while nobody waits: between the start of the server and its first visitor."""

from __future__ import annotations

import threading
from importlib import import_module

# Pandas, SciPy, Plotly, SQLAlchemy and what of ours stands on them.
NEEDED = (
    "pages.components.overview.behind", "pages.components.shared.downloads", "analysis.retrieval.interventions",
    "analysis.figures.recall",
)  # fmt: skip
_importing: threading.Thread | None = None


def begin() -> None:
    """Start importing, a second and a half of work, beside the server that is starting."""
    global _importing
    _importing = threading.Thread(target=_import, daemon=True, name="imports")
    _importing.start()


def ready() -> None:
    """Wait until all is there: two threads that import the same library at once get in each other's way."""
    if _importing is not None:
        _importing.join()


def _import() -> None:
    for name in NEEDED:
        import_module(name)
