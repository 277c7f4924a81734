"""Keeps what lives long out of the garbage collector's way."""

from __future__ import annotations

import gc
import sys
import threading
import time

SOON = 10.0  # seconds after which what was made since is set aside as well
# Seconds after which all that was set aside is looked through once more, as soon as nobody waits for a page.
PERIOD = 30.0
QUIET = 1.0  # seconds without a run that mean so
LATEST = 120.0  # seconds after which it is looked through also while people wait
_modules = 0
_added = _looked = _due = 0.0
_waiting: threading.Timer | None = None


def set_aside() -> None:
    """Set aside what is alive now, where modules were imported since the last time or a while has passed.

    Python looks for garbage from time to time, and nothing reaches a browser meanwhile: with pandas and Plotly that walks
    120,000 objects, with torch and transformers 400,000, which takes longer than the page itself. Nearly all of them are
    functions and classes that live as long as the server. What visitors leave behind, kept figures and tables, takes as
    long again after a minute, so it is set aside every few seconds; what of it became garbage later is found when all is
    looked through, once nobody has asked for a page for a second. Streamlit's own collection after every run is off
    (.streamlit/config.toml): between two of ours it walked the same objects again.
    """
    global _waiting, _due
    now = time.monotonic()  # how many objects are set aside is no cheap question: it counts them
    due = max(now + QUIET, _looked + PERIOD)
    if _waiting is not None and due != _due:
        _waiting.cancel()
        _waiting = None
    if now - _looked >= LATEST:
        look_through()
    elif _waiting is None:  # a timer is a thread: one for all runs until it is time
        _waiting, _due = threading.Timer(due - now, look_through), due
        _waiting.daemon = True
        _waiting.start()
    if len(sys.modules) > _modules or now - _added >= SOON:
        _freeze()


def look_through() -> None:
    """Free what was set aside and became garbage, and set the rest aside again."""
    global _looked
    gc.unfreeze()
    _freeze()
    _looked = _added


def _freeze() -> None:
    global _modules, _added
    gc.collect()
    gc.freeze()
    _modules, _added = len(sys.modules), time.monotonic()
