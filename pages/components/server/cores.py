"""The cores are shared among visitors: whoever computes alone has them all."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import LibController, ThreadpoolController

_lock = threading.Lock()
_running = 0


@contextmanager
def shared() -> Iterator[None]:
    """One run of a page. While others run, each matrix product takes one core: a library that wants all of them waits for
    its threads by spinning, and twenty visitors spent a third of the machine on that."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(more: int) -> None:
    global _running
    with _lock:
        before, _running = _running > 1, _running + more
        if (_running > 1) != before:
            for library, all_cores in _libraries(len(sys.modules)):
                library.set_num_threads(1 if _running > 1 else all_cores)


@lru_cache(maxsize=1)
def _libraries(modules: int) -> tuple[tuple[LibController, int], ...]:
    """Matrix libraries in this process with the threads that each takes by itself. modules: how many are imported; a new
    one may bring another library, and those known keep what they were found with."""
    for library in ThreadpoolController().lib_controllers:
        if library.user_api == "blas":
            _own.setdefault(str(library.filepath), (library, int(library.num_threads or 1)))
    return tuple(_own.values())


_own: dict[str, tuple[LibController, int]] = {}
