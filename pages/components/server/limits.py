"""How often visitors may write: labels and findings a minute, of one session and of all of them."""

from __future__ import annotations

import threading
import time
from collections import deque

import streamlit as st

from analysis.errors import StoreError
from pages.components.server import people

OF_SESSION, OF_ALL = 30, 300  # entries a minute
_PERIOD = 60.0
_lock = threading.Lock()
_all: deque[float] = deque()


def writing() -> None:
    """Count one entry. StoreError above the rate, with how long to wait; NotAllowed for who may only look."""
    people.check("write")
    mine: deque[float] = st.session_state.setdefault("_written", deque())
    now = time.monotonic()
    with _lock:
        for times, most in ((mine, OF_SESSION), (_all, OF_ALL)):
            while times and now - times[0] > _PERIOD:
                times.popleft()
            if len(times) >= most:
                wait = _PERIOD - (now - times[0])
                raise StoreError(f"More than {most} entries were made in a minute; try again in {wait:.0f} s.")
        mine.append(now)
        _all.append(now)
