"""Memory before and while a model is loaded: what its weights will take, what is free, how far loading is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from analysis.errors import BackboneError

if TYPE_CHECKING:
    from analysis.query.slot import ModelRequest


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that the weights will take, and bytes free where they go; None where nobody can tell, with the reason.

    asks_hub: loading asks the hub first, for all of the weights or only whether they are the newest.
    """

    needed: int | None
    free: int | None
    device: str
    reason: str = ""
    asks_hub: bool = False

    @property
    def sentence(self) -> str:
        if self.needed is None:
            return self.reason
        text = f"The weights take about {_size(self.needed)}"
        text += f"; {_size(self.free)} are free on {self.device}." if self.free is not None else "."
        return f"{text} What is not here comes from the hub first." if self.asks_hub else text


class LoadProgress:
    """How far loading is: first the bytes of a download, then the share of the weights that memory has grown by; where
    neither is known, seconds."""

    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        self._start = time.perf_counter()
        self._arrived: tuple[int, int] | None = None  # bytes that are here, in all
        self._first: tuple[float, int] = (self._start, 0)  # when the first bytes came, and how many were here then
        self._measure()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def downloaded(self, done: int, total: int) -> None:
        """Told by the loader as bytes arrive, from any thread."""
        if self._arrived is None:
            self._first = (time.perf_counter(), done)
        if done >= total:
            self._measure()  # now that the weights are here, how much they are is known; memory grows from now on
            self._arrived = None
        else:
            self._arrived = (done, total)

    def sentence(self) -> str:
        arrived = self._arrived
        if arrived is not None:
            return f"Downloading {self._request.short_name} ... {_of(*arrived)}{self._pace(*arrived)}"
        text = f"Loading {self._request.short_name} ... {self.seconds:.0f} s"
        now = resident_memory()
        if not self._needed or now is None or self._before is None:
            return text
        share = min(max(now - self._before, 0) / self._needed, 0.99)  # the system counts files that are read, too
        return f"{text}, about {100 * share:.0f} % of {_size(self._needed)} in memory"

    def _measure(self) -> None:
        self._before = resident_memory()
        try:
            self._needed = memory_need(self._request).needed
        except BackboneError:
            self._needed = None  # loading says what is wrong

    def _pace(self, done: int, total: int) -> str:
        """Speed and time left, once there is something to divide."""
        since, before = self._first
        passed = time.perf_counter() - since
        if done <= before or passed < 1:
            return ""
        rate = (done - before) / passed
        left = (total - done) / rate
        return f", {_size(rate)}/s, {f'{left:.0f} s' if left < 100 else f'{left / 60:.0f} min'} left"


def memory_need(request: ModelRequest) -> MemoryNeed:
    """What loading a request will take, from what lies on this machine alone: nobody is asked. Raises BackboneError for an
    unknown name or dtype."""
    from analysis.models.backbones import estimate_memory
    from analysis.models.hub import loads_offline
    from analysis.models.specs import find_spec

    spec = find_spec(request.name)
    dtype = request.dtype or ("float32" if request.device in ("auto", "cpu") else None)
    revision = request.revision or spec.revision
    here = request.weights is not None or spec.is_folder or loads_offline(spec.hub_id, revision)
    reason = ""
    try:
        needed: int | None = estimate_memory(request.name, dtype, weights=request.weights, revision=revision)
    except BackboneError as error:
        needed, reason = None, str(error)
    where = "the CPU" if request.device in ("auto", "cpu") else request.device
    free = free_main_memory() if request.device in ("auto", "cpu") else free_device_memory(request.device)
    return MemoryNeed(needed, free, where, reason, not here)


def free_main_memory() -> int | None:
    """Bytes of main memory that can be allocated."""
    return int(psutil.virtual_memory().available)


def resident_memory() -> int | None:
    """Bytes of main memory that this process uses."""
    return int(psutil.Process().memory_info().rss)


def free_device_memory(device: str) -> int | None:
    """Bytes free on an accelerator; BackboneError when it does not exist. Imports torch."""
    from analysis.models.devices import choose_device, free_memory

    return free_memory(choose_device(device))


def device_memory(device: str) -> tuple[int, int] | None:
    """(used, total) bytes of a CUDA device, None for any other device."""
    if not device.startswith("cuda"):
        return None
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return total - free, total


def _of(done: int, total: int) -> str:
    return f"{_size(done)} of {_size(total)} ({100 * done // max(total, 1)} %)"


def _size(n_bytes: float) -> str:
    unit, scale = next((u, x) for u, x in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if n_bytes >= x or u == "kB")
    return f"{n_bytes / scale:.{int(n_bytes < 10 * scale or unit == 'GB')}f} {unit}"
