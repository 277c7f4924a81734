"""The one model that a server keeps in memory, shared by all visitors: loaded on request, exchanged under a lock, freed
when asked. A visitor who comes while it is busy waits and is told why."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import BackboneError

if TYPE_CHECKING:
    from analysis.models.backbones import Backbone

PATIENCE = 120.0  # seconds a visitor waits for another one's load or forward pass
_TICK = 0.2  # seconds between two looks at the lock, and between two messages


@dataclass(frozen=True)
class ModelRequest:
    """Which backbone and how it is run. Equal requests share one loaded model."""

    name: str  # key of BACKBONES, hub id or local folder
    device: str = "auto"
    dtype: str | None = None  # None: float32 on a CPU, the backbone's own elsewhere
    tap: str | None = None
    revision: str | None = None
    fusion: str | None = None
    dummy_image: str = "exclude"
    weights: str | None = None  # the folder of a known backbone's weights; None: from the hub


@dataclass(frozen=True)
class LoadedModel:
    """What is in memory now."""

    request: ModelRequest
    label: str
    device: str
    dtype: str
    revision: str
    seconds: float  # that loading took


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


class ModelSlot:
    """Holds at most one loaded backbone. Thread-safe; make one for the whole process."""

    def __init__(self, load: Callable[[ModelRequest], Backbone] | None = None) -> None:
        self._load = load or load_request
        self._lock = threading.Lock()  # held while a model is loaded, used or freed
        self._backbone: Backbone | None = None
        self._loaded: LoadedModel | None = None
        self._doing = ""  # what the holder of the lock does, for those who wait

    @property
    def loaded(self) -> LoadedModel | None:
        """The model in memory; another visitor may exchange it at any time."""
        return self._loaded

    @contextmanager
    def use(
        self,
        request: ModelRequest,
        *,
        patience: float = PATIENCE,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> Iterator[Backbone]:
        """The requested model for one piece of work, loaded first unless it is there; what was loaded before is freed.

        Nobody else loads or computes meanwhile. tell(sentence) is called while waiting and before loading. Raises
        BackboneError when the model stays busy for `patience` seconds and for everything that can go wrong in loading;
        the slot is then empty, and the next request starts afresh.
        """
        self._acquire(f"computing with {_name(request)}", patience, tell)
        try:
            if self._loaded is None or self._loaded.request != request or self._backbone is None:
                self._doing = f"loading {_name(request)}"
                tell(f"Loading {_name(request)} ...")
                self._free()
                self._fill(request)
                self._doing = f"computing with {_name(request)}"
            assert self._backbone is not None
            yield self._backbone
        finally:
            self._release()

    def unload(self, *, patience: float = PATIENCE) -> bool:
        """Free the model's memory; False when there was none. Waits for work in progress."""
        self._acquire("unloading", patience, lambda sentence: None)
        try:
            had = self._backbone is not None
            self._free()
            return had
        finally:
            self._release()

    def _fill(self, request: ModelRequest) -> None:
        start = time.perf_counter()
        backbone = self._load(request)
        seconds = time.perf_counter() - start
        self._backbone = backbone
        self._loaded = LoadedModel(
            request, backbone.spec.label, backbone.device, backbone.dtype, backbone.revision, seconds
        )

    def _free(self) -> None:
        backbone, self._backbone, self._loaded = self._backbone, None, None
        if backbone is not None:
            gc.unfreeze()  # the app sets objects aside; those of a model that refer to each other must be found again
            backbone.unload()

    def _acquire(self, doing: str, patience: float, tell: Callable[[str], None]) -> None:
        start = time.monotonic()
        while not self._lock.acquire(timeout=_TICK):
            waited = time.monotonic() - start
            if waited > patience:
                raise BackboneError(
                    f"The model is busy ({self._doing or 'working'}) for another visitor since {waited:.0f} s; "
                    "try again in a moment."
                )
            tell(f"Another visitor is {self._doing or 'using the model'}; yours is next ({waited:.0f} s).")
        self._doing = doing

    def _release(self) -> None:
        self._doing = ""
        self._lock.release()


def load_request(request: ModelRequest) -> Backbone:
    """`load_backbone` with the fields of a request."""
    from analysis.models.backbones import load_backbone

    return load_backbone(
        request.name, device=request.device, dtype=request.dtype, tap=request.tap, revision=request.revision,
        fusion=request.fusion, dummy_image=request.dummy_image, weights=request.weights,
    )  # fmt: skip


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


def _name(request: ModelRequest) -> str:
    return Path(request.name).name if Path(request.name).is_absolute() else request.name


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
