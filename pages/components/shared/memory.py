"""Keeps what lives long out of the garbage collector's way."""

from __future__ import annotations

import gc
import sys
import time

SOON = 10.0  # seconds after which what was made since is set aside as well
# Seconds after which all that was set aside is looked through once more. Not many: each page that runs while objects are set
# aside leaves an event loop among them, with three file descriptors, until then.
PERIOD = 30.0
_modules = 0
_added = _looked = 0.0


def set_aside() -> None:
    """Set aside what is alive now, where modules were imported since the last time or a while has passed.

    Streamlit collects garbage after every run of a page, and nothing reaches the browser meanwhile: with pandas and
    Plotly that walks 120,000 objects, with torch and transformers 400,000, which takes longer than the page itself.
    Nearly all of them are functions and classes that live as long as the server. What visitors leave behind, kept figures
    and tables, takes as long again after a minute, so it is set aside every few seconds; what of it became garbage later is
    found when all is looked through.
    """
    global _modules, _added, _looked
    now = time.monotonic()  # how many objects are set aside is no cheap question: it counts them
    if now - _looked >= PERIOD:
        gc.unfreeze()
        _looked = now
    elif len(sys.modules) <= _modules and now - _added < SOON:
        return
    gc.collect()
    gc.freeze()
    _modules, _added = len(sys.modules), now


def take_back() -> None:
    """Everything is looked through again: something large that was set aside with the libraries is to be freed."""
    global _added
    _added = 0.0
    gc.unfreeze()
