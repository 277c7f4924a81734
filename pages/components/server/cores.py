"""The machine is shared among visitors: whoever computes alone has it all, many take turns."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import LibController, ThreadpoolController

TURN = 1.0  # seconds for which a run has the interpreter to itself; one that takes longer goes on beside the next
_turns = threading.Condition()
_waiting: deque[object] = deque()
_running: dict[object, float] = {}  # run -> when it began


@contextmanager
def shared() -> Iterator[None]:
    """One run of a page, in the order of their coming. Python computes one at a time anyway: twenty runs at once hand the
    interpreter to each other thousands of times a second and all end late; one after the other, 20 visitors had half as many
    answers more, and nobody waits longer than a turn for a slow run before his.

    While others run, each matrix product takes one core: their threads would get in each other's way.
    """
    run = object()
    _enter(run)
    try:
        yield
    finally:
        _leave(run)


def _enter(run: object) -> None:
    with _turns:
        _waiting.append(run)
        while (wait := _seconds_left()) > 0 or _waiting[0] is not run:
            _turns.wait(wait if wait > 0 else None)
        _waiting.popleft()
        _running[run] = time.monotonic()
        _share_out()
        _turns.notify_all()


def _leave(run: object) -> None:
    with _turns:
        del _running[run]
        _share_out()
        _turns.notify_all()


def _seconds_left() -> float:
    """Of the turn of whoever began last; 0 or less where another run may begin."""
    return TURN + max(_running.values()) - time.monotonic() if _running else 0.0


def _share_out() -> None:
    for library, all_cores in _libraries(len(sys.modules)):
        threads = 1 if len(_running) > 1 else all_cores
        if library.num_threads != threads:
            library.set_num_threads(threads)


@lru_cache(maxsize=1)
def _libraries(modules: int) -> tuple[tuple[LibController, int], ...]:
    """Matrix libraries in this process with the threads that each takes by itself. modules: how many are imported; a new
    one may bring another library, and those known keep what they were found with."""
    for library in ThreadpoolController().lib_controllers:
        if library.user_api == "blas":
            _own.setdefault(str(library.filepath), (library, int(library.num_threads or 1)))
    return tuple(_own.values())


_own: dict[str, tuple[LibController, int]] = {}
