"""Memory before and while a model is loaded: what its weights will take, what is free, how far loading is."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import BackboneError

if TYPE_CHECKING:
    from analysis.live.slot import ModelRequest


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that the weights will take, and bytes free where they go; None where nobody can tell, with the reason."""

    needed: int | None
    free: int | None
    device: str
    reason: str = ""

    @property
    def sentence(self) -> str:
        if self.needed is None:
            return self.reason
        text = f"The weights take about {_size(self.needed)}"
        return text + (f"; {_size(self.free)} are free on {self.device}." if self.free is not None else ".")


class LoadProgress:
    """How far loading is: seconds, and the share of the weights that memory has grown by, where both are known."""

    def __init__(self, request: ModelRequest) -> None:
        self._name = request.short_name
        self._start = time.perf_counter()
        self._before = resident_memory()
        try:
            self._needed = memory_need(request).needed
        except BackboneError:
            self._needed = None  # loading says what is wrong

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def sentence(self) -> str:
        text = f"Loading {self._name} ... {self.seconds:.0f} s"
        now = resident_memory()
        if not self._needed or now is None or self._before is None:
            return text
        share = min(max(now - self._before, 0) / self._needed, 0.99)  # the system counts files that are read, too
        return f"{text}, about {100 * share:.0f} % of {_size(self._needed)} in memory"


def memory_need(request: ModelRequest) -> MemoryNeed:
    """What loading a request will take, without loading it. Raises BackboneError for an unknown name or dtype."""
    from analysis.models.backbones import estimate_memory
    from analysis.models.specs import find_spec

    find_spec(request.name)
    dtype = request.dtype or ("float32" if request.device in ("auto", "cpu") else None)
    try:
        needed: int | None = estimate_memory(request.name, dtype, weights=request.weights)
        reason = ""
    except BackboneError as error:
        needed, reason = None, str(error)
    where = "the CPU" if request.device in ("auto", "cpu") else request.device
    free = free_main_memory() if request.device in ("auto", "cpu") else free_device_memory(request.device)
    return MemoryNeed(needed, free, where, reason)


def free_main_memory() -> int | None:
    """Bytes of main memory that can be allocated, where the system says so (Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def resident_memory() -> int | None:
    """Bytes of main memory that this process uses, where the system says so (Linux)."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


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


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
