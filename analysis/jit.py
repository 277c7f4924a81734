"""Compiling and running numba kernels. Imports numba: import this module inside functions, never at module level.

A kernel works on the rows [lo, hi) of its arrays, releases the GIL and is spread over a small thread pool here. That
compiles in a fraction of the time of numba's own parallel loops, and two pages may call the same kernel at once, which
aborts the process under numba's portable threading layer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for nogil use; sums may be reordered (vectorised), NaN and infinity keep their meaning."""
    flags = {"reassoc", "contract", "nsz", "arcp"}
    try:
        return numba.njit(function, nogil=True, fastmath=flags, cache=True)
    except RuntimeError:  # neither the package folder nor the home folder is writable: compile once per process
        return numba.njit(function, nogil=True, fastmath=flags)


def over_rows(function: Callable[..., Any], n: int, *arguments: Any, grain: int = 128) -> list[Any]:
    """Call function(lo, hi, *arguments) for consecutive ranges of at most `grain` rows; results in order of the rows.

    The ranges do not depend on the number of threads, so sums over the results do not either. NUMBA_NUM_THREADS sets
    that number (default: the cores this process may use).
    """
    ranges = [(lo, min(lo + grain, n)) for lo in range(0, n, grain)]
    if len(ranges) < 2 or thread_count() == 1:
        return [function(lo, hi, *arguments) for lo, hi in ranges]
    return list(_pool().map(lambda span: function(span[0], span[1], *arguments), ranges))


def thread_count() -> int:
    return numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="kernel")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child inherits the pool object but none of its threads
