"""Keeps imported libraries out of the garbage collector's way."""

from __future__ import annotations

import gc
import sys
import time

PERIOD = 300.0  # seconds after which what was set aside is looked through once more
_modules = 0
_looked = 0.0


def set_aside() -> None:
    """Set aside everything that is alive now, where modules were imported since the last time or a while has passed.

    Streamlit collects garbage after every run of a page, and nothing reaches the browser meanwhile: with pandas and
    Plotly that walks 120,000 objects, with torch and transformers 400,000, which takes longer than the page itself.
    Nearly all of them are functions and classes that live as long as the server.
    """
    global _modules, _looked
    now = time.monotonic()
    if len(sys.modules) <= _modules and now - _looked < PERIOD:  # gc.get_freeze_count() would walk all that is frozen
        return
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    _modules, _looked = len(sys.modules), now
